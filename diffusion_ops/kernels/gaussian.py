"""Smooth with a finite Gaussian that sees nothing beyond walls, by normalised convolution plane by plane."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numba import njit

from diffusion_ops.blocks.block import LANES, Block, Floats, aligned_zeros, allocate, row_pitch
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls
from diffusion_ops.kernels.lanes import begin, between, fill, load, shift, store, where

TRUNCATE = 4
"""The Gaussian ends at this many sigma: 6.3e-5 of its mass is dropped, the rest is normalised."""


def gaussian_radius(sigma: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the radius in cells per axis of a Gaussian of `sigma` in the units of `spacing`."""
    return tuple(math.ceil(TRUNCATE * sigma / h) for h in spacing)


def gaussian_taps(sigma: float, radius: int) -> Floats:
    """Return exp(-i² / (2 sigma²)) for i = -radius ... radius; sigma in cells, not normalised."""
    i = np.arange(-radius, radius + 1, dtype=np.float64)
    return np.exp(-(i**2) / (2 * sigma**2)) if radius else np.ones(1)


@njit(inline="always")
def _along(masked, ones, u, valid, i, stride, before, after, taps, radius, one):  # type: ignore[no-untyped-def]
    """Return the sum over the taps at the group u[i], with `before` and `after` cells of stride on its sides.

    Cells at the same distance are added first: half the products, and a turned image gives the turned bits.
    """
    x = one if ones else load(u, i)
    x = where(load(valid, i), x) if masked else x
    total = x * taps[radius]
    for k in range(1, radius + 1):
        tap = taps[radius + k]
        if k <= before and k <= after:
            x, y = (one, one) if ones else (load(u, i - k * stride), load(u, i + k * stride))
            x = where(load(valid, i - k * stride), x) if masked else x
            y = where(load(valid, i + k * stride), y) if masked else y
            total = total + (x + y) * tap
        elif k <= before or k <= after:
            other = i - k * stride if k <= before else i + k * stride
            x = one if ones else load(u, other)
            x = where(load(valid, other), x) if masked else x
            total = total + x * tap
    return total


@njit(inline="always")
def _smooth_plane(masked, ones, out, at, u, valid, p, size, taps, radii, plane, line, pad):  # type: ignore[no-untyped-def]
    """Fill one plane of out with the sums over the taps of all axes; cells beyond a wall count as 0.

    u begins at a channel; `ones` takes 1 for every cell instead. The outer axis is summed into `plane`, then
    row by row the middle axis into `line`, which has room for the taps on both sides, and then the row
    itself.
    """
    outer, middle, columns, pitch = size
    one = fill(taps[2][radii[2]] / taps[2][radii[2]])
    for m in range(middle):
        for j in range(0, pitch, LANES):
            i = (p * middle + m) * pitch + j
            stride, after = middle * pitch, outer - 1 - p
            total = _along(masked, ones, u, valid, i, stride, p, after, taps[0], radii[0], one)
            store(plane, m * pitch + j, where(between(0, columns - j), total))
    for m in range(middle):
        for j in range(0, pitch, LANES):
            i, after = m * pitch + j, middle - 1 - m
            store(
                line,
                pad + j,
                _along(False, False, plane, valid, i, pitch, m, after, taps[1], radii[1], one),
            )
        for j in range(0, pitch, LANES):
            total = _along(False, False, line, valid, pad + j, 1, pad, pad, taps[2], radii[2], one)
            store(out, at + m * pitch + j, total)


@functools.cache
def build_smooth(masked: bool) -> Callable[..., None]:
    """Compile the normalised convolution for blocks with or without a mask."""

    @njit(nogil=True, cache=True, error_model="numpy")
    def smooth(out, u, valid, grid, taps, plane, line, weight):  # type: ignore[no-untyped-def]
        """Fill out, flat (channels, cells), with K(u m) / K(m); the last three arrays are scratch.

        Without a mask K(m) is the same for all planes that the taps do not reach beyond, and found once for them.
        """
        channels, outer, middle, columns, pitch = grid
        cells, pad = outer * middle * pitch, (line.shape[0] - pitch) // 2
        radii = (taps[0].shape[0] // 2, taps[1].shape[0] // 2, taps[2].shape[0] // 2)
        taps = (begin(taps[0]), begin(taps[1]), begin(taps[2]))
        out, u, valid = begin(out), begin(u), begin(valid)
        plane, line, weight = begin(plane), begin(line), begin(weight)
        for p in range(outer):
            size = (outer, middle, columns, pitch)
            if masked or p <= radii[0] or p + radii[0] >= outer:
                _smooth_plane(masked, True, weight, 0, u, valid, p, size, taps, radii, plane, line, pad)
            for c in range(channels):
                at = c * cells + p * middle * pitch
                source = shift(u, c * cells)
                _smooth_plane(masked, False, out, at, source, valid, p, size, taps, radii, plane, line, pad)
                for m in range(middle):
                    for j in range(0, pitch, LANES):
                        i = m * pitch + j
                        x = where(between(0, columns - j), load(out, at + i) / load(weight, i))
                        x = where(load(valid, p * middle * pitch + i), x) if masked else x
                        store(out, at + i, x)

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
    out = allocate(len(u), block.spatial, u.dtype)
    smooth = build_smooth(block.valid_storage is not None)
    smooth(out.reshape(-1), u.reshape(-1), kernel_walls(block), grid, tuple(taps), plane, line, weight)
    return out
