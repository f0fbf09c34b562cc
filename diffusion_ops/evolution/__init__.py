"""Decide how far an operator goes and carry a block there: arguments, schedules, adaptive steps.

Knows what an operator says of itself; never which one it is.
"""
