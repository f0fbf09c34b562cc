"""Conductances of whole rows of faces: shared by the channels of a step, or frozen in arrays for a cycle."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, allocate
from diffusion_ops.kernels.conductance import conductance
from diffusion_ops.kernels.lanes import (
    begin,
    between,
    copied,
    fill,
    following,
    inlined,
    kernel,
    load,
    previous,
    shift,
    store,
    where,
)


@inlined
def right_of(u, i, last):  # type: ignore[no-untyped-def]
    """Return the right neighbours of the group at u[i]; no group beyond the one at `last` is read."""
    return following(load(u, i), load(u, min(i + LANES, last)))


@inlined
def left_of(u, i, first):  # type: ignore[no-untyped-def]
    """Return the left neighbours of the group at u[i]; no group before the one at `first` is read."""
    return previous(load(u, max(i - LANES, first)), load(u, i))


@inlined
def open_faces(masked, valid, i, j, flux):  # type: ignore[no-untyped-def]
    """Return the fluxes or conductances between cells i and j, 0 where one of them is beyond a wall."""
    return where(load(valid, i) & load(valid, j), flux) if masked else flux


@inlined
def neighbour_rows(volume, row, outer, middle, pitch):  # type: ignore[no-untyped-def]
    """Return where the rows above, below, in front and behind begin; at a wall a row is its own neighbour."""
    here, plane = row * pitch, middle * pitch
    front = here - plane if row >= middle else here
    back = here + plane if row + middle < outer * middle else here
    if not volume:
        return front, back, front, back
    up = here - pitch if row % middle else here
    down = here + pitch if (row + 1) % middle else here
    return up, down, front, back


@copied
def weigh_row(kind, form, out, stride, u, size, valid, row, n, scales):  # type: ignore[no-untyped-def]
    """Fill out, an axis every `stride`, with a row's conductances along x, y, z or x, y and both diagonals.

    Channels share one conductance of the sum of their squared differences. A rising diagonal, to the row
    below and the column before, belongs to its upper cell.
    """
    masked, volume, diagonal = form
    channels, cells = size
    here, down, back = row
    zero = fill(scales[0] - scales[0])
    for j in range(0, n, LANES):
        x = y = z = falling = rising = zero
        for c in range(channels):
            o = c * cells
            centre = load(u, o + here + j)
            d = right_of(u, o + here + j, o + here + n - LANES) - centre
            x = x + d * d
            d = load(u, o + down + j) - centre
            y = y + d * d
            if volume:
                d = load(u, o + back + j) - centre
                z = z + d * d
            if diagonal:
                d = right_of(u, o + down + j, o + down + n - LANES) - centre
                falling = falling + d * d
                d = left_of(u, o + down + j, o + down) - centre
                rising = rising + d * d
        i, k = here + j, down + j
        store(out, j, open_faces(masked, valid, i, i + 1, conductance(kind, x * scales[0])))
        store(out, stride + j, open_faces(masked, valid, i, k, conductance(kind, y * scales[1])))
        if volume:
            store(
                out, 2 * stride + j, open_faces(masked, valid, i, back + j, conductance(kind, z * scales[2]))
            )
        if diagonal:
            falling, rising = conductance(kind, falling * scales[3]), conductance(kind, rising * scales[3])
            store(out, 2 * stride + j, open_faces(masked, valid, i, k + 1, falling))
            # Only an image of one row would read before the mask, and it has no such faces.
            store(out, 3 * stride + j, open_faces(masked, valid, i, max(k - 1, 0), rising))


@functools.cache
def build_edge_faces(kind: int, masked: bool, volume: bool, diagonal: bool) -> Callable[..., None]:
    """Compile the filling of face conductances from the differences across the faces."""

    @kernel
    def fill_edge_faces(faces, u, valid, grid, scales):  # type: ignore[no-untyped-def]
        """Fill faces, flat (axes, cells), from a state u, flat (channels, cells); axes as in `weigh_row`."""
        channels, outer, middle, _, pitch = grid
        cells = outer * middle * pitch
        faces, u, valid = begin(faces), begin(u), begin(valid)
        for m in range(outer * middle):
            _, down, _, back = neighbour_rows(volume, m, outer, middle, pitch)
            form, row, out = (masked, volume, diagonal), (m * pitch, down, back), shift(faces, m * pitch)
            weigh_row(kind, form, out, cells, u, (channels, cells), valid, row, pitch, scales)

    return fill_edge_faces


@functools.cache
def build_cell_faces(kind: int, masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the filling of face conductances from the gradient at cell centres (Catte et al. 1992)."""

    @kernel
    def fill_cell_faces(faces, cell, u, valid, grid, scales):  # type: ignore[no-untyped-def]
        """Fill faces, flat (axes, cells), with the mean of the conductances of |∇u|² in the two cells.

        |∇u|² is by central differences, where a neighbour beyond a wall repeats the cell itself; `cell` is
        scratch.
        """
        channels, outer, middle, columns, pitch = grid
        cells, half = outer * middle * pitch, u.dtype.type(0.5)
        faces, cell, u, valid = begin(faces), begin(cell), begin(u), begin(valid)
        for row in range(outer * middle):
            here = row * pitch
            up, down, front, back = neighbour_rows(volume, row, outer, middle, pitch)
            for j in range(0, pitch, LANES):
                i, q = here + j, fill(half - half)
                for c in range(channels):
                    o = c * cells
                    centre = load(u, o + i)
                    d = right_of(u, o + i, o + here + pitch - LANES) - centre
                    ahead = where(between(0, columns - 1 - j), open_faces(masked, valid, i, i + 1, d))
                    d = centre - left_of(u, o + i, o + here)
                    d = where(load(valid, i) & left_of(valid, i, here), d) if masked else d
                    d = ahead + where(between(1 - j, LANES), d)
                    q = q + d * d * scales[0]
                    below = open_faces(masked, valid, i, down + j, load(u, o + down + j) - centre)
                    d = below + open_faces(masked, valid, i, up + j, centre - load(u, o + up + j))
                    q = q + d * d * scales[1]
                    if volume:
                        behind = open_faces(masked, valid, i, back + j, load(u, o + back + j) - centre)
                        d = behind + open_faces(masked, valid, i, front + j, centre - load(u, o + front + j))
                        q = q + d * d * scales[2]
                store(cell, i, conductance(kind, q * (half * half)))
        for row in range(outer * middle):
            here = row * pitch
            _, down, _, back = neighbour_rows(volume, row, outer, middle, pitch)
            for j in range(0, pitch, LANES):
                i = here + j
                g = load(cell, i)
                mean = (g + right_of(cell, i, here + pitch - LANES)) * half
                store(faces, i, open_faces(masked, valid, i, i + 1, mean))
                mean = (g + load(cell, down + j)) * half
                store(faces, cells + i, open_faces(masked, valid, i, down + j, mean))
                if volume:
                    mean = (g + load(cell, back + j)) * half
                    store(faces, 2 * cells + i, open_faces(masked, valid, i, back + j, mean))

    return fill_cell_faces


