"""Iterate towards the minimum of TV(u) + |u - f|² / (2 weight): dual and primal step of a row in one visit, in place.

The sweep is the wavefront of the flux kernel: while iteration s works at row r, iteration s + 1 works at row
r - 1. The dual of a row needs the extrapolated state of that row and the next, the primal step that follows at
once needs the dual of that row and the one before; so every array is overwritten where it lies, there is no
scratch at all, and memory is crossed once for a whole group of iterations.

What is carried beside the state u, each of u's channels: the data f, the extrapolated state, and the dual along x,
y (and z). In the first axis of `block.carried` they follow each other in this order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, allocate
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls, left_of, open_faces, right_of
from diffusion_ops.kernels.lanes import begin, between, copied, fill, kernel, load, shift, store, where
from diffusion_ops.kernels.wavefront import level_bounds, step_bounds

# A group of iterations should keep its rows in half of a 1 MiB second-level cache; measured flat from there to all of
# it, and for bands of 2 to 16 rows of one channel. Three channels of a volume are 1.3 times as fast in bands of 4.
_GROUP_BYTES = 1 << 19
_GROUP_STEPS = 16
_BAND = 4

_FEW = 4
"""Numbers of channels up to this one have code of their own."""


@copied
def _ascend(masked, volume, dual, stride, state, valid, row, j, n, end, rise):  # type: ignore[no-untyped-def]
    """Return the dual of one channel after a step along the gradient, which is 0 across walls; lanes j, j + 1, ..."""
    here, down, back = row
    i = here + j
    centre = load(state, i)
    d = where(between(0, end - j), right_of(state, i, here + n - LANES) - centre)
    x = load(dual, i) + open_faces(masked, valid, i, i + 1, d * rise[0])
    d = load(state, down + j) - centre
    y = load(dual, stride + i) + open_faces(masked, valid, i, down + j, d * rise[1])
    if not volume:
        return x, y, y
    d = load(state, back + j) - centre
    return x, y, load(dual, 2 * stride + i) + open_faces(masked, valid, i, back + j, d * rise[2])


@copied
def _step_row(form, size, fields, valid, row, before, span, speeds, one):  # type: ignore[no-untyped-def]
    """Take one iteration of all channels of a row.

    Parameters
    ----------
    form, size : (bool, bool, bool), (int, int)
        Whether masked, a volume, between 0 and 1; channels, cells.
    fields : addresses
        State, data, extrapolated state and dual of the first channel.
    row : ints
        Where the cells of the row, their lower neighbours and those behind begin in a channel.
    before : ints
        Where the upper neighbours and those in front begin, and how many lanes of both are inside.
    span : (int, int)
        Cells of the row, its faces along x.
    speeds : (3 floats, 3 floats, float, float)
        sigma / h and rate / h along x, y, z; rate / weight; the extrapolation.
    one : float
    """
    masked, volume, between_ends = form
    channels, cells = size
    u, data, state, dual = fields
    rise, fall, pull, theta = speeds
    here, (n, end) = row[0], span
    up, front, above, ahead = before
    zero = fill(one - one)
    for j in range(0, n, LANES):
        i, square = here + j, zero
        for c in range(channels):
            p, v = shift(dual, c * cells), shift(state, c * cells)
            x, y, z = _ascend(masked, volume, p, channels * cells, v, valid, row, j, n, end, rise)
            square = square + (x * x + y * y)
            store(p, i, x)
            store(p, channels * cells + i, y)
            if volume:
                square = square + z * z
                store(p, 2 * channels * cells + i, z)
        # One ball for all channels: they share the direction and the position of their edges.
        shrink = fill(one) / max(math.sqrt(square), one)
        for c in range(channels):
            p, v = shift(dual, c * cells), shift(state, c * cells)
            x, y = load(p, i) * shrink, load(p, channels * cells + i) * shrink
            store(p, i, x)
            left = where(between(1 - j, LANES), left_of(p, i, here))
            q = shift(p, channels * cells)
            store(q, i, y)
            change = (x - left) * fall[0] + (y - where(between(0, above), load(q, up + j))) * fall[1]
            if volume:
                q = shift(q, channels * cells)
                z = load(q, i) * shrink
                store(q, i, z)
                change = change + (z - where(between(0, ahead), load(q, front + j))) * fall[2]
            old = load(u, c * cells + i)
            if between_ends:
                new = min(max(old + (change - load(data, c * cells + i) * pull), zero), fill(one))
            else:
                new = old + (change + (load(data, c * cells + i) - old) * pull)
            store(u, c * cells + i, new)
            store(v, i, new + (new - old) * theta)


@copied
def _anchor_row(channels, cells, data, u, here, n):  # type: ignore[no-untyped-def]
    """Let the state of a row be its data."""
    for c in range(channels):
        for j in range(0, n, LANES):
            store(data, c * cells + here + j, load(u, c * cells + here + j))


@functools.cache
def build_descent(masked: bool, volume: bool, few: int, between_ends: bool = False) -> Callable[..., None]:
    """Compile the sweep for images or volumes, with or without a mask, of `few` channels or, for 0, of any number.

    With `between_ends` the state is kept between 0 and 1, and the data is a force: TV(u) + ∫ data u / weight.

    A number of channels that the compiler knows leaves no loop over them: iterations are 1.5 to 2 times as fast.
    """
    slant = 1 if volume else 0

    @kernel
    def descend(u, carried, valid, grid, numbers, first, bounds, band):  # type: ignore[no-untyped-def]
        """Take the iterations first, first + 1, ... of a batch in place.

        Parameters
        ----------
        u, carried : flat arrays of (channels, cells) and of ((2 + axes) channels, cells)
        valid : bool array of (cells,)
        grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
        numbers : (group, 9), what `step_numbers` returned
        bounds : (iterations, 3, 2), what `level_bounds` returned: first and last + 1 of what an iteration may read
        band : middle rows that an iteration takes at a time
        """
        channels, outer, middle, columns, pitch = grid
        channels = few if few else channels
        cells, group, one = outer * middle * pitch, numbers.shape[0], u.dtype.type(1)
        u, data, valid = begin(u), begin(carried), begin(valid)
        fields = (u, data, shift(data, channels * cells), shift(data, 2 * channels * cells))
        for start in range(0, middle + slant * (group - 1), band):
            for t in range(outer + group - 1):
                for s in range(max(0, t - outer + 1), min(group, t + 1)):
                    p, k, top = t - s, first + s, start - slant * s
                    (p0, p1), (m0, m1), (j0, n) = step_bounds(bounds, k)
                    if p < p0 or p >= p1 or n <= 0:
                        continue
                    rise = (numbers[s, 0], numbers[s, 1], numbers[s, 2])
                    fall = (numbers[s, 3], numbers[s, 4], numbers[s, 5])
                    for m in range(max(m0, top), min(m1, top + band)):
                        here = (p * middle + m) * pitch + j0
                        # The first and the last row are their own neighbours.
                        back = here + middle * pitch if p + 1 < p1 else here
                        front = here - middle * pitch if p > p0 else here
                        down = (here + pitch if m + 1 < m1 else here) if volume else back
                        up = (here - pitch if m > m0 else here) if volume else front
                        before = (up, front, LANES if up < here else 0, LANES if front < here else 0)
                        if numbers[s, 8] != 0:
                            _anchor_row(channels, cells, data, u, here, n)
                        form, size, span = (
                            (masked, volume, between_ends),
                            (channels, cells),
                            (n, columns - 1 - j0),
                        )
                        row, speeds = (here, down, back), (rise, fall, numbers[s, 6], numbers[s, 7])
                        _step_row(form, size, fields, valid, row, before, span, speeds, one)

    return descend


def carried_arrays(ndim: int, channels: int) -> int:
    """Return how many arrays of one channel's size `start` makes."""
    return (2 + ndim) * channels


