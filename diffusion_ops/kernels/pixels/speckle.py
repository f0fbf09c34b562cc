"""Take steps of speckle reducing diffusion ∂u/∂t = div(c(q) ∇u) on a block, in place, with new coefficients every step.

A step goes once over the planes of a volume, or the rows of an image. The coefficients of the next plane are found
before a plane is written, and the flux that leaves a plane is kept until the next one needs it: no second copy of
the state, and each face is computed once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, aligned_zeros
from diffusion_ops.kernels.conductance import exp_negative
from diffusion_ops.kernels.differences import differences
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls, open_faces, right_of
from diffusion_ops.kernels.lanes import (
    begin,
    between,
    copied,
    fill,
    inlined,
    kernel,
    load,
    previous,
    shift,
    store,
    where,
)

RATIONAL, EXPONENTIAL = range(2)
"""Forms of c(q): 1 / (1 + x) and exp(-x) with x = (q² - q0²) / (q0² (1 + q0²)), at most 1."""


@inlined
def _coefficient(kind, variance, square, level):  # type: ignore[no-untyped-def]
    """Return c(q), q² = variance / square, for level = (q0² (1 + q0²), q0⁴, q0²).

    1 / (1 + x) is q0² (1 + q0²) / (q0⁴ + q²). Where both sides of the quotient are too small for the float type,
    it is no number, and the minimum is 1.
    """
    one = fill(level[0] / level[0])
    if kind == RATIONAL:
        return min(square * level[0] / (square * level[1] + variance), one)
    return exp_negative(max((variance / square - level[2]) / level[0], one - one))


@copied
def _fill_row(kind, masked, volume, out, u, valid, grid, row, weights, level, tiny):  # type: ignore[no-untyped-def]
    """Fill a row of coefficients from the mean and the variance of the neighbours of each cell.

    With weights w that sum to 1 over the neighbours and differences d to them, these have the mean u + Σ w d
    and the variance Σ w d² - (Σ w d)².
    """
    pitch = grid[4]
    for j in range(0, pitch, LANES):
        left, right, up, down, front, back = differences(masked, volume, u, valid, grid, row, j)
        mean, square = (left + right) * weights[0], (left * left + right * right) * weights[0]
        mean, square = mean + (up + down) * weights[1], square + (up * up + down * down) * weights[1]
        if volume:
            mean = mean + (front + back) * weights[2]
            square = square + (front * front + back * back) * weights[2]
        variance = max(square - mean * mean, mean - mean)
        mean = load(u, row * pitch + j) + mean
        store(out, j, _coefficient(kind, variance, max(mean * mean, tiny), level))


@inlined
def _exchange(kept, j, leaving):  # type: ignore[no-untyped-def]
    """Return what leaves through the lower faces less what entered by the upper; keep it for the next row."""
    change = leaving - load(kept, j)
    store(kept, j, leaving)
    return change


@copied
def _step_row(masked, volume, u, valid, grid, row, nexts, c, kept, rates):  # type: ignore[no-untyped-def]
    """Take one step of a row: fluxes to the right, below and behind, with the mean of the two coefficients.

    `nexts` are the first cells of the rows below and behind, `c` the coefficients of the row and of those two,
    `kept` the fluxes that enter from above and from the front. A row at a wall is its own neighbour.
    """
    columns, pitch = grid[3], grid[4]
    here = row * pitch
    flux = fill(rates[0] - rates[0])
    for j in range(0, pitch, LANES):
        i, before = here + j, flux
        centre, own = load(u, i), load(c[0], j)
        flux = (right_of(u, i, here + pitch - LANES) - centre) * (
            (own + right_of(c[0], j, pitch - LANES)) * rates[0]
        )
        flux = where(between(0, columns - 1 - j), open_faces(masked, valid, i, i + 1, flux))
        change = flux - previous(before, flux)
        if volume:
            k = nexts[0] + j
            leaving = (load(u, k) - centre) * ((own + load(c[1], j)) * rates[1])
            change = change + _exchange(kept[0], j, open_faces(masked, valid, i, k, leaving))
        k, rate = nexts[1] + j, rates[2 if volume else 1]
        leaving = (load(u, k) - centre) * ((own + load(c[2], j)) * rate)
        change = change + _exchange(kept[1], j, open_faces(masked, valid, i, k, leaving))
        store(u, i, centre + change)


@functools.cache
def build_sweep(kind: int, masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the sweep for one form of the coefficient and one sort of block."""

    @kernel
    def sweep(u, valid, grid, weights, rates, levels, scratch):  # type: ignore[no-untyped-def]
        """Take a step for every row of levels, in place.

        Parameters
        ----------
        u : array of (channels, cells), flat
        valid : bool array of (cells,)
        grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
        weights, rates : (3,), share of a neighbour in mean and variance, and tau / (2 h²), along x, y, z
        levels : array of (steps, 3): q0² (1 + q0²), q0⁴, q0²
        scratch : array of (3 middle + 1) pitch: coefficients of two planes, fluxes from the front, from above
        """
        channels, outer, middle, _, pitch = grid
        plane, tiny = middle * pitch, u.dtype.type(np.finfo(u.dtype).tiny)
        zero = u.dtype.type(0)
        u, valid, scratch = begin(u), begin(valid), begin(scratch)
        front, above = shift(scratch, 2 * plane), shift(scratch, 3 * plane)
        for s in range(levels.shape[0]):
            level = (levels[s, 0], levels[s, 1], levels[s, 2])
            for channel in range(channels):
                x = shift(u, channel * outer * plane)
                for j in range(0, plane, LANES):
                    store(front, j, fill(zero))
                for p in range(-1, outer):
                    for m in range(middle if p + 1 < outer else 0):
                        out = shift(scratch, (p + 1) % 2 * plane + m * pitch)
                        row = (p + 1) * middle + m
                        _fill_row(kind, masked, volume, out, x, valid, grid, row, weights, level, tiny)
                    for j in range(0, pitch, LANES):
                        store(above, j, fill(zero))
                    for m in range(middle if p >= 0 else 0):
                        here, own = (p * middle + m) * pitch, p % 2 * plane + m * pitch
                        last, end = m + 1 == middle, p + 1 == outer
                        nexts = (here if last else here + pitch, here if end else here + plane)
                        c = (
                            shift(scratch, own),
                            shift(scratch, own if last else own + pitch),
                            shift(scratch, own if end else (p + 1) % 2 * plane + m * pitch),
                        )
                        kept = (above, shift(front, m * pitch))
                        _step_row(masked, volume, x, valid, grid, p * middle + m, nexts, c, kept, rates)

    return sweep


