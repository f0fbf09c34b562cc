"""Fill unknown pixels by other equations than the Laplacian's: biharmonic, of least variation."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.steady.couplings import Couplings, flat, padded_shape, uniform
from diffusion_ops.steady.linear import Solution, Solver, conjugate_gradients

BIHARMONIC_CYCLES = 1000
"""Most iterations of the biharmonic equation, whose preconditioner applies two cycles."""

VARIATION_ROUNDS = 200
"""Most times that the weights of the least variation are made anew."""

SMOOTHED = 1e-3
"""Differences below this part of the range of the known values count as quadratic in the variation."""


def parted_cells(known: Bools, valid: Bools) -> int:
    """Return how many valid cells walls part from all known ones."""
    if valid.all():
        return 0 if known.any() else int(valid.size)
    pieces, count = label(valid)
    held = np.zeros(count + 1, bool)
    held[np.unique(pieces[known & valid])] = True
    return int(np.count_nonzero(valid & ~held[pieces]))


def require_held(lost: int) -> None:
    """Refuse unknown pixels that walls part from all known ones.

    Raises
    ------
    ValueError
    """
    if lost:
        raise ValueError(
            f"{lost} unknown pixels have no known one to be filled from, as walls part them from all. "
            "Set them to False in the mask."
        )


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
