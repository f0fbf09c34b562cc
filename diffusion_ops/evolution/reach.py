"""Say how far an operator reads, and so what a run of its cycles spoils at the open sides of a window."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from diffusion_ops.evolution.schedule import Cycle

Cells = tuple[int, ...]
"""Numbers of cells on each side, per spatial axis."""


@dataclass(frozen=True)
class Run:
    """Equal cycles, and what they spoil.

    Attributes
    ----------
    cycle : Cycle
    count : int
        Cycles that the operator takes in one call.
    times : int
        Calls, one after another.
    setup, steps : tuple of int
        Cells that each call loses: to what it freezes before its first step, and to its steps.
    """

    cycle: Cycle
    count: int
    times: int
    setup: Cells
    steps: Cells


@dataclass(frozen=True)
class Reach:
    """How many cells an operator reads on each side, per spatial axis; what is left out is 0.

    Attributes
    ----------
    step : tuple of int
        Of one step, or of what is applied once.
    setup : tuple of int
        Of the coefficients that are frozen at the start of a cycle.
    start, finish : tuple of int
        Of what is done before the first step, and after the last.
    further : tuple of int
        Of each further step of one call, where that is less than `step`: what is left of a partition that the window
        cuts is lost once.
    refresh : int
        Steps that share what is frozen; more than 1 only where every cycle is one step.
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
        """Yield cycles as an operator takes them: equal ones in one call, unless each freezes coefficients.

        Parameters
        ----------
        cycles : iterable of Cycle
        first : int
            Steps that were taken before.
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
        """Return how many cells per axis a run of cycles reads beyond what it writes, after `first` steps before."""
        calls = (
            [run.times * (a + b) for a, b in zip(run.setup, run.steps, strict=True)]
            for run in self.runs(cycles, first)
        )
        return chained(calls, len(self.step))

    def batch_halo(self, steps: int) -> Cells:
        """Return how many cells per axis a batch of adaptive steps reads, each of two explicit ones."""
        return tuple([2 * steps * n for n in self.halo((Cycle(1.0),))])


def chained(halos: Iterable[Sequence[int]], ndim: int) -> Cells:
    """Return the halo of what is done one after another: halos add along a chain."""
    return tuple([sum(some) for some in zip((0,) * ndim, *halos, strict=True)])


def widest(halos: Iterable[Sequence[int]]) -> Cells:
    """Return the halo of what is done side by side: the maximum over branches, of which there is one at least."""
    return tuple([max(some) for some in zip(*halos, strict=True)])
