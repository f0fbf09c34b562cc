"""Smooth with a finite Gaussian that sees nothing beyond walls: normalised convolution, exact under any tiling."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffusion_ops.block import Block, Floats, allocate

TRUNCATE = 4
"""The Gaussian ends at this many sigma: 6.3e-5 of its mass is dropped, the rest is normalised."""


def gaussian_radius(sigma: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the radius in cells per axis of a Gaussian of `sigma` in the units of `spacing`."""
    return tuple(math.ceil(TRUNCATE * sigma / h) for h in spacing)


def gaussian_taps(sigma: float, radius: int) -> Floats:
    """Return exp(-i² / (2 sigma²)) for i = -radius ... radius; sigma in cells, not normalised."""
    i = np.arange(-radius, radius + 1, dtype=np.float64)
    return np.exp(-(i**2) / (2 * sigma**2)) if radius else np.ones(1)


@njit(nogil=True, cache=True, error_model="numpy")
def _convolve(out, source, taps, blocks, length, stride):  # type: ignore[no-untyped-def]
    """Convolve along one axis; cells beyond its ends count as zero.

    The array is seen as (blocks, length, stride): `length` cells along the axis, `stride` cells side by side.
    """
    radius = taps.shape[0] // 2
    n = np.uintp(stride)
    for block in range(blocks):
        for i in range(length):
            a = np.uintp((block * length + i) * stride)
            for j in range(n):
                out[a + j] = out.dtype.type(0)
            for k in range(max(-radius, -i), min(radius, length - 1 - i) + 1):
                w = taps[radius + k]
                b = np.uintp((block * length + i + k) * stride)
                for j in range(n):
                    out[a + j] += w * source[b + j]


@njit(nogil=True, cache=True, error_model="numpy")
def _convolve_rows(out, source, taps, rows, pitch, columns):  # type: ignore[no-untyped-def]
    """Convolve along the rows themselves; taps in the outer loop, so that the inner one vectorises."""
    radius = taps.shape[0] // 2
    for row in range(rows):
        a = row * pitch
        for j in range(pitch):
            out[a + j] = out.dtype.type(0)
        for k in range(-radius, radius + 1):
            w = taps[radius + k]
            start = max(0, -k)
            n = np.uintp(max(0, columns - max(0, k) - start))
            i, b = np.uintp(a + start), np.uintp(a + start + k)
            for j in range(n):
                out[i + j] += w * source[b + j]


def _smooth(cells: Floats, block: Block, sigma: float) -> Floats:
    """Return the separable sum over the taps of all axes of one array of cells."""
    planes, rows, columns, pitch = block.grid
    out = allocate(1, block.spatial, cells.dtype)[0]
    axes = len(block.spatial)
    for axis, (h, radius) in enumerate(zip(block.spacing, gaussian_radius(sigma, block.spacing), strict=True)):
        taps = gaussian_taps(sigma / h, radius).astype(cells.dtype)
        if axis == axes - 1:
            _convolve_rows(out, cells, taps, planes * rows, pitch, columns)
        elif axis == axes - 2:
            _convolve(out, cells, taps, planes, rows, pitch)
        else:
            _convolve(out, cells, taps, 1, planes, rows * pitch)
        cells, out = out, cells if axis else allocate(1, block.spatial, cells.dtype)[0]
    return cells


def smoothed(block: Block, sigma: float) -> Floats:
    """Return the state smoothed by a Gaussian, of shape (channels, cells); the block is not changed.

    K(u m) / K(m), where m is 1 in valid cells and 0 beyond walls (Knutsson and Westin 1993): a wall is no-flux for the
    smoothing too. Invalid cells come out as 0.

    Parameters
    ----------
    block : Block
        Its invalid cells hold finite numbers.
    sigma : float
        Standard deviation in the units of the spacing.
    """
    if sigma == 0:
        return block.storage
    dtype = block.storage.dtype
    inside = allocate(1, block.spatial, dtype)[0]
    _as_rows(inside, block)[:, : block.grid[2]] = 1
    if block.valid_storage is not None:
        inside *= block.valid_storage[0]
    weight = _smooth(inside.copy(), block, sigma)
    result = allocate(block.storage.shape[0], block.spatial, dtype)
    for c, channel in enumerate(block.storage):
        np.divide(_smooth(channel * inside, block, sigma), weight, out=result[c], where=inside > 0)
    return result


def _as_rows(cells: Floats, block: Block) -> Floats:
    return cells.reshape(-1, block.grid[3])
