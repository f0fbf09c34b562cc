"""Label the cells that a front has reached by the seed that each was reached from.

A cell has the label of its earliest neighbour, of several that are equally early the smallest. Times fall along that
way, so it ends at a seed, or at the halo: each cell follows it to the first cell that has its label already, and those
on the way get theirs coming back. Done with the front itself, where labels change with times that are not the last
ones, they took as long as the times again.
"""

from __future__ import annotations

import math

import numpy as np

from diffusion_ops.kernels.fronts.front import FIXED, LISTED
from diffusion_ops.kernels.lanes import INLINED, kernel, njit


@njit(**INLINED)
def _nearest(u, labels, flags, i, steps):  # type: ignore[no-untyped-def]
    """Return the label of a cell, and a neighbour that needs its own before: the cell itself where none does."""
    best = u.dtype.type(math.inf)
    for step in steps:
        best = min(best, u[i + step])
    label, before = np.iinfo(labels.dtype).max, i
    for step in steps:
        j = i + step
        if u[j] == best:
            if flags[j] < FIXED:
                before = j
            else:
                label = min(label, labels[j])
    return label, before


@kernel
def label_cells(u, labels, flags, way, steps):  # type: ignore[no-untyped-def]
    """Label all cells that are not fixed; 0 where no front has been.

    Parameters
    ----------
    u : float32 or float64 ndarray, flat
        Times of a front that has ended; see `front`.
    labels : int32 ndarray, flat
        Those of fixed cells are read.
    flags : uint8 ndarray, flat
        `LISTED` is used, and taken away again.
    way : int32 ndarray
        Room for the last cells of a way; where it is longer, it is followed again.
    steps : tuple of uint64
        Neighbours, modulo 2^64.
    """
    room = len(way)
    for start in range(len(u)):
        while flags[start] < FIXED:
            i, count, last = np.uint64(start), 0, 0
            while True:
                if u[i] < math.inf:
                    label, before = _nearest(u, labels, flags, i, steps)
                    if before != i:
                        way[last], i = i, before
                        last = last + 1 if last + 1 < room else 0
                        count = min(count + 1, room)
                        continue
                else:
                    label = 0
                labels[i] = label
                flags[i] |= LISTED
                if not count:
                    break
                last = last - 1 if last else room - 1
                count -= 1
                i = np.uint64(way[last])
    for k in range(len(flags)):
        flags[k] &= ~np.uint8(LISTED)