def edge_faces(block: Block, kind: int, scales: Sequence[float], diagonal: bool) -> Floats:
    """Return frozen conductances of shape (axes, cells) from the differences across each face."""
    u, grid, walls = block.storage, kernel_grid(block, len(block.storage)), kernel_walls(block)
    faces = allocate(4 if diagonal else len(block.spatial), block.spatial, u.dtype)
    fill_faces = build_edge_faces(kind, block.valid_storage is not None, len(block.spatial) == 3, diagonal)
    fill_faces(faces.reshape(-1), u.reshape(-1), walls, grid, tuple(u.dtype.type(x) for x in scales))
    return faces


def cell_faces(block: Block, smoothed: Floats, kind: int, scales: Sequence[float]) -> Floats:
    """Return frozen conductances of shape (axes, cells) from |∇u|² of a smoothed state (channels, cells)."""
    u, grid, walls = smoothed.reshape(-1), kernel_grid(block, len(smoothed)), kernel_walls(block)
    faces = allocate(len(block.spatial), block.spatial, u.dtype)
    cell = allocate(1, block.spatial, u.dtype)[0]
    fill_faces = build_cell_faces(kind, block.valid_storage is not None, len(block.spatial) == 3)
    fill_faces(faces.reshape(-1), cell, u, walls, grid, tuple(u.dtype.type(x) for x in scales))
    return faces


def kernel_grid(block: Block, channels: int) -> tuple[int, int, int, int, int]:
    """Return (channels, outer, middle, columns, pitch): the rows of an image are planes of one row each."""
    planes, rows, columns, pitch = block.grid
    outer, middle = (planes, rows) if len(block.spatial) == 3 else (rows, 1)
    return channels, outer, middle, columns, pitch


_NO_WALLS = np.ones(1, bool)


def kernel_walls(block: Block) -> Any:
    """Return the flat mask for a kernel; where there is none, something of its type that is not read."""
    return _NO_WALLS if block.valid_storage is None else block.valid_storage.reshape(-1)
