"""Sweep over bilinear and trilinear elements: fluxes along their edges, one step per sweep, in place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, aligned_zeros
from diffusion_ops.kernels.conductance import CONSTANT, FROZEN, conductance
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls
from diffusion_ops.kernels.finite_elements.element_edges import (
    DENSITY,
    cube,
    cube_density,
    four,
    pair,
    square,
    square_density,
)
from diffusion_ops.kernels.lanes import begin, copied, fill, inlined, kernel, load, previous, shift, store


@copied
def _weigh(kind, volume, masked, out, u, size, valid, rows, n, columns, scales, form):  # type: ignore[no-untyped-def]
    """Fill out with the conductances of a row of elements, element j at LANES + j; channels share one."""
    channels, cells = size
    for j in range(-LANES, n, LANES):
        q = fill(scales[0] - scales[0])
        for c in range(channels):
            at = shift(u, c * cells)
            if volume:
                q = q + cube_density(at, masked, valid, rows, j, n, columns, scales, form)
            else:
                q = q + square_density(at, masked, valid, rows, j, n, columns, scales, form)
        store(out, LANES + j, conductance(kind, q))


@inlined
def _finish(new, i, centre, change, third, w, sort):  # type: ignore[no-untyped-def]
    """Store what becomes of a group of cells."""
    value = centre * w[0] + change
    if sort > 0:
        value = value + load(new, i) * w[1]
    if sort > 1:
        value = value + load(third, i) * w[2]
    store(new, i, value)


@inlined
def _step_squares(form, u, new, third, g, valid, layout, kept, rates, shape, w):  # type: ignore[no-untyped-def]
    """Finish the upper row of cells of a row of squares, and keep what enters the lower one at kept[0]."""
    masked, weighted, sort = form
    rows, write, n, columns = layout
    zero = rates[0] - rates[0]
    top0 = bottom0 = right0 = fill(zero)
    for j in range(-LANES, n, LANES):
        d, is_open = square(u, masked, valid, rows, j, n, columns, fill(zero))
        top, bottom = pair(d[0], d[1], is_open[0], is_open[1], shape)
        left, right = pair(d[2], d[3], is_open[2], is_open[3], shape)
        along, across = fill(rates[0]), fill(rates[1])
        if weighted:
            weight = load(g, LANES + j)
            along, across = weight * rates[0], weight * rates[1]
        top, bottom, left, right = top * along, bottom * along, left * across, right * across
        if j >= 0:
            down = left + previous(right0, right)
            if write:
                change = load(kept[0], j) + ((top - previous(top0, top)) + down)
                _finish(new, rows[0] + j, load(u, rows[0] + j), change, third, w, sort)
            store(kept[0], j, (bottom - previous(bottom0, bottom)) - down)
        top0, bottom0, right0 = top, bottom, right


@inlined
def _step_cubes(form, u, new, third, g, valid, layout, kept, rates, shape, w):  # type: ignore[no-untyped-def]
    """Finish the first row of cells of a row of cubes, and keep what enters the three others.

    kept : addresses of what enters the row of cells below, the row behind and below, and the row behind; the first two
    come from the last row of cubes, the third from the plane before.
    """
    masked, weighted, sort = form
    rows, write, n, columns = layout
    below, corner, behind = kept
    zero = fill(rates[0] - rates[0])
    x0 = (zero, zero, zero, zero)
    y0, z0 = (zero, zero), (zero, zero)
    for j in range(-LANES, n, LANES):
        d, is_open = cube(u, masked, valid, rows, j, n, columns, zero)
        x, y = four(d[0], is_open[0], shape), four(d[1], is_open[1], shape)
        z = four(d[2], is_open[2], shape)
        rx, ry, rz = fill(rates[0]), fill(rates[1]), fill(rates[2])
        if weighted:
            weight = load(g, LANES + j)
            rx, ry, rz = weight * rates[0], weight * rates[1], weight * rates[2]
        x = (x[0] * rx, x[1] * rx, x[2] * rx, x[3] * rx)
        y = (y[0] * ry, y[1] * ry, y[2] * ry, y[3] * ry)
        z = (z[0] * rz, z[1] * rz, z[2] * rz, z[3] * rz)
        if j >= 0:
            down = (y[0] + previous(y0[0], y[1]), y[2] + previous(y0[1], y[3]))
            deep = (z[0] + previous(z0[0], z[1]), z[2] + previous(z0[1], z[3]))
            if write:
                change = (load(behind, j) + load(below, j)) + (
                    (x[0] - previous(x0[0], x[0])) + (down[0] + deep[0])
                )
                _finish(new, rows[0] + j, load(u, rows[0] + j), change, third, w, sort)
            store(behind, j, load(corner, j) + ((x[2] - previous(x0[2], x[2])) + (down[1] - deep[0])))
            store(below, j, (x[1] - previous(x0[1], x[1])) + (deep[1] - down[0]))
            store(corner, j, (x[3] - previous(x0[3], x[3])) - (down[1] + deep[1]))
        x0, y0, z0 = x, (y[1], y[3]), (z[1], z[3])


@inlined
def _rows_of(volume, p, m, outer, middle, pitch):  # type: ignore[no-untyped-def]
    """Return where the rows of cells around a row of elements begin; beyond the image it is the last one again."""
    front, back = max(p, 0) * middle, min(p + 1, outer - 1) * middle
    if not volume:
        return front * pitch, back * pitch, front * pitch, back * pitch
    top, bottom = max(m, 0), min(m + 1, middle - 1)
    return (front + top) * pitch, (front + bottom) * pitch, (back + top) * pitch, (back + bottom) * pitch


@functools.cache
def build_sweep(kind: int, masked: bool, volume: bool, sort: int) -> Callable[..., None]:
    """Compile one sweep for one conductance; `sort` is how many more states than u make the new one."""
    weighted = kind != CONSTANT

    @kernel
    def sweep(u, new, third, g, valid, grid, rates, scales, shape, density, w, scratch):  # type: ignore[no-untyped-def]
        """Put w0 u + div(g ∇u) + w1 new + w2 third into new, where the fluxes are those of `shape`.

        Parameters
        ----------
        u, new, third : (channels, cells), flat; u and new may be the same
        g : frozen conductances per element, see `element_conductances`
        valid : bool (cells,)
        grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
        rates, scales : (3,), w / h² and 1 / (contrast h)² along x, y and z
        shape, density : (3,), STIFFNESS or MASS; DENSITY
        w : (3,)
        scratch : flat, see `sweep_scratch`
        """
        channels, outer, middle, columns, pitch = grid
        cells, wide, zero = outer * middle * pitch, pitch + LANES, u.dtype.type(0)
        u, new, third = begin(u), begin(new), begin(third)
        g, valid, room = begin(g), begin(valid), begin(scratch)
        nowhere, kept = shift(room, wide), shift(room, wide + pitch)
        for p in range(-1, outer):
            for m in range(-1 if volume else 0, middle):
                rows = _rows_of(volume, p, m, outer, middle, pitch)
                line = (p + 1) * (middle + 1) + m + 1 if volume else p + 1
                weights = shift(g, line * wide) if kind == FROZEN else room
                if kind >= 0:
                    size = (channels, cells)
                    _weigh(kind, volume, masked, room, u, size, valid, rows, pitch, columns, scales, density)
                for c in range(channels):
                    read, write, more = shift(u, c * cells), shift(new, c * cells), shift(third, c * cells)
                    own = shift(kept, c * (middle + 2) * pitch)
                    if volume and m < 0:
                        for j in range(0, 2 * pitch, LANES):
                            store(own, j, fill(zero))
                    behind = shift(own, (2 + m) * pitch) if m >= 0 else nowhere
                    entering = (own, shift(own, pitch), behind)
                    inside = p >= 0 and m >= 0
                    form, layout = (masked, weighted, sort), (rows, inside, pitch, columns)
                    if volume:
                        _step_cubes(
                            form, read, write, more, weights, valid, layout, entering, rates, shape, w
                        )
                    else:
                        _step_squares(
                            form, read, write, more, weights, valid, layout, entering, rates, shape, w
                        )

    return sweep


@functools.cache
def build_conductances(kind: int, masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the filling of frozen conductances."""

    @kernel
    def fill_conductances(g, u, valid, grid, scales, density):  # type: ignore[no-untyped-def]
        """Fill g, flat (rows of elements, pitch + LANES)."""
        channels, outer, middle, columns, pitch = grid
        cells, line = outer * middle * pitch, 0
        g, u, valid = begin(g), begin(u), begin(valid)
        for p in range(-1, outer):
            for m in range(-1 if volume else 0, middle):
                rows = _rows_of(volume, p, m, outer, middle, pitch)
                out, size = shift(g, line * (pitch + LANES)), (channels, cells)
                _weigh(kind, volume, masked, out, u, size, valid, rows, pitch, columns, scales, density)
                line += 1

    return fill_conductances


