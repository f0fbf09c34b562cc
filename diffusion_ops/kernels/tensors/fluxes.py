"""Take steps of ∂u/∂t = div(D ∇u) on a block, D at the corners where 4 cells of an image, 8 of a volume, meet.

Around a corner the differences of the cells are sums of the gradient (X, Y[, Z]) and of hourglass modes, which a
gradient does not see (S = TL - TR - BL + BR in an image). The energy of the corner is that of its modes,

    2-D: (gᵀ D g + κ s²) / 2, g = (X, Y) / 2, s = S / 2, κ = a + c - 2 δ, δ = α (a + c) + (1 - 2 α) |b|

for D = (a b; b c): the nonstandard differences of Weickert, Welk and Wickert (2013). One step subtracts its gradient:
symmetric, conservative, radius 1. The energy of a corner has no eigenvalue above that of D or κ, and a cell is part of
4 corners with 1/1, or of 8 with 1/2: that is the stable step, see `stable_tensor_dt`. In a volume each pair of axes has
its κ, and the mode of all three half their sum: α = 0 and D = I is then the stencil of 6 neighbours. For spacings that
differ α (a + c) stands for α min(1/hx², 1/hy²) (a + c) of D in units of length: the same where they agree.

Walls: a corner with one side beyond a wall is mirrored at it and counts half. A corner that is ragged, three valid
cells of four say, has links along the axes only, weak enough for the same stable step.

The order of rows is the wavefront of `perona_malik`: while step s works at row r, step s + 1 works at row r - 1.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Bools, Floats, aligned_zeros, row_pitch
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls
from diffusion_ops.kernels.lanes import begin, choose, copied, fill, kernel, load, shift, store
from diffusion_ops.kernels.tensors.cubes import cube_layer
from diffusion_ops.kernels.tensors.quads import quad_layer

_GROUP_BYTES = 1 << 19
_GROUP_STEPS = 16


def stable_tensor_dt(alpha: float, spacing: tuple[float, ...]) -> float:
    """Return the largest L2-stable explicit step where no eigenvalue of D is above 1.

    1 / (2 max(1/h², κ)) for the finest h and the largest κ that such a D can have: h²/2 for equal spacing and
    alpha >= 1/4.
    """
    squares = [h**-2 for h in spacing]
    pairs = [a + b - 4 * alpha * min(a, b) for i, a in enumerate(squares) for b in squares[i + 1 :]]
    return 1 / (2 * max(*squares, *pairs, sum(pairs) / 2 if len(pairs) == 3 else 0.0))


@copied
def finish_row(form, u, new, force, free, valid, n, w):  # type: ignore[no-untyped-def]
    """Write a row of the next state; cells that are held keep their values."""
    masked, inertial, pinned = form
    for j in range(0, n, LANES):
        centre = load(u, j)
        value = centre + load(force, j)
        if inertial:
            value = value * w[0] + load(new, j) * w[1]
        if masked:
            value = choose(load(valid, j), value, centre)
        if pinned:
            value = choose(load(free, j), value, centre)
        store(new, j, value)


@copied
def _clear(to, n, zero):  # type: ignore[no-untyped-def]
    for j in range(0, n, LANES):
        store(to, j, fill(zero))


@functools.cache
def build_sweep(masked: bool, volume: bool, inertial: bool, pinned: bool) -> Callable[..., None]:
    """Compile the sweep for one sort of block."""

    @kernel
    def sweep(even, odd, tensor, masks, grid, corner_pitch, numbers, weights, first, limits, forces):  # type: ignore[no-untyped-def]
        """Take the steps first, first + 1, ... of a cycle in place.

        Parameters
        ----------
        even, odd : arrays of (channels, cells), flat: the states of even and odd steps, of which inertial steps write
            over the older; the same array for explicit steps
        tensor : array of (components, corners), flat
        masks : bool arrays of (cells,): what is valid, what is free
        grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
        corner_pitch : stored length of a row of corners
        numbers : what `tensor_factors` and `hourglass_damping` returned
        weights : (group,), of the FSI recurrence
        limits : (2,), (2,): spoilt rows or planes at the two sides, and how many more each step spoils (0 or 1)
        forces : scratch of (group, channels, 2, middle, pitch + LANES)
        """
        channels, outer, middle, columns, pitch = grid
        cells, wide, group = outer * middle * pitch, pitch + LANES, weights.shape[0]
        corner_rows = middle + 1 if volume else 1
        stride = (outer + 1) * corner_rows * corner_pitch
        zero, one = even.dtype.type(0), even.dtype.type(1)
        low, high = limits
        even, odd, tensor = begin(even), begin(odd), begin(tensor)
        valid, free, forces = begin(masks[0]), begin(masks[1]), begin(forces)
        for t in range(outer + group - 1):
            for s in range(max(0, t - outer + 1), min(group, t + 1)):
                p, k = t - s, first + s
                p0, p1 = low[0] + k * low[1], outer - high[0] - k * high[1]
                if p < p0 or p >= p1:
                    continue
                now, new = (even, odd) if k % 2 == 0 else (odd, even)
                for c in range(channels):
                    state, line = shift(now, c * cells), (s * channels + c) * 2
                    here = shift(forces, (line + p % 2) * middle * wide)
                    ahead = shift(forces, (line + 1 - p % 2) * middle * wide)
                    if p == p0:
                        _clear(here, middle * wide, zero)
                    # The corners before the first row act on that row alone, the next ones on both.
                    for layer in range(p if p == p0 else p + 1, p + 2):
                        if layer == p + 1:
                            _clear(ahead, middle * wide, zero)
                        front, back = (here, ahead) if layer == p + 1 else (ahead, here)
                        d = shift(tensor, layer * corner_rows * corner_pitch)
                        layout = (layer, outer, middle, columns, pitch, corner_pitch)
                        if volume:
                            cube_layer(masked, state, valid, layout, d, stride, numbers, (front, back))
                        else:
                            quad_layer(masked, state, valid, layout, d, stride, numbers, (front, back))
                    for m in range(middle):
                        at = (p * middle + m) * pitch
                        form, w = (masked, inertial, pinned), (weights[s], one - weights[s])
                        target, force = shift(new, c * cells + at), shift(here, m * wide)
                        finish_row(
                            form, shift(state, at), target, force, shift(free, at), shift(valid, at), pitch, w
                        )

    return sweep


class Scratch(threading.local):
    """Rows of one thread, reused from call to call."""

    def __init__(self) -> None:
        self._room = np.zeros(0, np.uint8)

    def floats(self, count: int, dtype: np.dtype[Any]) -> Floats:
        """Return room for numbers of any content."""
        if self._room.nbytes < count * dtype.itemsize:
            self._room = aligned_zeros(count * dtype.itemsize, np.dtype(np.uint8))
        return self._room[: count * dtype.itemsize].view(dtype)


_SCRATCH = Scratch()


def tensor_factors(tau: float, spacing: tuple[float, ...]) -> list[float]:
    """Return the factors of the components of D in a step of size tau: tau / (4 h_i h_j), or / 16 in a volume.

    In the order xx, yy[, zz], xy[, xz, yz].
    """
    h = spacing[::-1]
    part = tau / (4 if len(h) == 2 else 16)
    upper = [part / (a * b) for i, a in enumerate(h) for b in h[i + 1 :]]
    return [*(part / a**2 for a in h), *upper]


def hourglass_damping(alpha: float, spacing: tuple[float, ...]) -> list[float]:
    """Return the coefficients of κ = p D_ii + q D_jj - r |D_ij|: p and q for xy[, xz, yz] in turn, and r last."""
    squares = [h**-2 for h in spacing[::-1]]
    pairs = [(a, b) for i, a in enumerate(squares) for b in squares[i + 1 :]]
    return [*(1 - 2 * alpha * min(pair) / a for pair in pairs for a in pair), 2 * (1 - 2 * alpha)]


def take_tensor_steps(
    block: Block,
    states: Sequence[Floats],
    tensor: Floats,
    tau: float,
    weights: Sequence[float],
    alpha: float,
    free: Bools | None = None,
) -> None:
    """Take len(weights) steps of ∂u/∂t = div(D ∇u) on the states of a block, in place.

    Parameters
    ----------
    block : Block
        Gives the grid, the walls and the spoilt margin (which is not changed here).
    states : one or two ndarrays of shape (channels, cells)
        With two, the steps are inertial and the result is in states[len(weights) % 2].
    tensor : ndarray of shape (3 or 6, corners)
        D at the corners, see `corners`, with components as from `structure_tensor`; no eigenvalue above 1.
    tau : float
        Step size, in units of time.
    weights : sequence of float
        a_k of the FSI recurrence; only their number counts for explicit steps.
    alpha : float
        Between 0 and 1/2; 0.4 keeps directions best at any ratio of eigenvalues.
    free : bool ndarray of shape (cells,), optional
        Cells that may change; the others are held (Dirichlet), as known pixels are in inpainting.
    """
    dtype, channels = states[0].dtype, len(states[0])
    inertial, volume = len(states) == 2, len(block.spatial) == 3
    sweep = build_sweep(block.valid_storage is not None, volume, inertial, free is not None)
    grid = kernel_grid(block, channels)
    _, _, middle, columns, pitch = grid
    room = (2 * channels * (len(states) + 1) + len(tensor)) * middle * pitch * dtype.itemsize
    group = max(1, min(len(weights), _GROUP_STEPS, max(2, _GROUP_BYTES // room)))
    sides, spoilt = block.open_sides[0], block.spoilt[0]
    limits = tuple([(spoilt, 1) if side else (0, 0) for side in sides])
    masks = (kernel_walls(block), np.ones(1, bool) if free is None else free)
    lists = (tensor_factors(tau, block.spacing), hourglass_damping(alpha, block.spacing))
    numbers = tuple([tuple([dtype.type(x) for x in some]) for some in lists])
    even, odd, flat = states[0].reshape(-1), states[-1].reshape(-1), tensor.reshape(-1)
    corner_pitch = row_pitch(columns + 1)
    for first in range(0, len(weights), group):
        some = np.array(weights[first : first + group], dtype)
        forces = _SCRATCH.floats(group * channels * 2 * middle * (pitch + LANES), dtype)
        sweep(even, odd, flat, masks, grid, corner_pitch, numbers, some, first, limits, forces)
