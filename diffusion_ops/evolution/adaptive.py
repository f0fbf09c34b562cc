"""Choose the step size from the error of a step: an embedded pair, an error statistic, and a controller.

A batch is a fixed number of steps of one size. Each is Heun's, (u + E(E(u))) / 2 with E the operator's explicit step: a
mean of states that E keeps within the extremes, so Heun's step keeps within them too (Shu and Osher 1988). It is of
second order, and its difference from E(u) estimates the error of the first-order step. `take_batch` stores the largest
such difference of every cell beside the state, `StepError` reduces it over the image to one number in integers, and
`Control.after` returns the next step size or asks for a repetition. That number does not depend on the tiling, and so
neither do the steps that follow.

For every batch, a runner calls for each tile with its halo `reach.adaptive_halo(adaptive.batch)`:

    take_batch(block, operator, control.tau, adaptive.batch)     # the error is in block.carried
    tally = statistic.measure(block, keep)                       # merged over the tiles

and then, once for the image:

    control = control.after(statistic.value(tally))

Where `control.accepted` is False, the batch is repeated from the state before it, which a double-buffered store still
holds. `control.finished` is True once the end time is reached exactly. To resume, a runner needs only the tallies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block, as_image
from diffusion_ops.blocks.statistic import Statistic, Tally, no_valid_cell
from diffusion_ops.evolution.parameters import check_choice, check_number
from diffusion_ops.evolution.schedule import SAFE
from diffusion_ops.kernels.sums.measure import sum_cells, valid_cells

NORMS = ("maximum", "rms")

_ORDER = 2
"""Power of the step size that the error of a step is proportional to."""

_LEAST = 1e-12
"""Smallest step as a part of the largest one; rounding loses smaller ones."""


@dataclass(frozen=True)
class Adaptive:
    """Steps as large as an error tolerance allows.

    Parameters
    ----------
    tolerance : float
        Target error of one step, in image units.
    norm : str
        "maximum" over cells and channels, or "rms", the root of their mean square.
    batch : int
        Number of steps of one size between two decisions.
    safety : float
        Factor on the step size that the error would allow.
    shrink, grow : float
        Smallest and largest factor from one step size to the next.

    Raises
    ------
    ValueError
        For parameters out of range.

    References
    ----------
    Gustafsson: Control theoretic techniques for stepsize selection in explicit Runge-Kutta methods. ACM TOMS 1991.
    """

    tolerance: float
    norm: str = "maximum"
    batch: int = 1
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 5.0

    def __post_init__(self) -> None:
        check_number("tolerance", self.tolerance, positive=True, unit="image units")
        check_choice("norm", self.norm, NORMS)
        for name, low, high in (("safety", 0, 1), ("shrink", 0, 1), ("grow", 1, math.inf)):
            check_number(name, value := getattr(self, name), positive=True, unit="units of one")
            if not low < value < high:
                raise ValueError(
                    f"{name}={value!r} is not possible. Allowed: a number between {low} and {high:g}."
                )
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise ValueError(f"batch={self.batch!r} is not possible. Allowed: a whole number of steps >= 1.")

    def start(self, time: float, stable_dt: float, first: float | None = None) -> Control:
        """Return the control before the first step, whose size is `first` or a hundredth of the largest step.

        Raises
        ------
        ValueError
            For a negative time, or a first step out of range.
        """
        check_number("time", time, positive=False, unit="squared units of the spacing")
        largest = SAFE * stable_dt
        first = largest / 100 if first is None else first
        check_number("first", first, positive=True, unit="squared units of the spacing")
        if first > stable_dt:
            raise ValueError(f"first={first:g} is an unstable step. Allowed: 0 < first <= {stable_dt:g}.")
        return Control(self, time, largest, wanted=first)

    @property
    def statistic(self) -> StepError:
        """Statistic that reduces the error of a batch."""
        return StepError(self.norm)


@dataclass(frozen=True)
class Control:
    """State of an adaptive evolution and the size of its next steps; every batch replaces it by a new value.

    Attributes
    ----------
    adaptive : Adaptive
    time : float
        End time, in squared units of the spacing.
    largest : float
        Largest step size allowed.
    wanted : float
        Step size that the errors so far call for.
    done : Fraction
        Time covered by accepted steps, without rounding.
    error : float or None
        Error of the last accepted batch, in tolerances.
    accepted : bool
        True where the last batch was accepted.
    batches, refused : int
        Numbers of accepted and of refused batches.
    given : float or None
        Step size of the next batch where it is fixed, because the batch was taken before.
    """

    adaptive: Adaptive
    time: float
    largest: float
    wanted: float
    done: Fraction = Fraction(0)
    error: float | None = None
    accepted: bool = True
    batches: int = 0
    refused: int = 0
    given: float | None = None

    @property
    def finished(self) -> bool:
        """True where the end time is reached."""
        return self.done >= Fraction(self.time)

    @property
    def evaluations(self) -> int:
        """Number of explicit steps of the operator in a batch: two per Heun step."""
        return 2 * self.adaptive.batch

    @property
    def left(self) -> Fraction:
        """Remaining time."""
        return max(Fraction(self.time) - self.done, Fraction(0))

    @property
    def _last(self) -> bool:
        return self.left <= Fraction(min(self.wanted, self.largest)) * self.adaptive.batch

    @property
    def tau(self) -> float:
        """Step size of the next batch; the last two batches share the remaining time, so that none is tiny."""
        if self.given is not None:
            return self.given
        step, left = min(self.wanted, self.largest), float(self.left) / self.adaptive.batch
        return left if self._last else min(step, left / 2) if left < 2 * step else step

    def after(self, error: float) -> Control:
        """Return the control after a batch of steps of size `tau` with this error, in image units.

        For an error of e tolerances the step size is multiplied by safety (1/e)^(0.7/2) (e_before)^(0.4/2): a
        proportional-integral controller, which oscillates less than one that uses the last error alone. A batch with
        an error of more than one tolerance is refused, and its step size is multiplied by safety (1/e)^(1/2).

        Raises
        ------
        ValueError
            Where the tolerance calls for steps so small that rounding loses them.
        """
        a, e = self.adaptive, max(error / self.adaptive.tolerance, 1e-10)
        fits = e <= 1
        # An error that falls from above the tolerance to exactly 0 was rounding alone.
        if (not fits and self.tau < _LEAST * self.largest) or (error == 0 and not self.accepted):
            raise ValueError(
                f"tolerance={a.tolerance:g} asks for steps of {self.tau:g} at time {float(self.done):g}, which "
                "rounding loses. Allowed: a tolerance above the rounding of the values. Use a larger one."
            )
        if not fits:
            factor = max(a.shrink, a.safety * e ** (-1 / _ORDER)) if math.isfinite(e) else a.shrink
            return replace(self, wanted=self.tau * factor, accepted=False, refused=self.refused + 1)
        before = e if self.error is None else self.error
        factor = a.safety * e ** (-0.7 / _ORDER) * before ** (0.4 / _ORDER)
        # A batch shortened by the end time is no reason for smaller steps later.
        return replace(
            self,
            wanted=min(self.largest, self.tau * min(a.grow, max(a.shrink, factor))),
            done=Fraction(self.time) if self._last else self.done + Fraction(self.tau) * a.batch,
            error=e,
            accepted=True,
            batches=self.batches + 1,
        )


@dataclass(frozen=True)
class StepError(Statistic):
    """Largest error, or root mean square of the errors, of the cells of a batch; a block carries them.

    Parameters
    ----------
    norm : str
        "maximum" or "rms".
    """

    norm: str = "maximum"

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own error."""
        return (0,) * len(spacing)

    def extra_arrays(self, ndim: int, channels: int) -> float:
        """Return the float64 squares, or the errors that are kept."""
        return 2.0 * channels if self.norm == "rms" else channels

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the bit pattern of the largest error, which sorts as the error does, or the exact sum of squares."""
        assert block.carried is not None
        number = valid_cells(block, keep) * len(block.carried)
        if not number:
            return Tally()
        if self.norm == "rms":
            squares = replace(block, storage=np.square(block.carried, dtype=np.float64), carried=None)
            return exact_sum.tally_of(sum_cells(squares, keep), np.dtype(np.float64), number)
        errors = as_image(block.carried, block.spatial)[(slice(None), *keep)]
        valid = True if block.valid is None else block.valid[keep]
        largest = float(np.max(errors, where=valid, initial=0))
        return Tally(np.array([np.float64(largest).view(np.int64)]), np.ones(1, np.int64))

    def merge(self, first: Tally, second: Tally) -> Tally:
        """Return the tally of the larger error, or the sum of both tallies."""
        if self.norm == "rms":
            return first + second
        return first if not len(second.keys) or list(first.keys) > list(second.keys) else second

    def value(self, tally: Tally) -> float:
        """Return the error in image units."""
        if not len(tally.keys):
            raise no_valid_cell("an error")
        if self.norm == "rms":
            return math.sqrt(exact_sum.total(tally) / exact_sum.number_of(tally))
        return float(tally.keys[-1:].view(np.float64)[0])


def adaptive_from(schedule: object) -> Adaptive | None:
    """Return the `Adaptive` that is given as such or as {"adaptive": tolerance}; None for another schedule.

    Raises
    ------
    ValueError
        For unknown parameters, and for those out of range.
    """
    if isinstance(schedule, Adaptive):
        return schedule
    if not isinstance(schedule, dict) or set(schedule) != {"adaptive"}:
        return None
    given = schedule["adaptive"]
    try:
        return Adaptive(**given) if isinstance(given, dict) else Adaptive(given)
    except TypeError:
        allowed = ", ".join(f.name for f in fields(Adaptive))
        raise ValueError(
            f"adaptive={given!r} is not possible. Allowed: a tolerance, or some of {allowed}."
        ) from None
