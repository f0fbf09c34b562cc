"""Carry out a plan: hand out tiles, remember them, go on after a kill, report, verify.

Decides nothing that the plan has decided.
"""
