"""Rows of scratch, set and copied cell by cell.

A slice assignment compiles the error message for arrays of different shapes too, which takes two seconds of every
process that compiles one.
"""

from __future__ import annotations

from diffusion_ops.kernels.lanes import inlined


@inlined
def set_row(row, n, value):  # type: ignore[no-untyped-def]
    """Let the first n cells of a row be a value."""
    for j in range(n):
        row[j] = value


@inlined
def copy_row(row, start, source, first, n):  # type: ignore[no-untyped-def]
    """Let n cells of a row from `start` on be those of `source` from `first` on."""
    for j in range(n):
        row[start + j] = source[first + j]


@inlined
def narrow_row(row, source, first, n):  # type: ignore[no-untyped-def]
    """Let the first n cells of a row of yes and no stay true only where those of `source` from `first` on are."""
    for j in range(n):
        row[j] &= source[first + j]