def pace(ndim: int, channels: int) -> float:
    """Return values times iterations per second of one core in float32."""
    return (2.6e9 if ndim == 2 else 1.6e9) * (1.0 if channels <= _FEW else 0.6)


def start(block: Block) -> None:
    """Carry the state as data and as extrapolated state, and a dual of 0."""
    channels = len(block.storage)
    block.carried = allocate(carried_arrays(len(block.spatial), channels), block.spatial, block.storage.dtype)
    block.carried[: 2 * channels].reshape(2, *block.storage.shape)[...] = block.storage


def iterate(block: Block, weight: float, count: int, first: int = 0, every: int = 0) -> None:
    """Take the iterations first, first + 1, ... on a block, in place.

    Parameters
    ----------
    block : Block
        With what `start` made.
    weight : float
        Weight of the total variation, in image units times length.
    count : int
        Number of iterations.
    first : int
        Iterations taken before.
    every : int
        After so many iterations the state becomes the data and the step sizes begin anew, which makes them
        implicit steps of a flow; 0 for never.
    """
    assert block.carried is not None
    numbers = np.empty((count, 9), block.storage.dtype)
    for k in range(count):
        numbers[k] = step_numbers(first + k, weight, every, block.spacing)
    _descend(block, block.storage, block.carried, numbers, False)


