"""Smooth with a finite Gaussian that sees nothing beyond walls, by normalised convolution plane by plane."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, aligned_zeros, allocate, row_pitch
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls
from diffusion_ops.kernels.lanes import begin, between, copied, inlined, kernel, load, shift, store, where

TRUNCATE = 4
"""The Gaussian ends at this many sigma: 6.3e-5 of its mass is dropped, the rest is normalised."""


def gaussian_radius(sigma: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the radius in cells per axis of a Gaussian of `sigma` in the units of `spacing`."""
    return tuple(math.ceil(TRUNCATE * sigma / h) for h in spacing)


def gaussian_taps(sigma: float, radius: int) -> Floats:
    """Return exp(-i² / (2 sigma²)) for i = -radius ... radius; sigma in cells, not normalised."""
    i = np.arange(-radius, radius + 1, dtype=np.float64)
    return np.exp(-(i**2) / (2 * sigma**2)) if radius else np.ones(1)


@inlined
def _along(masked, u, at, step, valid, i, stride, before, after, taps, radius):  # type: ignore[no-untyped-def]
    """Return Σ_k taps[radius + k] m u over the cells k strides away from a group of cells, |k| <= radius.

    Cells at the same distance are added first: half the products, and a turned image gives the turned bits.

    Parameters
    ----------
    masked : bool
        Whether m is read from `valid`; else it is 1.
    u, at, step : address, int, int
        The group is u[at], its neighbours are u[at + k step].
    valid, i, stride : address, int, int
        The same for the mask.
    before, after : int
        How many cells there are on either side.
    taps, radius : address, int
        2 radius + 1 of them.
    """
    x = load(u, at)
    x = where(load(valid, i), x) if masked else x
    total = x * taps[radius]
    both = min(min(before, after), radius)
    for k in range(1, both + 1):
        x, y = load(u, at - k * step), load(u, at + k * step)
        x = where(load(valid, i - k * stride), x) if masked else x
        y = where(load(valid, i + k * stride), y) if masked else y
        total = total + (x + y) * taps[radius + k]
    side = 1 if before < after else -1
    for k in range(both + 1, min(max(before, after), radius) + 1):
        x = load(u, at + side * k * step)
        x = where(load(valid, i + side * k * stride), x) if masked else x
        total = total + x * taps[radius + k]
    return total


@copied
def _smooth_plane(masked, out, u, every, valid, p, size, taps, radii, plane, line, pad):  # type: ignore[no-untyped-def]
    """Fill plane p of a channel with the sums over the taps of all axes; cells beyond a wall count as 0.

    The outer axis is summed into `plane`, then row by row the middle axis into `line`, which has room for the taps on
    both sides, and then the row itself.

    Parameters
    ----------
    out : address
        Where the plane begins.
    u, every : address, int
        Cell i of the channel is u[every * i]: 1 for a channel, 0 for LANES ones that stand for all cells.
    size : tuple of int
        (outer, middle, columns, pitch)
    """
    outer, middle, columns, pitch = size
    for m in range(middle):
        for j in range(0, pitch, LANES):
            i, stride = (p * middle + m) * pitch + j, middle * pitch
            at, step = every * i, every * stride
            total = _along(masked, u, at, step, valid, i, stride, p, outer - 1 - p, taps[0], radii[0])
            store(plane, m * pitch + j, where(between(0, columns - j), total))
    for m in range(middle):
        for j in range(0, pitch, LANES):
            i, after = m * pitch + j, middle - 1 - m
            total = _along(False, plane, i, pitch, valid, i, pitch, m, after, taps[1], radii[1])
            store(line, pad + j, total)
        for j in range(0, pitch, LANES):
            i, r = pad + j, radii[2]
            store(out, m * pitch + j, _along(False, line, i, 1, valid, i, 1, r, r, taps[2], r))


@functools.cache
def build_smooth(masked: bool) -> Callable[..., None]:
    """Compile the normalised convolution for blocks with or without a mask."""

    @kernel
    def smooth(out, u, valid, grid, taps, ones, plane, line, weight):  # type: ignore[no-untyped-def]
        """Fill out, flat (channels, cells), with K(u m) / K(m).

        Without a mask K(m) is the same for all planes that the taps do not reach beyond, and found once for them.

        Parameters
        ----------
        valid : bool array of (cells,)
        grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
        taps : three arrays of odd lengths, along the three axes of the grid
        ones : array of LANES ones
        plane, line, weight : scratch of (middle * pitch,), of a row with the taps at both ends, and as plane
        """
        channels, outer, middle, columns, pitch = grid
        cells, pad = outer * middle * pitch, (line.shape[0] - pitch) // 2
        radii = (taps[0].shape[0] // 2, taps[1].shape[0] // 2, taps[2].shape[0] // 2)
        taps = (begin(taps[0]), begin(taps[1]), begin(taps[2]))
        out, u, valid, ones = begin(out), begin(u), begin(valid), begin(ones)
        plane, line, weight = begin(plane), begin(line), begin(weight)
        for p in range(outer):
            size, first = (outer, middle, columns, pitch), p * middle * pitch
            weigh = masked or p <= radii[0] or p + radii[0] >= outer
            # The weight goes before the channels, in the same loop: compiled once.
            for c in range(-1 if weigh else 0, channels):
                source, every = (ones, 0) if c < 0 else (shift(u, c * cells), 1)
                at = weight if c < 0 else shift(out, c * cells + first)
                _smooth_plane(masked, at, source, every, valid, p, size, taps, radii, plane, line, pad)
                for m in range(middle if c >= 0 else 0):
                    for j in range(0, pitch, LANES):
                        i = m * pitch + j
                        x = where(between(0, columns - j), load(at, i) / load(weight, i))
                        x = where(load(valid, first + i), x) if masked else x
                        store(at, i, x)

    return smooth


def smoothed(block: Block, sigma: float) -> Floats:
    """Return the state smoothed by a Gaussian, of shape (channels, cells); the block is not changed.

    K(u m) / K(m), where m is 1 in valid cells and 0 beyond walls (Knutsson and Westin 1993): a wall is
    no-flux for the smoothing too. Invalid cells come out as 0.

    Parameters
    ----------
    block : Block
        Its invalid cells hold finite numbers.
    sigma : float
        Standard deviation in the units of the spacing.
    """
    if sigma == 0:
        return block.storage
    u, grid = block.storage, kernel_grid(block, len(block.storage))
    radii = gaussian_radius(sigma, block.spacing)
    taps = [gaussian_taps(sigma / h, r).astype(u.dtype) for h, r in zip(block.spacing, radii, strict=True)]
    if len(taps) == 2:
        taps.insert(1, np.ones(1, u.dtype))
    plane, weight = (aligned_zeros(grid[2] * grid[4], u.dtype) for _ in range(2))
    line = aligned_zeros(grid[4] + 2 * row_pitch(radii[-1]), u.dtype)
    out, ones = allocate(len(u), block.spatial, u.dtype), np.ones(LANES, u.dtype)
    smooth = build_smooth(block.valid_storage is not None)
    smooth(out.reshape(-1), u.reshape(-1), kernel_walls(block), grid, tuple(taps), ones, plane, line, weight)
    return out
