"""Choose step sizes, whatever the operator: explicit steps, or FSI cycles whose halo grows with the root of time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

MOST_STEPS = 1_000_000
"""Largest number of explicit steps; more are refused as a mistake: cycles need a thousandth of them."""

SAFE = 0.8
"""Default step as a part of the largest stable one; at 1.0 a checkerboard would not decay."""


@dataclass(frozen=True)
class Cycle:
    """A sequence of steps that no batch divides.

    Attributes
    ----------
    tau : float
        Step size, in units of time.
    steps : int
        Number of steps.
    inertial : bool
        True for the FSI recurrence u_{k+1} = a_k (u_k + tau L u_k) + (1 - a_k) u_{k-1}, a_k = (4k + 2) / (2k + 3).
    """

    tau: float
    steps: int = 1
    inertial: bool = False

    @property
    def time(self) -> float:
        """Diffusion time that the cycle covers."""
        return self.tau * (self.steps * (self.steps + 1) / 3 if self.inertial else self.steps)

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights a_k of the recurrence; all 1 for explicit steps."""
        return tuple((4 * k + 2) / (2 * k + 3) if self.inertial else 1.0 for k in range(self.steps))


class Schedule(ABC):
    """A rule that turns a diffusion time into cycles of steps."""

    inertial: ClassVar[bool] = False
    """True where the schedule makes FSI cycles."""

    @abstractmethod
    def cycles(
        self, stable_dt: float, time: float | None, steps: int | None, dt: float | None
    ) -> tuple[Cycle, ...]:
        """Return the cycles for those of time, steps and dt that are given.

        Raises
        ------
        ValueError
            Where they contradict each other, or leave the stable range.
        """


@dataclass(frozen=True)
class Explicit(Schedule):
    """Equal explicit steps u + tau L u, which keep the maximum principle for tau up to the stable step.

    Any two of time, steps and dt fix the third; steps alone take 0.8 of the stable step, time alone takes the fewest
    equal steps of at most that size.
    """

    def cycles(
        self, stable_dt: float, time: float | None, steps: int | None, dt: float | None
    ) -> tuple[Cycle, ...]:
        """Return `steps` cycles of one step each."""
        if (
            time is not None
            and steps is not None
            and dt is not None
            and not math.isclose(time, steps * dt, rel_tol=1e-9)
        ):
            raise ValueError(
                f"time={time:g}, steps={steps} and dt={dt:g} contradict each other: steps * dt is {steps * dt:g}. "
                "Give any two of them."
            )
        if dt is None:
            if steps is None:
                assert time is not None
                steps = _whole_steps(time / (SAFE * stable_dt) - 1e-9)
            dt = SAFE * stable_dt if time is None else time / steps if steps else 0.0
        elif steps is None:
            if time is None:
                raise ValueError(f"dt={dt:g} alone does not say when to stop. Give time or steps with it.")
            steps = _whole_steps(round(time / dt) if math.isfinite(time / dt) else math.inf)
            if not math.isclose(steps * dt, time, rel_tol=1e-6, abs_tol=1e-12):
                raise ValueError(
                    f"time={time:g} is not a whole number of steps of dt={dt:g} (it is {time / dt:.6g} steps). "
                    f"Use time={max(1, steps) * dt:g}, or give steps instead of dt."
                )
        if steps == 0 and time:
            raise ValueError(f"steps=0 cannot cover time={time:g}. Give steps of at least 1.")
        _whole_steps(steps)
        if dt > stable_dt * (1 + 1e-9):
            least = (
                ""
                if time is None
                else f", that is at least {math.ceil(time / stable_dt - 1e-9)} steps for time={time:g}"
            )
            raise ValueError(
                f"A step of dt={dt:g} is unstable. Allowed: 0 < dt <= {stable_dt:g}{least}. "
                "Use a smaller dt, more steps, or time alone."
            )
        return (Cycle(dt),) * steps


@dataclass(frozen=True)
class Cycles(Schedule):
    """Cycles of fast semi-iterative (FSI) steps: the fewest steps that reach a time stably, halo of order sqrt(time).

    One cycle of n steps of size tau covers the time tau (n² + n) / 3. Coefficients are frozen at the start
    of a cycle, so more cycles follow a nonlinear operator more closely. Stable in the L2 norm; a cycle may
    undershoot by up to 0.22 of a jump, so the maximum principle holds only with `Explicit`.

    Parameters
    ----------
    count : int
        Number of cycles.

    References
    ----------
    Hafner, Ochs, Weickert, Reissel, Grewenig: FSI schemes: fast semi-iterative solvers for PDEs and optimisation
    methods. GCPR 2016.
    """

    count: int = 4

    inertial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise ValueError(
                f"The number of FSI cycles must be a whole number of at least 1, got {self.count!r}."
            )

    def cycles(
        self, stable_dt: float, time: float | None, steps: int | None, dt: float | None
    ) -> tuple[Cycle, ...]:
        """Return `count` equal cycles that end at `time`."""
        if time is None or steps is not None or dt is not None:
            raise ValueError(
                "FSI cycles choose their own steps: give time alone, without steps and dt, "
                "or use schedule='explicit'."
            )
        if time == 0:
            return ()
        if self.count > MOST_STEPS:
            raise ValueError(
                f"That is {count_words(self.count)} FSI cycles. Allowed: at most {MOST_STEPS:,}. Use fewer."
            )
        each = time / self.count
        wanted = math.sqrt(3 * each / stable_dt + 0.25) - 0.5 - 1e-9
        if wanted * self.count > MOST_STEPS:
            raise ValueError(
                f"time={time:g} takes {count_words(wanted * self.count)} steps of FSI cycles. "
                f"Allowed: at most {MOST_STEPS:,}. Use a shorter time, or a coarser level of the image."
            )
        n = max(1, math.ceil(wanted))
        return (Cycle(3 * each / (n * n + n), n, inertial=True),) * self.count


def count_words(count: float) -> str:
    """Return a number of steps for a message, however large it is.

    Examples
    --------
    >>> count_words(2_000_000), count_words(10**400)
    ('2,000,000', 'more than 10^15')
    """
    return f"{count:,.0f}" if count <= 1e15 else "more than 10^15"


def _whole_steps(count: float) -> int:
    """Return a number of explicit steps, rounded up.

    Raises
    ------
    ValueError
        For more than `MOST_STEPS`.
    """
    if count > MOST_STEPS:
        raise ValueError(
            f"That is {count_words(count)} explicit steps. Allowed: at most {MOST_STEPS:,}. "
            "Use a shorter time, or schedule='cycles', which needs far fewer steps."
        )
    return math.ceil(count)


def resolve_schedule(
    schedule: Any, steps: int | None, dt: float | None, inertial_cycles: bool = True
) -> Schedule:
    """Return the schedule that is given as an object, a word or a mapping; the default depends on what else is given.

    It is FSI cycles for time alone, where the operator has them, else explicit steps.
    """
    if isinstance(schedule, Schedule):
        return schedule
    if schedule is None:
        return Cycles() if steps is None and dt is None and inertial_cycles else Explicit()
    if schedule == "explicit":
        return Explicit()
    if schedule == "cycles":
        return Cycles()
    if isinstance(schedule, dict) and set(schedule) == {"cycles"}:
        return Cycles(schedule["cycles"])
    raise ValueError(
        f"There is no schedule {schedule!r}. Allowed: 'explicit', 'cycles' or {{'cycles': count}}."
    )
