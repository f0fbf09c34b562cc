"""Join neighbouring cells of equal value to components, in one pass and with one look back at every cell."""

from __future__ import annotations

import numpy as np

from diffusion_ops.kernels.lanes import INLINED, kernel, njit


@njit(**INLINED)
def _root(first, i):  # type: ignore[no-untyped-def]
    """Return the first cell that a cell is joined with, and halve the way to it."""
    while first[i] != i:
        first[i] = first[first[i]]
        i = first[i]
    return i


@kernel
def join_cells(values, offsets, joined, first):  # type: ignore[no-untyped-def]
    """Put the flat index of the first cell of its component into every cell, -1 where the value is 0 or NaN.

    Of two components that touch, the later first cell points to the earlier one (union by index), so that a cell never
    points behind itself, and a second pass in order finds every first cell in one step.

    Parameters
    ----------
    values : float ndarray of shape (nz, ny, nx)
    offsets : int64 ndarray of shape (n, 3)
        Neighbours that come before a cell.
    joined : int64 ndarray of shape (n,)
        Bit k is set where neighbour k has been joined with this one, if their values are equal.
    first : int32 or int64 ndarray, flat
    """
    nz, ny, nx = values.shape
    every = (1 << len(offsets)) - 1
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                i, value = (z * ny + y) * nx + x, values[z, y, x]
                if value == 0 or value != value:
                    first[i] = -1
                    continue
                here, left = i, every
                first[i] = i
                for k in range(len(offsets)):
                    if not left >> k & 1:
                        continue
                    a, b, c = z + offsets[k, 0], y + offsets[k, 1], x + offsets[k, 2]
                    if a < 0 or not 0 <= b < ny or not 0 <= c < nx or values[a, b, c] != value:
                        continue
                    left &= ~joined[k]
                    there = _root(first, (a * ny + b) * nx + c)
                    first[max(here, there)] = min(here, there)
                    here = min(here, there)
                    if left == 0:
                        break
    for i in range(np.int64(len(first))):
        if first[i] >= 0:
            first[i] = first[first[i]]