def _arguments(block: Block, numbers: Sequence[float]) -> tuple[Any, ...]:
    return tuple(block.storage.dtype.type(x) for x in numbers)


def element_rows(block: Block) -> int:
    """Return how many rows of elements there are, with those that the image's edges cut."""
    return int(np.prod([n + 1 for n in block.spatial[:-1]]))


def element_conductances(block: Block, u: Floats, kind: int, scales: Sequence[float]) -> Floats:
    """Return frozen conductances of shape (rows of elements, pitch + LANES) from the elements' mean |∇u|².

    Parameters
    ----------
    block : Block
        Gives the grid and the walls.
    u : ndarray of shape (channels, cells)
    kind : int
        Number of the conductance.
    scales : sequence of 3 floats
        1 / (contrast h)² along x, y and z.
    """
    grid, ndim = kernel_grid(block, len(u)), len(block.spatial)
    rows, wide = element_rows(block), grid[4] + LANES
    g = aligned_zeros(rows * wide, u.dtype).reshape(rows, wide)
    fill_conductances = build_conductances(kind, block.valid_storage is not None, ndim == 3)
    fill_conductances(
        g.reshape(-1),
        u.reshape(-1),
        kernel_walls(block),
        grid,
        _arguments(block, scales),
        _arguments(block, DENSITY[ndim]),
    )
    return g


