"""What problems with a steady state on the pixels' graph have in common: their operator, and when it is solved."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block, Bools, Floats
from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.problems.problem import Problem, Setting
from diffusion_ops.kernels.multigrid.couplings import KNOWN
from diffusion_ops.steady.couplings import Couplings
from diffusion_ops.steady.linear import CYCLES, Solver

TOLERANCE = 1e-4
"""Error of the answer that is asked for by default, as a part of the range of the known values."""

LEAST_TOLERANCE = 1e-9
"""Smallest tolerance: rounding alone makes errors of this size where couplings are weak."""

_SAFETY = 32.0
"""Ratio of the error to the largest correction of a cycle: at most 21 against direct solutions."""


@dataclass(frozen=True)
class Part:
    """One of the right sides that share an operator, such as a label or a channel.

    Attributes
    ----------
    index : int
        Its place among all parts.
    number : int
        The label or channel.
    low, span : float
        Smallest known value, and the range of the known values.
    rest : bool
        True where the answer follows from those of the other parts, so that nothing is solved.
    """

    index: int
    number: int
    low: float = 0.0
    span: float = 1.0
    rest: bool = False


class SteadyState(Problem):
    """A problem of the form: sum over neighbours of w (u - u_neighbour) = 0 at unknown cells, u given at known ones.

    It is solved part by part: values at the known cells, less the smallest, are the right side. The answers are
    collected in an array, which becomes the result. All methods work on any window of the image.
    """

    takes_tolerance = True
    error_bound: float = 0.0
    """Largest proven bound of the errors, for a range of 1, that is accepted; 0 where nothing is proven."""
    is_linear = True
    """Whether it is the linear problem that cycles over tiles solve; else it is solved in memory only."""

    survey_bytes = 55
    """Memory per pixel of a survey, beside what is read; measured with statistics, and a tenth more."""
    rehearsed_sparse = True
    """Whether few cells are known as its kernels are rehearsed; else most are, where a wide hole would take long."""
    kernels_bytes = 100 << 20
    """Resident memory of the kernels of a cycle, and of what the compiler keeps where it has made them."""

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

    @abstractmethod
    def known(self, setting: Setting) -> Bools:
        """Return where values are known."""

    @abstractmethod
    def values(self, setting: Setting, part: Part) -> Floats:
        """Return the known values of a part less its `low`, in float64; elsewhere they mean nothing."""

    @abstractmethod
    def survey(self, setting: Setting) -> Tally:
        """Return what the parts follow from."""

    def merge_surveys(self, first: Tally, second: Tally) -> Tally:
        """Return the survey of both windows."""
        return first + second

    @abstractmethod
    def parts(self, survey: Tally) -> list[Part]:
        """Return the parts in order; only the last one may be a rest.

        Raises
        ------
        ValueError
            Where there is no answer, with what to do.
        """

    def require_range(self, parts: list[Part], spacing: tuple[float, ...], dtype: np.dtype[Any]) -> None:
        """Refuse parts of an image of `dtype` whose values overflow before there is an answer.

        Raises
        ------
        ValueError
        """

    def numbers(self, parts: list[Part], spacing: tuple[float, ...]) -> dict[str, float]:
        """Return numbers that follow from all parts and that operators of its stages need, by name."""
        return {}

    def planned_parts(self, channels: int) -> int:
        """Return how many parts an image of so many channels has; 0 where only the survey says."""
        return channels

    @abstractmethod
    def collected_arrays(self, parts: int) -> int:
        """Return how many arrays the answers of so many parts are collected in."""

    @abstractmethod
    def collect(self, collected: Floats, part: Part, answer: Floats | None) -> None:
        """Put the answer of a part into the arrays (arrays, *spatial), in place.

        The answer holds the values at known cells, too; it is None for a rest.
        """

    @abstractmethod
    def result(self, collected: Floats, setting: Setting, reached: Bools) -> NDArray[Any]:
        """Return the result (channels, *spatial) from the collected answers and where known cells reach.

        Raises
        ------
        ValueError
            Where unknown cells that are not reached have no answer.
        """

    def open_cells(self, collected: Floats, tolerance: float | Floats) -> Bools | None:
        """Return where the tolerance leaves the result open, from the answers; None where that means nothing."""
        return None

    def solve(self, setting: Setting) -> NDArray[Any]:
        """Return the answer for an image in memory."""
        correction = largest_correction(setting.tolerance)
        parts = self.parts(self.survey(setting))
        self.require_range(parts, setting.spacing, setting.fields.dtype)
        bound: SteadyState = bound_to(self, setting)
        solver = Solver(couplings_of(bound, setting))
        reached = solver.grid.image(solver.reached())
        collected = np.zeros((bound.collected_arrays(len(parts)), *setting.spatial))
        residuals = np.zeros(solver.grid.sigma.size)
        for part in parts:
            answer = None
            if not part.rest:
                answer, residual = answer_of(bound, solver, setting, part, correction)
                add_residual(residuals, residual, part)
            bound.collect(collected, part, answer)
        if self.error_bound:
            require_bound(float(solver.bound(residuals).max()), self.error_bound)
        return bound.result(collected, setting, reached)


def answer_of(
    problem: SteadyState, solver: Solver, setting: Setting, part: Part, correction: float
) -> tuple[Floats, Floats]:
    """Return the answer of a part, with the values at known cells, and the residual.

    Raises
    ------
    ValueError
        Where the tolerance is not reached.
    """
    grid, values = solver.grid, problem.values(setting, part)
    found = solver.solve(grid.flow(grid.flat(values)), correction * part.span)
    if not found.correction <= correction * part.span:
        raise ValueError(unreached_tolerance(found.cycles, found.correction, correction * part.span))
    return with_known(grid, found.x, values), found.residual


def add_residual(residuals: Floats, residual: Floats, part: Part) -> None:
    """Add the magnitude of a part's residual, for a range of 1, in place.

    Errors of the answers add up in the part that is what is left of 1, and in differences of two parts.
    """
    if part.span:
        residuals += np.abs(residual) / part.span


def require_bound(bound: float, accepted: float) -> None:
    """Refuse a bound of the errors above the accepted one.

    Raises
    ------
    ValueError
    """
    if bound > accepted:
        raise ValueError(
            f"The errors are proven to be at most {bound:.3g}; error_bound={accepted:g} is accepted. Give a smaller "
            "tolerance, which the bound follows, or a larger error_bound."
        )


def with_known(grid: Couplings, x: Floats, values: Floats) -> Floats:
    """Return a solution as an image, with the values at known cells."""
    answer: Floats = np.where(grid.image(grid.kind) == KNOWN, values, grid.image(x))
    return answer


def unreached_tolerance(cycles: int, correction: float, wanted: float) -> str:
    """Return what is said where the allowed cycles do not reach the tolerance."""
    return (
        f"After {cycles} cycles, of {CYCLES} allowed, a further one would still change the answer by {correction:.3g}; "
        f"the tolerance asks for {wanted:.3g}. Give a larger tolerance."
    )


def largest_correction(tolerance: float | None) -> float:
    """Return the largest correction of a cycle at which a solution is near enough, for a range of 1.

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


