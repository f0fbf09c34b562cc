"""Compute the halo of an operator: how many cells it and its cycles read around a tile."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from diffusion_ops.evolution.schedule import Cycle

Cells = tuple[int, ...]
"""Numbers of cells on each side, per spatial axis."""


@dataclass(frozen=True)
class Run:
    """Equal cycles and the cells that they spoil.

    Attributes
    ----------
    cycle : Cycle
    count : int
        Number of cycles in one call of the operator.
    times : int
        Number of successive calls.
    setup, steps : tuple of int
        Cells spoilt by each call: by the coefficients frozen before its first step, and by its steps.
    """

    cycle: Cycle
    count: int
    times: int
    setup: Cells
    steps: Cells


@dataclass(frozen=True)
class Reach:
    """Number of cells that an operator reads on each side, per spatial axis; 0 by default.

    Attributes
    ----------
    step : tuple of int
        Reach of one step, or of an operator that is applied once.
    setup : tuple of int
        Reach of the coefficients that are frozen at the start of a cycle.
    start, finish : tuple of int
        Reach of the work before the first step, and after the last.
    further : tuple of int
        Reach of each further step of one call, where it is less than `step`: a partition cut by the window's end is
        lost only once.
    refresh : int
        Number of steps that share frozen coefficients; more than 1 only where every cycle is one step.
    """

    step: Cells
    setup: Cells = ()
    start: Cells = ()
    finish: Cells = ()
    further: Cells = ()
    refresh: int = 1

    def __post_init__(self) -> None:
        for part in ("setup", "start", "finish"):
            object.__setattr__(self, part, getattr(self, part) or (0,) * len(self.step))
        object.__setattr__(self, "further", self.further or self.step)

    def runs(self, cycles: Iterable[Cycle], first: int = 0) -> Iterator[Run]:
        """Yield cycles as an operator takes them: equal ones in one call, unless each cycle freezes coefficients.

        Parameters
        ----------
        cycles : iterable of Cycle
        first : int
            Number of earlier steps.
        """
        frozen, nothing = any(self.setup), (0,) * len(self.step)
        for cycle, some in itertools.groupby(cycles):
            count = len(list(some))
            alone = frozen or cycle.inertial
            more = cycle.steps * (1 if alone else count) - 1
            steps = tuple([s + more * f for s, f in zip(self.step, self.further, strict=True)])
            if not alone:
                yield Run(cycle, count, 1, self.setup, steps)
            elif self.refresh == 1:
                yield Run(cycle, 1, count, self.setup, steps)
            else:
                for step in range(first, first + count * cycle.steps, cycle.steps):
                    yield Run(cycle, 1, 1, nothing if step % self.refresh else self.setup, steps)
            first += count * cycle.steps

    def halo(self, cycles: Iterable[Cycle], first: int = 0) -> Cells:
        """Return how many cells per axis the cycles read beyond what they write, after `first` earlier steps."""
        calls = (
            [run.times * (a + b) for a, b in zip(run.setup, run.steps, strict=True)]
            for run in self.runs(cycles, first)
        )
        return chained(calls, len(self.step))

    def adaptive_halo(self, steps: int) -> Cells:
        """Return how many cells per axis a batch of adaptive steps reads; each consists of two explicit steps."""
        return tuple([2 * steps * n for n in self.halo((Cycle(1.0),))])


def chained(halos: Iterable[Sequence[int]], ndim: int) -> Cells:
    """Return the halo of successive operations: halos add along a chain."""
    return tuple([sum(some) for some in zip((0,) * ndim, *halos, strict=True)])


def widest(halos: Iterable[Sequence[int]]) -> Cells:
    """Return the halo of one or more parallel operations: the maximum over branches."""
    return tuple([max(some) for some in zip(*halos, strict=True)])
