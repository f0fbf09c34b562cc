"""Carry out a plan: submit tiles, keep the journal, resume after a kill, report, verify.

Changes nothing that the plan has decided.
"""