def iterate_between(block: Block, u: Floats, others: Floats, weight: float, count: int) -> None:
    """Iterate towards the minimum of weight TV(u) + ∫ f u over 0 <= u <= 1, in place.

    tau = sigma = 1 / L, sigma tau L² = 1 (Chambolle and Pock 2011, algorithm 1).

    Parameters
    ----------
    block : Block
        Its walls and its open sides.
    u, others : ndarray of shape (1, cells) and (2 + axes, cells)
        The state; the force f, the extrapolated state and the dual.
    weight : float
        Weight of the total variation, in units of f times length.
    count : int
        Number of iterations.
    """
    tau = 1 / operator_norm(block.spacing)
    steps = [tau / h for h in reversed(block.spacing)] + [0.0] * (3 - len(block.spacing))
    numbers = np.empty((count, 9), u.dtype)
    numbers[:] = (*steps, *steps, tau / weight, 1.0, 0.0)
    _descend(block, u, others, numbers, True)


def _descend(block: Block, u: Floats, carried: Floats, numbers: Floats, between_ends: bool) -> None:
    """Take one iteration for each row of `numbers`, see `step_numbers`."""
    ndim, count = len(block.spatial), len(numbers)
    grid = kernel_grid(block, len(u))
    few = len(u) if len(u) <= _FEW else 0
    descend = build_descent(block.valid_storage is not None, ndim == 3, few, between_ends)
    group, band = _group_shape(count, grid, (3 + ndim) * u.itemsize)
    bounds = level_bounds(block, 1, 0, count)
    for k in range(0, count, group):
        some = numbers[k : k + group]
        descend(u.reshape(-1), carried.reshape(-1), kernel_walls(block), grid, some, k, bounds, band)


def operator_norm(spacing: Sequence[float]) -> float:
    """Return a bound on the norm of the gradient by forward differences, 2 sqrt(Σ 1 / h²)."""
    return 2 * math.sqrt(sum(1 / h**2 for h in spacing))


def step_numbers(k: int, weight: float, every: int, spacing: Sequence[float]) -> list[float]:
    """Return the nine factors of iteration k: sigma / h and rate / h along x, y, z; rate / weight; theta; restart.

    The last is 1 where the state becomes the data before the iteration, else 0.

    tau = 4 weight / (n + 4), sigma tau L² = 1, theta = (n + 4) / (n + 5), rate = tau / (1 + tau / weight) for
    the n-th iteration since the state became the data. The functional is convex with modulus 1 / weight, and
    these steps keep theta² (1 + 2 tau / weight) >= 1 (Chambolle and Pock 2011, section 5), so the error falls
    like 1 / n². Their own rule lets tau fall four times as fast, which is slower where flat areas have to form:
    for a disc of radius 50 its error after 1000 iterations was 7 times as large, FISTA's 2.5 times.
    """
    n = k % every if every else k
    tau, theta = 4 * weight / (n + 4), 0.0 if n + 1 == every else (n + 4) / (n + 5)
    sigma, rate = 1 / (tau * operator_norm(spacing) ** 2), tau / (1 + tau / weight)
    reciprocals = [1 / h for h in reversed(spacing)] + [0.0] * (3 - len(spacing))
    steps = [sigma * r for r in reciprocals] + [rate * r for r in reciprocals]
    return [*steps, rate / weight, theta, float(n == 0)]


def _group_shape(count: int, grid: tuple[int, ...], cell_bytes: int) -> tuple[int, int]:
    """Return the iterations that share one pass through memory and the rows of a band: what stays in cache."""
    channels, _, middle, _, pitch = grid
    band = min(_BAND, middle)
    fitting = _GROUP_BYTES // (channels * band * pitch * cell_bytes)
    return max(1, min(count, _GROUP_STEPS, max(2, fitting))), band
