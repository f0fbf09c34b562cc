"""Set up the coarser levels on a window: labels of the pixels, and the rows of the fourth level.

Two passes of matching make a level from the one above it. Every level matches within cells of its own, of 8, 16 and 32
pixels a side, so what a cell becomes depends on the pixels up to `SETUP_HALO` around it alone, whatever the tiles are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.kernels.multigrid.graph import coarsen, gather, grid_graph, row_sums
from diffusion_ops.kernels.multigrid.matching import CLOSED, match
from diffusion_ops.kernels.multigrid.packing import (
    BITS,
    SHIFTS,
    SIDES,
    cell_numbers,
    pack_rows,
    ranks_in_cells,
)
from diffusion_ops.steady.couplings import CELL, Couplings, Triple

SETUP_HALO = 128
"""Cells around a tile that its labels and rows depend on.

A diagonal needs the groups of the cells beside it: the rows need the sixth pass 32 cells around, that the fifth one
64, that the fourth one 80, that the third one 96, that the second one 104, that the first one 112, and that the
couplings 113.
"""

Graph = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]
"""Starts, ends, couplings and sigma of the rows."""


def quality_of(ndim: int) -> float:
    """Return the largest mu of a pair: twice the number of neighbours, which equal couplings have half of."""
    return 4.0 * ndim


def slots_of(shape: Triple) -> int:
    """Return how many nodes of the fourth level a cell may have: 3 of 32 pixels, 1 of 16 in volumes."""
    return CELL**3 // 16 if shape[0] > 1 else CELL**2 * 3 // 32


def room_of(shape: Triple) -> int:
    """Return how many numbers the rows of a cell take at most: 2 per pixel, 12 in three dimensions.

    In the plane the graph of V nodes has at most 3 V - 6 couplings, and a cell of 32 pixels 128 more to its neighbours.
    """
    return 12 * CELL**3 if shape[0] > 1 else 2 * CELL**2


def cell_grid(shape: Triple, side: int = CELL) -> Triple:
    """Return the number of cells per axis."""
    return -(-shape[0] // side), shape[1] // side, shape[2] // side


def graph_of(grid: Couplings) -> Graph:
    """Return the finest level as a graph."""
    cells = math.prod(grid.shape)
    starts = np.zeros(cells + 1, np.int64)
    most = cells * (6 if grid.shape[0] > 1 else 4)
    ends, w = np.empty(most, np.int32), np.empty(most, np.float32)
    count = grid_graph(starts, ends, w, grid.w, grid.shape, grid.pad)
    sigma = grid.sigma[grid.pad : grid.sigma.size - grid.pad].astype(np.float32)
    return starts, ends[:count], w[:count], sigma


def twice_matched(
    graph: Graph, cells: NDArray[np.int32], keys: NDArray[np.int32], quality: float
) -> tuple[NDArray[np.int32], int, Graph]:
    """Return the groups of two passes of matching, their number and their graph."""
    fine = diagonal = row_sums(graph[0], graph[2], graph[3])
    groups, count = match(*graph, diagonal, fine, cells, keys, quality, True)
    half = coarsen(*graph, groups, count)
    member = first_members(groups, count)
    diagonal = row_sums(half[0], half[2], half[3])
    above, above_count = match(
        *half, diagonal, gather(groups, fine, count, 0), cells[member], keys[member], quality, False
    )
    return joined(groups, above), above_count, coarsen(*half, above, above_count)


def joined(groups: NDArray[np.int32], above: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the groups that the groups of nodes belong to; nodes without one keep what they have."""
    both, inside = groups.copy(), groups >= 0
    both[inside] = above[groups[inside]]
    return both


def first_members(groups: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Return the first node of each group."""
    first = np.empty(count, np.int64)
    inside = np.flatnonzero(groups >= 0)[::-1]
    first[groups[inside]] = inside
    return first


def set_up(grid: Couplings) -> tuple[NDArray[np.uint32], NDArray[np.float32], int]:
    """Return the labels of the pixels, the rows of the fourth level per cell, and how many nodes found no room.

    Parameters
    ----------
    grid : Couplings
        A window; its first cell lies at a multiple of 32 pixels in the image.

    Returns
    -------
    labels : ndarray of shape (pixels,), uint32
        Numbers of the aggregates within their cells, see `packing`.
    rows : ndarray of shape (cells, room), float32
    crowded : int
    """
    shape, quality, graph = grid.shape, quality_of(len(grid.spatial)), graph_of(grid)
    labels = np.zeros(math.prod(shape), np.uint32)
    # The pixel that stands for each node, and the node of each pixel.
    member, crowded = np.arange(labels.size, dtype=np.int32), 0
    nodes = member
    for side, shift, bits in zip(SIDES, SHIFTS, BITS, strict=True):
        cells = cell_numbers(shape, side)[member]
        groups, count, above = twice_matched(graph, cells, _key_in_cell(member, shape), quality)
        most = slots_of(shape) if side == CELL else 2**bits - 2
        home, rank = ranks_in_cells(cells, groups, count, min(most, 2**bits - 2))
        if (rank < 0).any():
            # They are left out: smoothing alone corrects them, which costs iterations and changes no solution.
            crowded += int(np.count_nonzero(rank < 0))
            groups = joined(groups, np.where(rank >= 0, np.cumsum(rank >= 0) - 1, -1).astype(np.int32))
            home, rank = home[rank >= 0], rank[rank >= 0]
            count, above = len(rank), coarsen(*graph, groups, len(rank))
        codes = np.where(groups == CLOSED, 2**bits - 1, 0).astype(np.uint32)
        codes[groups >= 0] = rank[groups[groups >= 0]] + 1
        inside = nodes >= 0
        labels[inside] |= codes[nodes[inside]] << np.uint32(shift)
        graph, member, nodes = above, member[first_members(groups, count)], joined(nodes, groups)
    rows = np.zeros((math.prod(cell_grid(shape)), room_of(shape)), np.float32)
    pack_rows(rows, *graph, home, rank, cell_grid(shape)[2], slots_of(shape))
    return labels, rows, crowded


def codes_of(labels: NDArray[np.uint32], level: int) -> NDArray[np.uint32]:
    """Return the numbers of a level's aggregates, 0 without, from labels."""
    codes: NDArray[np.uint32] = (labels >> np.uint32(SHIFTS[level])) & np.uint32(2 ** BITS[level] - 1)
    return np.where(codes == 2 ** BITS[level] - 1, np.uint32(0), codes)


def closed_cells(labels: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return which pixels belong to an aggregate of a closed region without any known cell."""
    levels = (
        (labels >> np.uint32(s)) & np.uint32(2**b - 1) == 2**b - 1 for s, b in zip(SHIFTS, BITS, strict=True)
    )
    closed: NDArray[np.bool_] = np.logical_or.reduce(list(levels))
    return closed


def _key_in_cell(pixels: NDArray[np.int32], shape: Triple) -> NDArray[np.int32]:
    """Return the number of each pixel within its cell of 32."""
    rest, x = np.divmod(pixels, shape[2])
    z, y = np.divmod(rest, shape[1])
    key: NDArray[np.int32] = ((z % CELL) * CELL + y % CELL) * CELL + x % CELL
    return key
