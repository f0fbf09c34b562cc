"""Enclose cells by boxes that lie far apart, for work on few cells of a large image."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from diffusion_ops.blocks.block import Bools
from diffusion_ops.blocks.window import Region

LEAST_GAP = 32
"""Cells between boxes: what nearer ones would save, the calls for each of them would cost."""


def boxes_apart(cells: Bools, gap: int) -> list[Region]:
    """Return the smallest boxes that hold all cells and have more than `gap` cells between them, `LEAST_GAP` at least.

    They lie in boxes of a coarse grid, which join until no two touch, also at corners: a gap is as wide as its cells.
    """
    side = max(gap + 1, LEAST_GAP)
    coarse, around = _coarse(cells, side), np.ones((3,) * cells.ndim)
    while True:
        pieces, _ = ndimage.label(coarse, around)
        boxes = ndimage.find_objects(pieces)
        if all(coarse[box].all() for box in boxes):
            break
        for box in boxes:
            coarse[box] = True
    return [_shrunk(cells, tuple([slice(s.start * side, s.stop * side) for s in box])) for box in boxes]


def _coarse(cells: Bools, side: int) -> Bools:
    """Return which boxes of a grid hold cells."""
    for axis, n in enumerate(cells.shape):
        # Not `reduceat`, which takes 20 times as long.
        rows = np.moveaxis(cells, axis, 0)
        cells = np.stack([rows[i : i + side].any(axis=0) for i in range(0, n, side)], axis=axis)
    return cells


def _shrunk(cells: Bools, box: Region) -> Region:
    """Return the smallest box that holds the cells of a box."""
    ends = []
    for axis, side in enumerate(box):
        others = tuple(a for a in range(cells.ndim) if a != axis)
        (some,) = np.nonzero(cells[box].any(axis=others))
        ends.append(slice(side.start + int(some[0]), side.start + int(some[-1]) + 1))
    return tuple(ends)
