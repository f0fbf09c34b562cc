"""Compiled fronts: travel times and labels, cell by cell in about the order of their times."""
