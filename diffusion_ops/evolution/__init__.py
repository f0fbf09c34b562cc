"""Evolve a block under an operator: arguments, schedules, adaptive steps.

Knows the interface of operators; never a particular one.
"""