def valid_cells_of(setting: Setting) -> Bools:
    """Return where cells are valid, as an array."""
    return np.ones(setting.spatial, bool) if setting.valid is None else setting.valid


def finite_fields(setting: Setting) -> Floats:
    """Return the image in its working type, with 0 at walls and where it has no finite value."""
    fields = setting.fields.astype(working_dtype(setting.fields.dtype))
    fields[:, ~valid_cells_of(setting)] = 0
    fields[~np.isfinite(fields)] = 0
    return fields


def tallies_of(problem: SteadyState, setting: Setting, keep: tuple[slice, ...]) -> dict[str, Tally]:
    """Return the tallies of a problem's statistics over the kept part of a window."""
    wanted = problem.statistics()
    if not wanted:
        return {}
    block = Block.from_image(finite_fields(setting), setting.spacing, setting.valid)
    return {name: statistic.measure(block, keep) for name, statistic in wanted.items()}


def bound_to(problem: SteadyState, setting: Setting) -> Any:
    """Return the problem with its statistics measured over the whole image."""
    tallies = tallies_of(problem, setting, (slice(None),) * len(setting.spatial))
    return problem.bind({name: problem.statistics()[name].value(tally) for name, tally in tallies.items()})


def couplings_of(problem: SteadyState, setting: Setting) -> Couplings:
    """Return the operator of a problem on a window."""
    known, valid = problem.known(setting), valid_cells_of(setting)
    weights = problem.weights(finite_fields(setting), setting.spacing)
    return Couplings.between(weights, setting.spatial, valid & ~known, known & valid)
