"""Rows of scratch, set and copied cell by cell.

A slice assignment compiles the error message for arrays of different shapes too, which takes two seconds of every
process that compiles one.
"""

from __future__ import annotations

from diffusion_ops.kernels.lanes import copied


@copied
def set_row(row, value):  # type: ignore[no-untyped-def]
    """Let all cells of a row be a value."""
    for j in range(row.shape[0]):
        row[j] = value


@copied
def copy_row(row, source):  # type: ignore[no-untyped-def]
    """Let the cells of a row be those of another."""
    for j in range(row.shape[0]):
        row[j] = source[j]


@copied
def narrow_row(row, source):  # type: ignore[no-untyped-def]
    """Let a row of yes and no stay true only where another is."""
    for j in range(row.shape[0]):
        row[j] &= source[j]
