"""Enclose cells by boxes that lie far apart, for work on few cells of a large image."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffusion_ops.blocks.block import Bools
from diffusion_ops.blocks.window import Region, Window, window_of

LEAST_GAP = 32
"""Cells between boxes: what nearer ones would save, the calls for each of them would cost."""

MOST_CELLS = 1 << 23
"""Cells of a coarse grid in all boxes that can be joined: each takes some 300 bytes meanwhile."""

Boxes = NDArray[np.int64]
"""Boxes of shape (boxes, 2 axes): where each begins along every axis, then where it ends."""


def windows_apart(cells: Bools, margin: tuple[int, ...]) -> list[Window]:
    """Return windows that write boxes with all cells and read a margin around each, where no other cells are."""
    boxes = boxes_apart(cells, max(margin))
    return [window_of(box, cells.shape, margin) for box in boxes]


def boxes_apart(cells: Bools, gap: int) -> list[Region]:
    """Return the smallest boxes that hold all cells and have more than `gap` cells between them, `LEAST_GAP` at least.

    They lie in boxes of a coarse grid, which join until no two touch, also at corners: a gap is as wide as its cells.
    """
    side = grid_side(gap)
    return [region_of(box) for box in join_boxes(smallest_boxes(cells, side), side)]


def grid_side(gap: int) -> int:
    """Return the side of the coarse grid's cells that lie between boxes with a gap."""
    return max(gap + 1, LEAST_GAP)


def region_of(box: NDArray[np.int64]) -> Region:
    """Return a box as slices."""
    starts, stops = box.reshape(2, -1).tolist()
    return tuple([slice(start, stop) for start, stop in zip(starts, stops, strict=True)])


def smallest_boxes(cells: Bools, side: int, origin: tuple[int, ...] | None = None) -> Boxes:
    """Return the smallest box of the cells in each cell of the coarse grid, where there are any, in row-major order.

    Parameters
    ----------
    cells : bool ndarray
        The whole image, or a part of it.
    side : int
    origin : tuple of int, optional
        Index in the image of the first of them, which the boxes count from.
    """
    origin = origin or (0,) * cells.ndim
    before = [first % side for first in origin]
    cells = np.pad(cells, [(b, -(b + n) % side) for b, n in zip(before, cells.shape, strict=True)])
    occupied = np.nonzero(_coarse(cells, side, range(cells.ndim)))
    starts, stops = [], []
    for axis, first in enumerate(origin):
        # Along the axis, all cells beside each other count as one.
        rows = _coarse(cells, side, [a for a in range(cells.ndim) if a != axis])
        rows = np.moveaxis(rows, axis, -1)
        rows = rows.reshape(*rows.shape[:-1], -1, side)
        others = [o for a, o in enumerate(occupied) if a != axis]
        lines, corner = rows[(*others, occupied[axis])], occupied[axis] * side + first - before[axis]
        starts.append(corner + lines.argmax(axis=1))
        stops.append(corner + side - lines[:, ::-1].argmax(axis=1))
    return np.stack([*starts, *stops], axis=1).astype(np.int64)


def join_boxes(boxes: Boxes, side: int, most: float = math.inf) -> Boxes:
    """Return the smallest boxes that hold all boxes and do not touch on the coarse grid, not even at corners.

    There is one way only to join as few as possible, so the order of the boxes does not matter.

    Parameters
    ----------
    boxes : ndarray of shape (boxes, 2 axes)
    side : int
    most : float, optional
        Cells of a box from which on none is joined any more, so that boxes may touch where there is a larger one.

    Raises
    ------
    ValueError
        Where they hold more than `MOST_CELLS` of the coarse grid.
    """
    ndim = boxes.shape[1] // 2
    while len(boxes):
        piece = _pieces(boxes[:, :ndim] // side, -(-boxes[:, ndim:] // side))
        joined = np.empty((int(piece.max()) + 1, 2 * ndim), np.int64)
        order = np.argsort(piece, kind="stable")
        firsts = np.searchsorted(piece[order], np.arange(len(joined)))
        joined[:, :ndim] = np.minimum.reduceat(boxes[order, :ndim], firsts)
        joined[:, ndim:] = np.maximum.reduceat(boxes[order, ndim:], firsts)
        settled, boxes = len(joined) == len(boxes), joined
        if settled or sizes_of(boxes).max() > most:
            break
    return boxes[np.lexsort(boxes.T[::-1])]


def sizes_of(boxes: Boxes) -> NDArray[np.int64]:
    """Return the numbers of cells of boxes."""
    starts, stops = np.split(boxes, 2, axis=1)
    sizes: NDArray[np.int64] = np.prod(stops - starts, axis=1)
    return sizes


def _coarse(cells: Bools, side: int, axes: list[int] | range) -> Bools:
    """Return which boxes of a grid hold cells; along other axes they are one cell thick."""
    for axis in axes:
        # Not `reduceat`, which takes 20 times as long.
        rows = np.moveaxis(cells, axis, 0)
        cells = np.stack([rows[i : i + side].any(axis=0) for i in range(0, len(rows), side)], axis=axis)
    return cells


def _pieces(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the piece that each box of whole cells belongs to: pieces touch no other one."""
    sides = stops - starts
    counts = np.prod(sides, axis=1)
    total = int(counts.sum())
    if total > MOST_CELLS:
        raise ValueError(
            f"What is unknown spreads over {total:,} squares of a coarse grid, or cubes. Allowed: {MOST_CELLS:,}."
        )
    # All cells of all boxes, one after another, each as a number; one more along each axis parts the rows.
    owner, left = np.repeat(np.arange(len(counts)), counts), np.arange(total)
    left -= np.repeat(np.cumsum(counts) - counts, counts)
    keys, steps = np.zeros(total, np.int64), []
    step, lowest = 1, starts.min(axis=0)
    for axis in reversed(range(starts.shape[1])):
        left, along = np.divmod(left, sides[owner, axis])
        keys += step * (along + (starts[owner, axis] - lowest[axis]))
        steps.append(step)
        step *= int(stops[:, axis].max() - lowest[axis]) + 1
    keys, cell = np.unique(keys, return_inverse=True)
    pairs = [np.stack([cell, cell])]
    for offset in itertools.product((-1, 0, 1), repeat=len(steps)):
        further = sum(o * s for o, s in zip(offset, steps, strict=True))
        if further > 0:
            _, one, other = np.intersect1d(keys, keys - further, assume_unique=True, return_indices=True)
            pairs.append(np.stack([one, other]))
    ends = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), (len(keys), len(keys)))
    _, label = connected_components(graph, directed=False)
    first = np.cumsum(counts) - counts
    numbers: NDArray[np.int64] = label[cell[first]].astype(np.int64)
    return numbers