def reduce_speckle(block: Block, kind: int, tau: float, levels: Sequence[float]) -> None:
    """Take len(levels) steps of size tau on the state of a block, in place.

    Parameters
    ----------
    block : Block
        Gives the grid and the walls.
    kind : int
        RATIONAL or EXPONENTIAL.
    levels : sequence of float
        q0 of every step.
    """
    u, grid = block.storage, kernel_grid(block, len(block.storage))
    inverse = [1 / h**2 for h in reversed(block.spacing)]
    weights = (inverse + [0.0])[:3]
    total = 2 * sum(inverse)
    # Where q0⁴ is 0 a coefficient is no number; a level this low, 3e-10 in float32, stops everything already.
    q2 = np.maximum(np.square(np.array(levels, np.float64)), math.sqrt(np.finfo(u.dtype).tiny))
    sweep = build_sweep(kind, block.valid_storage is not None, len(block.spatial) == 3)
    sweep(
        u.reshape(-1),
        kernel_walls(block),
        grid,
        tuple(u.dtype.type(w / total) for w in weights),
        tuple(u.dtype.type(tau * w / 2) for w in weights),
        np.stack([q2 * (1 + q2), q2 * q2, q2], axis=1).astype(u.dtype),
        aligned_zeros((3 * grid[2] + 1) * grid[4], u.dtype),
    )
