"""Differences between cells and all their neighbours, a group of cells at a time, 0 across walls and edges."""

from __future__ import annotations

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.faces import left_of, neighbour_rows, open_faces, right_of
from diffusion_ops.kernels.lanes import between, inlined, load, where


@inlined
def differences(masked, volume, u, valid, grid, row, j):  # type: ignore[no-untyped-def]
    """Return neighbour - cell towards (left, right, up, down, front, back) of the group at column j of a row.

    Parameters
    ----------
    masked, volume : bool
        Constants of the caller. Without a volume front and back are 0.
    u, valid : addresses of one channel and of the mask
    grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
    row : int
        Number of the row, outer * middle of them.
    """
    _, outer, middle, columns, pitch = grid
    here = row * pitch
    up, down, front, back = neighbour_rows(volume, row, outer, middle, pitch)
    i = here + j
    centre = load(u, i)
    right = right_of(u, i, here + pitch - LANES) - centre
    right = where(between(0, columns - 1 - j), open_faces(masked, valid, i, i + 1, right))
    left = left_of(u, i, here) - centre
    left = where(load(valid, i) & left_of(valid, i, here), left) if masked else left
    left = where(between(1 - j, LANES), left)
    above = open_faces(masked, valid, i, up + j, load(u, up + j) - centre)
    below = open_faces(masked, valid, i, down + j, load(u, down + j) - centre)
    none = centre - centre
    before = open_faces(masked, valid, i, front + j, load(u, front + j) - centre) if volume else none
    after = open_faces(masked, valid, i, back + j, load(u, back + j) - centre) if volume else none
    return left, right, above, below, before, after
