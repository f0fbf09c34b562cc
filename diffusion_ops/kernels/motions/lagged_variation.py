"""Lower the total variation with its weights held fixed: lagged diffusivity, in steps of equal stability everywhere.

The sum over cells of sqrt(|∇u|² + k²), ∇u of differences to the next cells, has a quadratic majorant whose weights are
w = 1 / sqrt(1 + |∇u|² / k²), here on the faces that a cell begins (Vogel and Oman 1996). A step puts every free cell at
the weighted mean of its neighbours, which is A u = 0 scaled by the diagonal of A: cells amid steep slopes, where all
weights are small, move as fast as others, and FSI is stable, as no eigenvalue of the scaled A is above 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Bools, Floats, allocate
from diffusion_ops.kernels.faces import (
    kernel_grid,
    kernel_walls,
    left_of,
    neighbour_rows,
    open_faces,
    right_of,
)
from diffusion_ops.kernels.lanes import begin, between, choose, fill, kernel, load, store, where


@functools.cache
def build_weights(masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the filling of weights for one sort of block."""

    @kernel
    def fill_weights(faces, u, valid, grid, scales, rates):  # type: ignore[no-untyped-def]
        """Fill faces, flat (axes, cells), with the weights of the faces to the next cell along x, y, z; 0 at walls.

        Scales are 1 / (k h), rates (finest h / h)², along x, y, z.
        """
        channels, outer, middle, columns, pitch = grid
        cells = outer * middle * pitch
        zero, one = u.dtype.type(0), u.dtype.type(1)
        faces, u, valid = begin(faces), begin(u), begin(valid)
        for row in range(outer * middle):
            here = row * pitch
            _, down, _, back = neighbour_rows(volume, row, outer, middle, pitch)
            for j in range(0, pitch, LANES):
                i, inside, q = here + j, between(0, columns - 1 - j), fill(zero)
                for c in range(channels):
                    o = c * cells
                    centre = load(u, o + i)
                    d = (right_of(u, o + i, o + here + pitch - LANES) - centre) * scales[0]
                    d = where(inside, open_faces(masked, valid, i, i + 1, d))
                    q = q + d * d
                    d = (load(u, o + down + j) - centre) * scales[1]
                    d = open_faces(masked, valid, i, down + j, d)
                    q = q + d * d
                    if volume:
                        d = (load(u, o + back + j) - centre) * scales[2]
                        d = open_faces(masked, valid, i, back + j, d)
                        q = q + d * d
                w = one / math.sqrt(q + one)
                store(faces, i, where(inside, open_faces(masked, valid, i, i + 1, w * rates[0])))
                w_y = open_faces(masked, valid, i, down + j, w * rates[1])
                store(faces, cells + i, w_y if down != here else fill(zero))
                if volume:
                    w_z = open_faces(masked, valid, i, back + j, w * rates[2])
                    store(faces, 2 * cells + i, w_z if back != here else fill(zero))

    return fill_weights


@functools.cache
def build_steps(volume: bool) -> Callable[..., None]:
    """Compile steps for images or for volumes."""

    @kernel
    def take_steps(u, older, faces, free, grid, weights, least):  # type: ignore[no-untyped-def]
        """Write every next state over the older one, flat (channels, cells); cells that are not free keep their values.

        `weights`, (steps, 2), are those of the FSI recurrence for the step and the older state, `least` stands for the
        sum of no weights.
        """
        channels, outer, middle, _, pitch = grid
        cells, zero = outer * middle * pitch, u.dtype.type(0)
        u, older, faces, free = begin(u), begin(older), begin(faces), begin(free)
        for k in range(weights.shape[0]):
            forwards, kept = weights[k, 0], weights[k, 1]
            for row in range(outer * middle):
                here = row * pitch
                up, down, front, back = neighbour_rows(volume, row, outer, middle, pitch)
                for j in range(0, pitch, LANES):
                    i = here + j
                    right, below = load(faces, i), load(faces, cells + i)
                    left = where(between(1 - j, LANES), left_of(faces, i, here))
                    above = load(faces, cells + up + j) if up != here else fill(zero)
                    total = (right + left) + (below + above)
                    if volume:
                        behind = load(faces, 2 * cells + i)
                        before = load(faces, 2 * cells + front + j) if front != here else fill(zero)
                        total = total + (behind + before)
                    total = max(total, least)
                    for c in range(channels):
                        o = c * cells
                        centre = load(u, o + i)
                        x = right * (right_of(u, o + i, o + here + pitch - LANES) - centre)
                        x = x + left * (left_of(u, o + i, o + here) - centre)
                        y = below * (load(u, o + down + j) - centre) + above * (load(u, o + up + j) - centre)
                        flow = x + y
                        if volume:
                            z = behind * (load(u, o + back + j) - centre)
                            flow = flow + (z + before * (load(u, o + front + j) - centre))
                        value = (centre + flow / total) * forwards + load(older, o + i) * kept
                        store(older, o + i, choose(load(free, i), value, centre))
            u, older = older, u

    return take_steps


def lagged_weights(block: Block, smoothed: float) -> Floats:
    """Return the weights of the faces, (axes, cells), from the state; channels share |∇u|.

    `smoothed` is k, in image units per unit length.
    """
    u, steps = block.storage, block.spacing[::-1]
    faces = allocate(len(steps), block.spatial, u.dtype)
    fill_weights = build_weights(block.valid_storage is not None, len(steps) == 3)
    scales = tuple([u.dtype.type(1 / (smoothed * h)) for h in steps])
    rates = tuple([u.dtype.type((min(steps) / h) ** 2) for h in steps])
    grid = kernel_grid(block, len(u))
    fill_weights(faces.reshape(-1), u.reshape(-1), kernel_walls(block), grid, scales, rates)
    return faces


def take_weighted_steps(block: Block, faces: Floats, free: Bools, weights: Sequence[float]) -> None:
    """Take FSI steps towards weighted means on a block, in place.

    Parameters
    ----------
    block : Block
    faces : ndarray of shape (axes, cells)
        What `lagged_weights` returned.
    free : bool ndarray of shape (cells,)
        Cells that may change.
    weights : sequence of float
        a_k of the FSI recurrence.
    """
    now, new = block.storage, allocate(len(block.storage), block.spatial, block.storage.dtype)
    new[...] = now
    pairs = np.array([(w, 1 - w) for w in weights], now.dtype)
    grid, least = kernel_grid(block, len(now)), np.finfo(now.dtype).tiny
    take_steps = build_steps(len(block.spatial) == 3)
    take_steps(now.reshape(-1), new.reshape(-1), faces.reshape(-1), free, grid, pairs, least)
    block.storage = (now, new)[len(weights) % 2]
