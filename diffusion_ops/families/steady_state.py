"""What problems with a steady state on the pixels' graph have in common: their operator, and when it is solved."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block, Bools, Floats
from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.evolution.problem import Problem, Setting
from diffusion_ops.steady.couplings import Couplings
from diffusion_ops.steady.linear import Solution, Solver

TOLERANCE = 1e-4
"""Error of the answer that is asked for by default, as a part of the range of the known values."""

LEAST_TOLERANCE = 1e-9
"""Smallest tolerance: rounding alone makes errors of this size where couplings are weak."""

_SAFETY = 16.0
"""Ratio of the error to the largest correction of a cycle: at most 14 against direct solutions."""


class SteadyState(Problem):
    """A problem of the form: sum over neighbours of w (u - u_neighbour) = 0 at unknown cells, u given at known ones."""

    takes_tolerance = True

    @property
    def work_kind(self) -> str:
        """Cycles over tiles until a residual."""
        return "steady-state"

    @abstractmethod
    def weights(self, fields: Floats, spacing: tuple[float, ...]) -> tuple[Floats, ...]:
        """Return the coupling of every cell to the next one, an array per axis in the layout of `Couplings`.

        Parameters
        ----------
        fields : ndarray of shape (channels, *spatial)
            Finite numbers, of the working type.
        spacing : tuple of float
        """


def largest_correction(tolerance: float | None) -> float:
    """Return the largest correction of a cycle at which a solution is near enough.

    Raises
    ------
    ValueError
        For a tolerance below rounding.
    """
    wanted = TOLERANCE if tolerance is None else float(tolerance)
    if wanted < LEAST_TOLERANCE:
        raise ValueError(
            f"tolerance={wanted:g} is below what rounding leaves. Allowed: at least {LEAST_TOLERANCE:g}, as a part "
            "of the range of the known values."
        )
    return wanted / _SAFETY


def finite_fields(setting: Setting) -> Floats:
    """Return the image in its working type, with 0 at walls."""
    fields = setting.fields.astype(working_dtype(setting.fields.dtype))
    if setting.valid is not None:
        fields[:, ~setting.valid] = 0
    return fields


def bound_to(problem: Problem, fields: Floats, setting: Setting) -> Any:
    """Return the problem with its statistics measured over the whole image."""
    wanted = problem.statistics()
    if not wanted:
        return problem
    block = Block.from_image(fields, setting.spacing, setting.valid)
    everything = (slice(None),) * len(setting.spatial)
    return problem.bind({name: s.value(s.measure(block, everything)) for name, s in wanted.items()})


def solver_for(
    problem: SteadyState, fields: Floats, setting: Setting, known: Bools, valid: Bools
) -> Solver:
    """Return the solver of a problem on an image in memory."""
    weights = problem.weights(fields, setting.spacing)
    return Solver(Couplings.between(weights, setting.spatial, valid & ~known, known))


def solved(solver: Solver, values: NDArray[Any], correction: float) -> Solution:
    """Return the solution with known values, an array of the image's shape.

    Raises
    ------
    ValueError
        Where the tolerance is not reached.
    """
    grid = solver.grid
    found = solver.solve(grid.flow(grid.flat(values.astype(np.float64))), correction)
    if found.correction > correction:
        raise ValueError(
            f"After {found.cycles} cycles a further one would still change the answer by {found.correction:.3g}, and "
            f"{correction:.3g} is allowed. Give a larger tolerance."
        )
    return found


def filled(problem: SteadyState, setting: Setting) -> NDArray[Any]:
    """Return the image with the steady state at its unknown pixels, channel by channel, in float64.

    Raises
    ------
    ValueError
        Where walls part unknown pixels from all known ones, and where the tolerance is not reached.
    """
    known = setting.known
    assert known is not None
    valid = np.ones(setting.spatial, bool) if setting.valid is None else setting.valid
    known = known & valid
    correction = largest_correction(setting.tolerance)
    solver = solver_for(problem, np.zeros((1, *setting.spatial), np.float32), setting, known, valid)
    require_reached(solver, valid & ~known)
    result = np.where(known, setting.fields, 0).astype(np.float64)
    for channel in result:
        values = channel[known]
        low, span = (values.min(), np.ptp(values)) if values.size else (0.0, 0.0)
        found = solved(solver, np.where(known, channel - low, 0), correction * span)
        np.copyto(channel, solver.grid.image(found.x) + low, where=~known)
    return result


def require_reached(solver: Solver, unknown: Bools) -> None:
    """Refuse unknown pixels that no known one holds."""
    lost = int(np.count_nonzero(unknown & ~solver.grid.image(solver.reached())))
    if lost:
        raise ValueError(
            f"{lost} unknown pixels have no known one to be filled from: walls part them, or nothing is known. "
            "Set them to False in the mask."
        )
