"""Lay the fourth level out like an image, for tiles to write and one task to read: numbers per cell of 32 pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.kernels.multigrid.packing import SIDES, cell_numbers, count_rows, unpack_rows
from diffusion_ops.steady.aggregates import (
    Graph,
    cell_grid,
    closed_cells,
    codes_of,
    quality_of,
    room_of,
    slots_of,
)
from diffusion_ops.steady.couplings import CELL, Couplings, Triple
from diffusion_ops.steady.cycle import Coarse


def lattice_shape(shape: Triple) -> Triple:
    """Return the shape of a lattice of values, as many per cell as it may have nodes: 8 x 12, or 8 x 16 x 16."""
    return (
        (shape[0] // 4, shape[1] // 2, shape[2] // 2)
        if shape[0] > 1
        else (1, shape[1] // 4, shape[2] * 3 // 8)
    )


def rows_shape(shape: Triple) -> Triple:
    """Return the shape of a lattice of rows: so many columns for each column of pixels."""
    return shape[0], shape[1], shape[2] * (room_of(shape) // (CELL**3 if shape[0] > 1 else CELL**2))


def by_cell(lattice: NDArray[np.generic], shape: Triple) -> NDArray[np.generic]:
    """Return a lattice of an image of `shape` as (cells, numbers)."""
    grid = cell_grid(shape)
    sides = [n // g for n, g in zip(lattice.shape, grid, strict=True)]
    parts = lattice.reshape(grid[0], sides[0], grid[1], sides[1], grid[2], sides[2])
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(np.prod(grid), -1)


def as_lattice(cells: NDArray[np.generic], shape: Triple, lattice: Triple) -> NDArray[np.generic]:
    """Return (cells, numbers) as a lattice: the inverse of `by_cell`."""
    grid = cell_grid(shape)
    sides = [n // g for n, g in zip(lattice, grid, strict=True)]
    return cells.reshape(*grid, *sides).transpose(0, 3, 1, 4, 2, 5).reshape(lattice)


def spread_out(values: Floats, counts: NDArray[np.int64], shape: Triple) -> Floats:
    """Return the values of the nodes, cell by cell, as a lattice with 0 between."""
    slots = slots_of(shape)
    cells = np.zeros((len(counts), slots), values.dtype)
    cells[np.arange(slots) < counts[:, None]] = values
    return as_lattice(cells, shape, lattice_shape(shape))


def collected(lattice: Floats, counts: NDArray[np.int64], shape: Triple) -> Floats:
    """Return the values of the nodes from a lattice, cell by cell: the inverse of `spread_out`."""
    cells = by_cell(lattice, shape)
    return cells[np.arange(cells.shape[1]) < counts[:, None]]


def reached(grid: Couplings, labels: NDArray[np.uint32], held: Floats) -> Bools:
    """Return which unknown cells of a window some known cell holds, in the layout of the operator.

    Parameters
    ----------
    grid : Couplings
    labels : ndarray of shape (pixels,)
    held : ndarray
        Lattice with 1 for the nodes of the fourth level that are held, else 0. A coupled cell that belongs to none is
        dominated by known cells.
    """
    nodes = by_cell(held, grid.shape)
    fourth = codes_of(labels, len(SIDES) - 1).astype(np.int64)
    cells = cell_numbers(grid.shape, CELL)
    open_ = ~closed_cells(labels) & ((fourth == 0) | (nodes[cells, np.maximum(fourth, 1) - 1] > 0))
    found = grid.inverse > 0
    found[grid.pad : found.size - grid.pad] &= open_
    return found


def require_room(crowded: int) -> None:
    """Refuse an image whose fourth level has more nodes in a cell than there is room for.

    Raises
    ------
    ValueError
    """
    if crowded:
        raise ValueError(
            f"Walls cut the image into too many pieces: {crowded} find no room, of 96 within 32 x 32 pixels. "
            "Fill small holes of the mask first."
        )


def coarse_levels(
    bands: Iterable[NDArray[np.float32]], shape: Triple, ndim: int
) -> tuple[Coarse, NDArray[np.int64]]:
    """Return the levels from the third one on, and the number of nodes per cell.

    Parameters
    ----------
    bands : iterable of ndarray of shape (cells, room)
        Rows of the cells in order, as many at a time as there is memory for; they are read twice.
    shape : tuple of int
        Shape of the image in whole cells.
    ndim : int
        Number of the image's axes.
    """
    kept = [_compact(band) for band in bands]
    counts = np.concatenate([one[1] for one in kept])
    base = np.concatenate([[0], np.cumsum(counts)])
    nodes, total = int(base[-1]), sum(one[2] for one in kept)
    starts, ends = np.zeros(nodes + 1, np.int64), np.empty(total, np.int32)
    w, sigma = np.empty(total, np.float32), np.empty(nodes, np.float32)
    found = first = 0
    # Each goes as soon as it is unpacked.
    kept.reverse()
    while kept:
        rows = kept.pop()[0]
        found = unpack_rows(
            rows, first, found, starts, ends, w, sigma, base, cell_grid(shape), slots_of(shape)
        )
        first += len(rows)
    graph: Graph = (starts, ends, w, sigma)
    return Coarse(graph, quality_of(ndim)), counts


def _compact(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """Return rows without the room that none of them uses, the nodes per cell, and the number of couplings."""
    counts = np.zeros(len(rows), np.int64)
    total = count_rows(rows, counts)
    used = np.flatnonzero(rows.any(axis=0))
    # A last node without couplings ends in a 0, and one that nothing holds in two.
    return rows[:, : (int(used[-1]) if used.size else 0) + 3].copy(), counts, total
