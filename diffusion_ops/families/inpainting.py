"""Fill unknown pixels by other equations than the Laplacian's: along edges, biharmonic, of least variation."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import label

from diffusion_ops.blocks.block import Block, Bools, Floats, allocate, as_image
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.tensor_field import TensorField
from diffusion_ops.steady.couplings import Couplings, flat, padded_shape, uniform
from diffusion_ops.steady.linear import Solution, Solver, conjugate_gradients

BIHARMONIC_CYCLES = 1000
"""Most iterations of the biharmonic equation, whose preconditioner applies two cycles."""

VARIATION_ROUNDS = 200
"""Most times that the weights of the least variation are made anew."""

SMOOTHED = 1e-3
"""Differences below this part of the range of the known values count as quadratic in the variation."""


def diffuse_along_edges(block: Block, free: Bools, field: TensorField, steps: int, count: int) -> None:
    """Take iterations in place: each makes D from the image as it is, and takes FSI steps with it.

    Parameters
    ----------
    block : Block
    free : bool ndarray of shape (channels, cells)
        Cells that change; channels share D.
    field : TensorField
    steps, count : int
        Steps of an iteration, and number of iterations.
    """
    inner = Cycle(field.scheme.stable_dt(block.spacing), steps, inertial=True)
    for k in range(count):
        frozen = field.freeze(block, block.storage)
        for channel in range(len(free)):
            part = dataclasses.replace(block, storage=block.storage[channel : channel + 1])
            field.take_steps(part, inner, frozen, free[channel], before=k * steps)
            block.storage[channel] = part.storage[0]


def fill_along_edges(
    fields: Floats,
    known: Bools,
    valid: Bools,
    spacing: tuple[float, ...],
    field: TensorField,
    steps: int,
    count: int,
) -> Floats:
    """Return fields filled by diffusion along edges, from coarse to fine.

    A level is filled from the next coarser one, whose cells are the means of what is known in 2 cells along every axis;
    on each `count` iterations are taken.
    """
    if known[valid].all():
        return fields
    coarse, coarse_known, coarse_valid = _halved(fields, known, valid)
    wide = tuple(2 * h for h in spacing)
    below = fill_along_edges(
        coarse,
        coarse_known,
        coarse_valid,
        wide,
        dataclasses.replace(field, sigma=2 * field.sigma, rho=2 * field.rho),
        steps,
        count,
    )
    start = np.where(known, fields, _doubled(below, coarse_valid, known.shape)).astype(fields.dtype)
    block = Block.from_image(start, spacing, valid)
    free = allocate(len(fields), known.shape, np.dtype(bool))
    as_image(free, known.shape)[:] = valid & ~known
    diffuse_along_edges(block, free, field, steps, count)
    return block.u.copy()


def _halved(fields: Floats, known: Bools, valid: Bools) -> tuple[Floats, Bools, Bools]:
    """Return the means of known cells, where there are any, and where there are valid cells."""
    counts = _pair_sums(known.astype(np.float64))
    sums = np.stack([_pair_sums(np.where(known, channel, 0).astype(np.float64)) for channel in fields])
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return means.astype(fields.dtype), counts > 0, _pair_sums(valid.astype(np.float64)) > 0


def _pair_sums(values: Floats) -> Floats:
    """Return the sums of every 2 cells along each axis; the last one of an odd number stands alone."""
    for axis, n in enumerate(values.shape):
        values = np.add.reduceat(values, np.arange(0, n, 2), axis=axis)
    return values


def _doubled(coarse: Floats, valid: Bools, shape: tuple[int, ...]) -> Floats:
    """Return a coarse image interpolated linearly between the centres of its valid cells."""
    sums, weight = np.where(valid, coarse, 0).astype(np.float64), valid.astype(np.float64)
    for axis, n in enumerate(shape):
        fine = np.arange(n)
        near = fine // 2
        far = np.clip(near + np.where(fine % 2, 1, -1), 0, weight.shape[axis] - 1)
        sums = 0.75 * np.take(sums, near, axis + 1) + 0.25 * np.take(sums, far, axis + 1)
        weight = 0.75 * np.take(weight, near, axis) + 0.25 * np.take(weight, far, axis)
    return np.divide(sums, weight, out=np.zeros_like(sums), where=weight > 0)


def parted_cells(known: Bools, valid: Bools) -> int:
    """Return how many valid cells walls part from all known ones."""
    if valid.all():
        return 0 if known.any() else int(valid.size)
    pieces, count = label(valid)
    held = np.zeros(count + 1, bool)
    held[np.unique(pieces[known & valid])] = True
    return int(np.count_nonzero(valid & ~held[pieces]))


def fill_biharmonic(
    values: Floats, known: Bools, valid: Bools, spacing: tuple[float, ...], correction: float
) -> Solution:
    """Return u of Δ(Δu) = 0 at unknown cells, less the known values, in the layout of the operator.

    Conjugate gradients, preconditioned by two multigrid cycles, each about the inverse of the Laplacian at unknown
    cells. The outer Laplacian has no flux over edges and walls.
    """
    everywhere = Couplings.between(
        uniform(known.shape, spacing), known.shape, valid, np.zeros(known.shape, bool)
    )
    solver = Solver(
        Couplings.between(uniform(known.shape, spacing), known.shape, valid & ~known, known & valid)
    )
    unknown = flat(valid & ~known, solver.grid.shape)

    def applied(x: Floats) -> Floats:
        return np.where(unknown, everywhere.applied(everywhere.applied(x)), 0.0)

    b = -applied(flat(np.where(known & valid, values, 0.0), solver.grid.shape))
    return conjugate_gradients(
        solver.grid,
        b,
        applied,
        lambda x: b - applied(x),
        lambda r: solver.correction(solver.correction(r)),
        correction,
        BIHARMONIC_CYCLES,
    )


def fill_by_variation(
    values: Floats, known: Bools, valid: Bools, spacing: tuple[float, ...], span: float, correction: float
) -> tuple[Floats, float, int]:
    """Return the image of least total variation, its last change, and the number of rounds.

    The variation is the sum of sqrt(|∇u|² + (0.001 span)²), ∇u of differences to the next cells. Each round minimises
    its quadratic majorant, weights w = 1 / sqrt(...) held fixed (lagged diffusivity; Vogel and Oman 1996), from the
    harmonic solution on. The variation falls in every round.
    """
    shape, unknown = known.shape, valid & ~known
    weights = uniform(shape, spacing)
    u, change, rounds = np.where(known, values, 0.0), np.inf, 0
    for rounds in range(VARIATION_ROUNDS + 1):
        solver = Solver(Couplings.between(weights, shape, unknown, known & valid))
        grid = solver.grid
        found = solver.solve(
            grid.flow(grid.flat(values)), correction / 4, start=grid.flat(np.where(unknown, u, 0.0))
        )
        new = np.where(unknown, grid.image(found.x), u)
        change, u = float(np.abs(new - u).max()), new
        if rounds and change <= correction:
            break
        weights = variation_weights(u, valid, spacing, SMOOTHED * span)
    return u, change, rounds


def variation_weights(
    u: Floats, valid: Bools, spacing: tuple[float, ...], smoothed: float
) -> tuple[Floats, ...]:
    """Return the weights per axis of the quadratic majorant of the variation, at most 1 along the finest axis."""
    finest = min(spacing)
    squares = np.zeros(u.shape)
    for axis, h in enumerate(spacing):
        ahead = [slice(None)] * u.ndim
        here = list(ahead)
        ahead[axis], here[axis] = slice(1, None), slice(None, -1)
        both = valid[tuple(ahead)] & valid[tuple(here)]
        step = np.where(both, u[tuple(ahead)] - u[tuple(here)], 0.0) * (finest / h)
        squares[tuple(here)] += step * step
    w = smoothed / np.sqrt(squares + smoothed * smoothed)
    layout = padded_shape(u.shape)
    return tuple(flat(w * (finest / h) ** 2, layout) for h in spacing)