def sweep_scratch(block: Block, channels: int) -> Floats:
    """Return the rows that a sweep works with."""
    _, _, middle, _, pitch = kernel_grid(block, channels)
    return aligned_zeros((2 + channels * (middle + 2)) * pitch + LANES, block.storage.dtype)


def sweep_elements(
    block: Block,
    u: Floats,
    new: Floats,
    scratch: Floats,
    kind: int,
    shape: Sequence[float],
    rates: Sequence[float],
    weights: Sequence[float] = (1.0,),
    *,
    third: Floats | None = None,
    g: Floats | None = None,
    scales: Sequence[float] = (0.0, 0.0, 0.0),
) -> None:
    """Put w0 u + div(g ∇u) + w1 new + w2 third into new; there are as many weights as states take part.

    Parameters
    ----------
    block : Block
        Gives the grid and the walls.
    u, new, third : ndarray of shape (channels, cells)
        u and new may be the same array where there is one weight.
    scratch : ndarray
        What `sweep_scratch` returned.
    kind : int
        Number of the conductance, CONSTANT, or FROZEN with `g`.
    shape : sequence of 3 floats
        STIFFNESS or MASS of this number of axes.
    rates, scales : sequences of 3 floats
        Factor of the fluxes and 1 / (contrast h)², along x, y and z.
    """
    sweep = build_sweep(kind, block.valid_storage is not None, len(block.spatial) == 3, len(weights) - 1)
    sweep(
        u.reshape(-1),
        new.reshape(-1),
        (u if third is None else third).reshape(-1),
        (scratch if g is None else g).reshape(-1),
        kernel_walls(block),
        kernel_grid(block, len(u)),
        _arguments(block, rates),
        _arguments(block, scales),
        _arguments(block, shape),
        _arguments(block, DENSITY[len(block.spatial)]),
        _arguments(block, (*weights, 0.0, 0.0)[:3]),
        scratch,
    )
