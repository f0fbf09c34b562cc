"""A tile with its halo sets up and cycles with the bits of the whole image."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from diffusion_ops.steady.aggregates import SETUP_HALO, set_up
from diffusion_ops.steady.couplings import CELL, Couplings, similarity
from diffusion_ops.steady.cycle import DOWN_HALO, UP_HALO, Fine
from diffusion_ops.steady.lattice import (
    as_lattice,
    by_cell,
    collected,
    lattice_shape,
    rows_shape,
    spread_out,
)
from diffusion_ops.steady.linear import Solver

SHAPE = (420, 380)
TILES = [
    (slice(a, min(a + 96, 420)), slice(b, min(b + 128, 380)))
    for a, b in itertools.product(range(0, 420, 96), range(0, 380, 128))
]


@functools.cache
def picture() -> tuple[Any, Any, Any]:
    """Return steps of 8 decades of couplings with noise, walls and markers."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = ((y // 23 + x // 17) % 3 + 0.3 * rng.standard_normal(SHAPE)).astype(np.float32)
    valid = rng.random(SHAPE) > 0.03
    valid[40:90, 60] = False
    return image, valid, valid & (rng.random(SHAPE) < 0.004)


def operator(region: Any = (slice(None), slice(None))) -> Couplings:
    """Return the operator of a part of the picture."""
    image, valid, known = (array[region] for array in picture())
    return Couplings.between(similarity(image[None], (9.0, 9.0), 1e-10), image.shape, valid & ~known, known)


@functools.cache
def whole() -> tuple[Solver, Any, Any]:
    """Return the solver of the whole picture, its labels and its rows."""
    grid = operator()
    labels, rows, crowded = set_up(grid)
    assert crowded == 0
    return (
        Solver(grid),
        labels.reshape(grid.shape)[0],
        as_lattice(rows, grid.shape, rows_shape(grid.shape))[0],
    )


def window(tile: Any, halo: int) -> tuple[Any, Any]:
    """Return what a tile reads, and where the tile is in it."""
    read = tuple(
        slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip(tile, SHAPE, strict=True)
    )
    return read, tuple(slice(s.start - r.start, s.stop - r.start) for s, r in zip(tile, read, strict=True))


def scaled(region: Any, rows: int, columns: int) -> Any:
    """Return a region in whole cells, with so many numbers per cell along the axes."""
    return tuple(
        slice(s.start // CELL * n, -(-s.stop // CELL) * n)
        for s, n in zip(region, (rows, columns), strict=True)
    )


@pytest.mark.parametrize("tile", TILES[::4], ids=str)
def test_labels_and_rows_of_a_tile_are_those_of_the_whole(tile: Any) -> None:
    _, labels, rows = whole()
    read, keep = window(tile, SETUP_HALO)
    grid = operator(read)
    own, own_rows, _ = set_up(grid)
    assert np.array_equal(own.reshape(grid.shape)[0][keep], labels[tile])
    own_rows = as_lattice(own_rows, grid.shape, rows_shape(grid.shape))[0]
    assert np.array_equal(own_rows[scaled(keep, 32, 64)], rows[scaled(tile, 32, 64)])
    assert np.count_nonzero(rows[scaled(tile, 32, 64)]) > 100


def fine_of(read: Any) -> Fine:
    """Return the two finest levels of a part of the picture."""
    labels = whole()[1][scaled(read, 32, 32)]
    return Fine(operator(read), labels.reshape(-1))


@functools.cache
def residual() -> Any:
    """Return a residual of the whole picture in the layout of an image."""
    r = np.random.default_rng(4).standard_normal(SHAPE)
    return np.where(picture()[1] & ~picture()[2], r, 0)


@functools.cache
def cycled() -> tuple[Any, Any, Any]:
    """Return the fourth level's residual and correction as lattices, and z, of the whole picture."""
    solver, _, _ = whole()
    grid, fine = solver.grid, solver.fine
    r = grid.flat(residual())
    way, rest = fine.down(r)
    counts = np.diff(fine.base)
    correction = solver.coarse.correction(rest)
    z = grid.image(fine.up(r, way, correction))
    return spread_out(rest, counts, grid.shape)[0], spread_out(correction, counts, grid.shape)[0], z


@pytest.mark.parametrize("tile", TILES[1::4], ids=str)
def test_both_ways_of_a_cycle_on_a_tile_have_the_bits_of_the_whole(tile: Any) -> None:
    rest, correction, z = cycled()
    read, keep = window(tile, DOWN_HALO)
    fine = fine_of(read)
    _, own = fine.down(fine.grid.flat(residual()[read]))
    lattice = spread_out(own, np.diff(fine.base), fine.grid.shape)[0]
    assert np.array_equal(lattice[scaled(keep, 8, 12)], rest[scaled(tile, 8, 12)])

    read, keep = window(tile, UP_HALO)
    fine = fine_of(read)
    r = fine.grid.flat(residual()[read])
    way, _ = fine.down(r)
    part = correction[scaled(read, 8, 12)][None]
    own_z = fine.grid.image(fine.up(r, way, collected(part, np.diff(fine.base), fine.grid.shape)))
    grown = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in keep)
    full = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in tile)
    assert np.array_equal(own_z[grown], z[full])


def test_lattices_hold_what_they_are_given() -> None:
    solver, _, _ = whole()
    shape, counts = solver.grid.shape, np.diff(solver.fine.base)
    values = np.arange(1.0, counts.sum() + 1)
    lattice = spread_out(values, counts, shape)
    assert lattice.shape == lattice_shape(shape)
    assert np.array_equal(collected(lattice, counts, shape), values)
    assert np.array_equal(as_lattice(by_cell(lattice, shape), shape, lattice.shape), lattice)
