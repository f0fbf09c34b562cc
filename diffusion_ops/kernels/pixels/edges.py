"""Read edges off a smoothed image: how steep it is and which way, where the steepest and the turning points are."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, allocate
from diffusion_ops.kernels.conductance import CONSTANT, conductance
from diffusion_ops.kernels.differences import differences
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls, neighbour_rows
from diffusion_ops.kernels.lanes import begin, copied, fill, kernel, shift, store
from diffusion_ops.kernels.tensors.structure import central_gradient

SLOPE = CONSTANT
"""Instead of a conductance: the square root of q itself."""


@functools.cache
def build_slope(kind: int, masked: bool, volume: bool) -> Callable[..., None]:
    """Compile g(Σ_c |∇u_c|²) at every cell, or the square root of it."""

    @kernel
    def slope(out, u, valid, grid, halves):  # type: ignore[no-untyped-def]
        """Fill out, flat (cells,), from a smoothed image u, flat (channels, cells)."""
        channels, outer, middle, columns, pitch = grid
        cells, zero = outer * middle * pitch, u.dtype.type(0)
        out, u, valid = begin(out), begin(u), begin(valid)
        for row in range(outer * middle):
            rows = (row * pitch, *neighbour_rows(volume, row, outer, middle, pitch))
            for j in range(0, pitch, LANES):
                q = fill(zero)
                for c in range(channels):
                    form, channel = (masked, volume), shift(u, c * cells)
                    x, y, z = central_gradient(form, channel, valid, rows, j, columns, halves)
                    q = q + x * x + y * y
                    q = q + z * z if volume else q
                q = math.sqrt(q) if kind == SLOPE else conductance(kind, q)
                store(out, row * pitch + j, q)

    return slope


@functools.cache
def build_gradient(masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the gradient of one channel."""

    @kernel
    def gradient(out, u, valid, grid, halves):  # type: ignore[no-untyped-def]
        """Fill out, flat (axes, cells) along x, y, z, from a smoothed image u, flat (cells,)."""
        _, outer, middle, columns, pitch = grid
        cells = outer * middle * pitch
        out, u, valid = begin(out), begin(u), begin(valid)
        for row in range(outer * middle):
            rows = (row * pitch, *neighbour_rows(volume, row, outer, middle, pitch))
            for j in range(0, pitch, LANES):
                i = row * pitch + j
                x, y, z = central_gradient((masked, volume), u, valid, rows, j, columns, halves)
                store(out, i, x)
                store(out, cells + i, y)
                if volume:
                    store(out, 2 * cells + i, z)

    return gradient


@functools.cache
def build_laplacian(masked: bool, volume: bool) -> Callable[..., None]:
    """Compile Σ_c Δu_c at every cell."""

    @kernel
    def laplacian(out, u, valid, grid, weights):  # type: ignore[no-untyped-def]
        """Fill out, flat (cells,); weights are 1 / h² along x, y, z."""
        channels, outer, middle, _, pitch = grid
        cells, zero = outer * middle * pitch, u.dtype.type(0)
        out, u, valid = begin(out), begin(u), begin(valid)
        for row in range(outer * middle):
            for j in range(0, pitch, LANES):
                total = fill(zero)
                for c in range(channels):
                    channel = shift(u, c * cells)
                    left, right, up, down, front, back = differences(
                        masked, volume, channel, valid, grid, row, j
                    )
                    total = total + (left + right) * weights[0] + (up + down) * weights[1]
                    total = total + (front + back) * weights[2] if volume else total
                store(out, row * pitch + j, total)

    return laplacian


@copied
def _at(masked, field, valid, grid, p, m, j):  # type: ignore[no-untyped-def]
    """Return a field at a plane, row and column, 0 beyond walls and edges."""
    planes, rows, columns, pitch = grid
    if p < 0 or p >= planes or m < 0 or m >= rows or j < 0 or j >= columns:
        return field.dtype.type(0)
    i = (p * rows + m) * pitch + j
    return field[i] if not masked or valid[i] else field.dtype.type(0)


@functools.cache
def build_thin(masked: bool) -> Callable[..., None]:
    """Compile non-maximum suppression with two thresholds."""

    @kernel
    def thin(out, slope, axis, valid, grid, inverse, low, high):  # type: ignore[no-untyped-def]
        """Fill out, flat (cells,), with 2 where a maximum across the edge reaches `high`, 1 for `low`, else 0.

        Parameters
        ----------
        slope : array of (cells,)
        axis : array of (axes, cells): the direction across the edge along x, y(, z), of any length
        grid : (planes, rows, columns, pitch)
        inverse : 1 / h along x, y, z
        """
        planes, rows, columns, pitch = grid
        one, zero = slope.dtype.type(1), slope.dtype.type(0)
        slack = one + slope.dtype.type(16 * np.finfo(slope.dtype).eps)
        for p in range(planes):
            for m in range(rows):
                for j in range(columns):
                    i = (p * rows + m) * pitch + j
                    out[i] = zero
                    if not (slope[i] >= low and slope[i] > zero) or (masked and not valid[i]):
                        continue
                    x, y = axis[0, i] * inverse[0], axis[1, i] * inverse[1]
                    z = axis[2, i] * inverse[2] if axis.shape[0] == 3 else zero
                    # The ray leaves the 3 x 3 (x 3) cells at these parts of the way to a diagonal neighbour.
                    most = max(abs(x), abs(y), abs(z))
                    wx, wy, wz = abs(x) / most, abs(y) / most, abs(z) / most
                    sx, sy, sz = int(math.copysign(1, x)), int(math.copysign(1, y)), int(math.copysign(1, z))
                    largest = True
                    for side in (1, -1):
                        beyond = zero
                        for corner in range(8):
                            dx, dy, dz = corner & 1, corner >> 1 & 1, corner >> 2
                            share = (
                                (wx if dx else one - wx) * (wy if dy else one - wy) * (wz if dz else one - wz)
                            )
                            if share > zero:
                                a, b, c = p + side * sz * dz, m + side * sy * dy, j + side * sx * dx
                                beyond += share * _at(masked, slope, valid, grid, a, b, c)
                        largest &= beyond <= slope[i] * slack
                    if largest:
                        out[i] = one + one if slope[i] >= high else one

    return thin


