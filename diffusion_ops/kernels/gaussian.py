"""Smooth with a finite Gaussian that sees nothing beyond walls, by normalised convolution plane by plane."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, aligned_zeros, allocate, row_pitch
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls
from diffusion_ops.kernels.lanes import (
    begin,
    between,
    copied,
    fill,
    inlined,
    kernel,
    load,
    shift,
    store,
    where,
)

TRUNCATE = 4
"""The Gaussian ends at this many sigma: 6.3e-5 of its mass is dropped, the rest is normalised."""


def gaussian_radius(sigma: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the radius in cells per axis of a Gaussian of `sigma` in the units of `spacing`."""
    return tuple(math.ceil(TRUNCATE * sigma / h) for h in spacing)


def gaussian_taps(sigma: float, radius: int) -> Floats:
    """Return exp(-i² / (2 sigma²)) for i = -radius ... radius; sigma in cells, not normalised."""
    i = np.arange(-radius, radius + 1, dtype=np.float64)
    return np.exp(-(i**2) / (2 * sigma**2)) if radius else np.ones(1)


@functools.lru_cache(maxsize=64)
def _grid_taps(sigma: float, spacing: tuple[float, ...], dtype: np.dtype[Any]) -> tuple[Floats, ...]:
    """Return the taps along the three axes of the kernel's grid: rows of an image lie along its first one."""
    radii = gaussian_radius(sigma, spacing)
    taps = [gaussian_taps(sigma / h, r).astype(dtype) for h, r in zip(spacing, radii, strict=True)]
    return (taps[0], np.ones(1, dtype), taps[1]) if len(taps) == 2 else tuple(taps)


@inlined
def _along(masked, ones, u, valid, i, stride, before, after, taps, radius, one):  # type: ignore[no-untyped-def]
    """Return Σ_k taps[radius + k] m u over the cells k strides away from a group of cells, |k| <= radius.

    Cells at the same distance are added first: half the products, and a turned image gives the turned bits.

    Parameters
    ----------
    masked, ones : bool
        Whether m is read from `valid`, else it is 1; whether u is 1 everywhere.
    u, valid, i, stride : address, address, int, int
        The group is u[i], its neighbours are u[i + k stride].
    before, after : int
        How many cells there are on either side.
    taps, radius : address, int
        2 radius + 1 of them.
    one : lanes
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


@copied
def _sum_planes(masked, ones, plane, u, valid, p, size, taps, radius, one):  # type: ignore[no-untyped-def]
    """Fill `plane` with the sums over the taps of the outer axis around plane p of a channel; 0 in the padding.

    Cells beyond a wall count as 0. `ones` takes 1 for every cell of the channel.
    """
    outer, middle, columns, pitch = size
    for m in range(middle):
        for j in range(0, pitch, LANES):
            i, stride, after = (p * middle + m) * pitch + j, middle * pitch, outer - 1 - p
            total = _along(masked, ones, u, valid, i, stride, p, after, taps, radius, one)
            store(plane, m * pitch + j, where(between(0, columns - j), total))


@copied
def _sum_cells(out, plane, line, pad, valid, size, taps, radii, one):  # type: ignore[no-untyped-def]
    """Fill a plane of out with the sums over the taps of the middle axis, then over those of the row.

    The first are put row by row into `line`, which has room for the taps, `pad` zeros or more, on both sides.
    """
    _, middle, _, pitch = size
    for m in range(middle):
        for j in range(0, pitch, LANES):
            i, after = m * pitch + j, middle - 1 - m
            total = _along(False, False, plane, valid, i, pitch, m, after, taps[1], radii[1], one)
            store(line, pad + j, total)
        for j in range(0, pitch, LANES):
            total = _along(False, False, line, valid, pad + j, 1, pad, pad, taps[2], radii[2], one)
            store(out, m * pitch + j, total)


@functools.cache
def build_smooth(masked: bool) -> Callable[..., None]:
    """Compile the normalised convolution for blocks with or without a mask."""

    @kernel
    def smooth(out, u, valid, grid, taps, plane, line, weight):  # type: ignore[no-untyped-def]
        """Fill out, flat (channels, cells), with K(u m) / K(m).

        Without a mask K(m) is the same for all planes that the taps do not reach beyond, and found once for them.

        Parameters
        ----------
        valid : bool array of (cells,)
        grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
        taps : three arrays of odd lengths, along the three axes of the grid
        plane, line, weight : scratch of (middle * pitch,), of a row with the taps at both ends, and as plane
        """
        channels, outer, middle, columns, pitch = grid
        cells, pad = outer * middle * pitch, (line.shape[0] - pitch) // 2
        radii = (taps[0].shape[0] // 2, taps[1].shape[0] // 2, taps[2].shape[0] // 2)
        one = fill(taps[2][radii[2]] / taps[2][radii[2]])
        taps = (begin(taps[0]), begin(taps[1]), begin(taps[2]))
        out, u, valid = begin(out), begin(u), begin(valid)
        plane, line, weight = begin(plane), begin(line), begin(weight)
        for p in range(outer):
            size, first = (outer, middle, columns, pitch), p * middle * pitch
            weigh = masked or p <= radii[0] or p + radii[0] >= outer
            # The weight goes before the channels in the same loop: what they share is compiled once.
            for c in range(-1 if weigh else 0, channels):
                at = weight if c < 0 else shift(out, c * cells + first)
                if c < 0:
                    _sum_planes(masked, True, plane, u, valid, p, size, taps[0], radii[0], one)
                else:
                    source = shift(u, c * cells)
                    _sum_planes(masked, False, plane, source, valid, p, size, taps[0], radii[0], one)
                _sum_cells(at, plane, line, pad, valid, size, taps, radii, one)
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
    taps = _grid_taps(sigma, block.spacing, u.dtype)
    plane, weight = (aligned_zeros(grid[2] * grid[4], u.dtype) for _ in range(2))
    line = aligned_zeros(grid[4] + 2 * row_pitch(len(taps[2]) // 2), u.dtype)
    out = allocate(len(u), block.spatial, u.dtype)
    smooth = build_smooth(block.valid_storage is not None)
    smooth(out.reshape(-1), u.reshape(-1), kernel_walls(block), grid, taps, plane, line, weight)
    return out
