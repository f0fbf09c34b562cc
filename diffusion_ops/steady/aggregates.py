"""Set up the second and third level on a window: labels of the pixels, and the rows of the third level.

Two passes of matching make a level from the one above it. Every pass matches within cells of 8 pixels a side, then of
16, so what a cell becomes depends on the pixels up to `SETUP_HALO` around it alone, whatever the tiles are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Floats
from diffusion_ops.kernels.multigrid.graph import coarsen, gather, grid_graph, row_sums
from diffusion_ops.kernels.multigrid.matching import match
from diffusion_ops.kernels.multigrid.packing import SIDE, cell_numbers, pack_rows, ranks_in_cells
from diffusion_ops.steady.couplings import CELL, Couplings, Triple

SETUP_HALO = 64
"""Cells around a tile that its labels and rows depend on.

A diagonal needs the groups of the cells beside it: the rows need the fourth pass 16 cells around, that the third one
32, that the second one 40, that the first one 48, and that the couplings 49.
"""

Graph = tuple[NDArray[np.int64], NDArray[np.int32], Floats, Floats]
"""Starts, ends, couplings and sigma of the rows."""


def quality_of(ndim: int) -> float:
    """Return the largest mu of a pair: twice the number of neighbours, which equal couplings have half of."""
    return 4.0 * ndim


def slots_of(shape: Triple) -> int:
    """Return how many nodes of the third level a cell may have: a quarter of its pixels."""
    return (CELL if shape[0] > 1 else 1) * (CELL // 2) ** 2


def room_of(shape: Triple) -> int:
    """Return how many numbers the rows of a cell take at most: 4 per pixel, 12 in three dimensions.

    In the plane the graph of V nodes has at most 3 V - 6 couplings, and a cell of 16 pixels 64 more to its neighbours.
    """
    return 12 * CELL**3 if shape[0] > 1 else 4 * CELL**2


def cell_grid(shape: Triple, side: int = CELL) -> Triple:
    """Return the number of cells per axis."""
    return -(-shape[0] // side), shape[1] // side, shape[2] // side


def graph_of(grid: Couplings) -> Graph:
    """Return the finest level as a graph."""
    cells = math.prod(grid.shape)
    starts = np.zeros(cells + 1, np.int64)
    most = cells * (6 if grid.shape[0] > 1 else 4)
    ends, w = np.empty(most, np.int32), np.empty(most)
    count = grid_graph(starts, ends, w, grid.w, grid.shape, grid.pad)
    return starts, ends[:count], w[:count], grid.sigma[grid.pad : grid.sigma.size - grid.pad]


def twice_matched(
    graph: Graph, cells: NDArray[np.int32], keys: NDArray[np.int64], quality: float
) -> tuple[NDArray[np.int32], int, Graph]:
    """Return the groups of two passes of matching, their number and their graph."""
    fine = diagonal = row_sums(graph[0], graph[2], graph[3])
    groups, count = match(*graph, diagonal, fine, cells, keys, quality, True)
    if count == 0:
        return groups, 0, graph
    half = coarsen(*graph, groups, count)
    member = first_members(groups, count)
    diagonal = row_sums(half[0], half[2], half[3])
    above, above_count = match(
        *half, diagonal, gather(groups, fine, count, 0), cells[member], keys[member], quality, False
    )
    both = np.where(groups >= 0, above[groups], -1).astype(np.int32)
    return both, above_count, coarsen(*half, above, above_count)


def first_members(groups: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Return the first node of each group."""
    first = np.empty(count, np.int64)
    inside = np.flatnonzero(groups >= 0)[::-1]
    first[groups[inside]] = inside
    return first


def set_up(grid: Couplings) -> tuple[NDArray[np.uint32], Floats, int]:
    """Return the labels of the pixels, the rows of the third level per cell, and how many nodes found no room.

    Parameters
    ----------
    grid : Couplings
        A window; its first cell lies at a multiple of 16 pixels in the image.

    Returns
    -------
    labels : ndarray of shape (pixels,), uint32
        Aggregate of the second level in the low 16 bits, that of the third level in the high ones.
    rows : ndarray of shape (cells, room), float64
    crowded : int
    """
    shape, quality = grid.shape, quality_of(len(grid.spatial))
    small, large = cell_numbers(shape, SIDE), cell_numbers(shape, CELL)
    pixels = np.arange(small.size, dtype=np.int64)
    keys = _key_in_cell(pixels, shape)
    second, count, graph = twice_matched(graph_of(grid), small, keys, quality)
    labels = np.zeros(small.size, np.uint32)
    rows = np.zeros((math.prod(cell_grid(shape)), room_of(shape)))
    if count == 0:
        return labels, rows, 0
    member = first_members(second, count)
    _, rank = ranks_in_cells(small, second, count, 1 << 16)
    labels[second >= 0] = rank[second[second >= 0]].astype(np.uint32) + 1
    third, above, top = twice_matched(graph, large[member], keys[member], quality)
    if above == 0:
        return labels, rows, 0
    home, rank = ranks_in_cells(large[member], third, above, slots_of(shape))
    crowded = int(np.count_nonzero(rank < 0))
    if crowded:
        # They are left out: smoothing alone corrects them, which costs iterations and changes no solution.
        kept = np.cumsum(rank >= 0) - 1
        third = np.where((third >= 0) & (rank[third] >= 0), kept[third], -1).astype(np.int32)
        home, rank = home[rank >= 0], rank[rank >= 0]
        top = coarsen(*graph, third, len(rank))
    upper = np.where(third >= 0, rank[third] + 1, 0).astype(np.uint32) << np.uint32(16)
    labels[second >= 0] |= upper[second[second >= 0]]
    pack_rows(rows, *top, home, rank, cell_grid(shape)[2], slots_of(shape))
    return labels, rows, crowded


def _key_in_cell(pixels: NDArray[np.int64], shape: Triple) -> NDArray[np.int64]:
    """Return the number of each pixel within its cell of 16."""
    rest, x = np.divmod(pixels, shape[2])
    z, y = np.divmod(rest, shape[1])
    key: NDArray[np.int64] = ((z % CELL) * CELL + y % CELL) * CELL + x % CELL
    return key