@functools.cache
def build_crossings(masked: bool) -> Callable[..., None]:
    """Compile the search for changes of sign."""

    @kernel
    def crossings(out, field, slope, valid, grid, contrast):  # type: ignore[no-untyped-def]
        """Fill out, flat (cells,), with 1 where the field changes its sign and the slope is at least `contrast`.

        Of two neighbours with opposite signs the one closer to 0 is marked, both where they are equally close.
        A cell of exactly 0 is marked between two neighbours on opposite sides with opposite signs.
        """
        planes, rows, columns, pitch = grid
        one, zero = field.dtype.type(1), field.dtype.type(0)
        for p in range(planes):
            for m in range(rows):
                for j in range(columns):
                    i = (p * rows + m) * pitch + j
                    here, found = field[i], False
                    if masked and not valid[i]:
                        out[i] = zero
                        continue
                    for k in range(3):
                        dz, dy, dx = k == 2, k == 1, k == 0
                        before = _at(masked, field, valid, grid, p - dz, m - dy, j - dx)
                        after = _at(masked, field, valid, grid, p + dz, m + dy, j + dx)
                        if here == zero:
                            found |= (before < zero < after) or (after < zero < before)
                        else:
                            found |= (here < zero) != (before < zero) and abs(here) <= abs(before)
                            found |= (here < zero) != (after < zero) and abs(here) <= abs(after)
                    out[i] = one if found and slope[i] >= contrast else zero

    return crossings


def slope_of(block: Block, smooth: Floats, kind: int = SLOPE, contrast: float = 1.0) -> Floats:
    """Return |∇u| / contrast of a smoothed image, or a conductance of it, of shape (1, cells).

    |∇u|² = Σ_c |∇u_c|² (Di Zenzo 1986), by central differences; a neighbour beyond a wall repeats the cell.
    """
    out = allocate(1, block.spatial, smooth.dtype)
    fill_slope = build_slope(kind, block.valid_storage is not None, len(block.spatial) == 3)
    grid, halves = (
        kernel_grid(block, len(smooth)),
        _per_axis(block, smooth, [0.5 / (h * contrast) for h in block.spacing]),
    )
    fill_slope(out.reshape(-1), smooth.reshape(-1), kernel_walls(block), grid, halves)
    return out


def gradient_of(block: Block, smooth: Floats) -> Floats:
    """Return the gradient of a smoothed channel along x, y(, z), of shape (axes, cells)."""
    out = allocate(len(block.spatial), block.spatial, smooth.dtype)
    fill_gradient = build_gradient(block.valid_storage is not None, len(block.spatial) == 3)
    halves = _per_axis(block, smooth, [0.5 / h for h in block.spacing])
    fill_gradient(out.reshape(-1), smooth.reshape(-1), kernel_walls(block), kernel_grid(block, 1), halves)
    return out


def laplacian_of(block: Block, smooth: Floats) -> Floats:
    """Return Σ_c Δu_c of a smoothed image, of shape (1, cells)."""
    out = allocate(1, block.spatial, smooth.dtype)
    fill_laplacian = build_laplacian(block.valid_storage is not None, len(block.spatial) == 3)
    grid, weights = (
        kernel_grid(block, len(smooth)),
        _per_axis(block, smooth, [1 / h**2 for h in block.spacing]),
    )
    fill_laplacian(out.reshape(-1), smooth.reshape(-1), kernel_walls(block), grid, weights)
    return out


def thinned(block: Block, slope: Floats, axis: Floats, low: float, high: float) -> Floats:
    """Return edges of one cell's width, of shape (1, cells): 2 strong, 1 weak, 0 none.

    A cell is kept where the slope is at least as large as at both points where the line through it across the edge
    leaves the cells around it; there it is interpolated linearly between cells, and it is 0 beyond walls. Slopes
    that differ by rounding only count as equal.
    """
    out, real = allocate(1, block.spatial, slope.dtype), slope.dtype.type
    thin = build_thin(block.valid_storage is not None)
    inverse = _per_axis(block, slope, [1 / h for h in block.spacing])
    thin(out[0], slope[0], axis, kernel_walls(block), block.grid, inverse, real(low), real(high))
    return out


def crossed(block: Block, field: Floats, slope: Floats, contrast: float) -> Floats:
    """Return 1 where a field of shape (1, cells) crosses 0 on a slope of at least `contrast`, else 0."""
    out = allocate(1, block.spatial, field.dtype)
    find = build_crossings(block.valid_storage is not None)
    find(out[0], field[0], slope[0], kernel_walls(block), block.grid, field.dtype.type(contrast))
    return out


def _per_axis(block: Block, field: Floats, values: Sequence[float]) -> tuple[float, ...]:
    """Return one number per axis x, y, z, 0 where there is none, in the type of the field."""
    return tuple(field.dtype.type(x) for x in (*reversed(values), 0.0)[:3])
