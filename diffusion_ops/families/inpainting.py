"""Fill unknown pixels by the biharmonic equation, and refuse those that nothing can fill."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.families.steady_state import unreached_tolerance
from diffusion_ops.steady.couplings import Couplings, flat, uniform
from diffusion_ops.steady.linear import Solver, conjugate_gradients

BIHARMONIC_RADIUS = 2
"""Cells that the biharmonic equation of a cell reads, along every axis."""

BIHARMONIC_CYCLES = 1000
"""Most iterations of the biharmonic equation, whose preconditioner applies two cycles."""


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
) -> Floats:
    """Return u of Δ(Δu) = 0 at unknown cells, up to corrections of that size, and 0 at others.

    Conjugate gradients, preconditioned by two multigrid cycles, each about the inverse of the Laplacian at unknown
    cells. The outer Laplacian has no flux over edges and walls.

    Raises
    ------
    ValueError
        Where so small a correction is not reached.
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
    found = conjugate_gradients(
        solver.grid,
        b,
        applied,
        lambda x: b - applied(x),
        lambda r: solver.correction(solver.correction(r)),
        correction,
        BIHARMONIC_CYCLES,
    )
    if not found.correction <= correction:
        raise ValueError(unreached_tolerance(found.cycles, found.correction, correction))
    return solver.grid.image(found.x)
