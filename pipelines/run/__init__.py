"""Carry out a plan: submit tiles, check what was done before, publish, report, verify.

Changes nothing that the plan has decided.
"""
