"""Cut an evolution into legs, one operator and its cycles each, and compute the halo of a batch of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from diffusion_ops.evolution.adaptive import Control
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.reach import chained
from diffusion_ops.evolution.schedule import Cycle


@dataclass(frozen=True)
class Leg:
    """One operator and the cycles that it takes, in one batch or in all.

    Attributes
    ----------
    operator : Operator
    cycles : tuple of Cycle
    first : int
        Number of steps that the operator took in earlier batches.
    last : bool
        True where the operator ends with this batch.
    adaptive : Control or None
        State of an adaptive evolution: the leg then takes one batch of adaptive steps and has no cycles.
    begins : bool
        True where the operator begins with this batch.
    numbers : mapping or None
        Numbers that the operator refreshes, as far as they are known, named after the steps taken before; None
        where none are.
    measured : int
        Number of steps that the operator had taken when the numbers for this batch were measured.
    """

    operator: Operator
    cycles: tuple[Cycle, ...]
    first: int = 0
    last: bool = True
    adaptive: Control | None = None
    begins: bool = True
    numbers: Mapping[str, float] | None = None
    measured: int = 0

    @property
    def has_steps(self) -> bool:
        """True where there are steps to take."""
        return bool(self.cycles) or (self.adaptive is not None and not self.adaptive.finished)

    @property
    def steps(self) -> int:
        """Number of steps in this batch."""
        return sum(cycle.steps for cycle in self.cycles) + (self.adaptive.evaluations if self.adaptive else 0)

    def halo(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return how many cells per axis the leg reads beyond what it writes."""
        reach = self.operator.reach(spacing)
        parts = [reach.halo(self.cycles, self.first)]
        if self.adaptive is not None:
            parts.append(reach.adaptive_halo(self.adaptive.adaptive.batch))
        if self.begins:
            parts.append(reach.start)
        if self.last:
            parts.append(reach.finish)
        return chained(parts, len(spacing))

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return how many arrays the operator carries beside the state from batch to batch."""
        return self.operator.carried_arrays(ndim, channels)

    def bind(self, values: Mapping[str, float]) -> Leg:
        """Return the leg with the statistics of its operator replaced by their values, and numbers that are known."""
        pending = self.operator.statistics()
        bound = {name: values[name] for name in pending if name in values}
        leg = replace(self, operator=self.operator.bind(bound)) if bound else self
        if self.operator.refreshed() is None:
            return leg
        more = {name: value for name, value in values.items() if name not in pending}
        return replace(leg, numbers={**(self.numbers or {}), **more}) if more else leg

    def parts(self) -> list[Leg]:
        """Return the leg cut where its operator's numbers are measured: its start alone, then the steps."""
        refreshed = self.operator.refreshed()
        if refreshed is None or not self.cycles:
            return [self]
        parts, first = [replace(self, cycles=(), last=False)], self.first
        for i in range(0, len(self.cycles), refreshed.every):
            some = self.cycles[i : i + refreshed.every]
            last = self.last and i + refreshed.every >= len(self.cycles)
            parts.append(replace(self, cycles=some, first=first, begins=False, last=last, measured=first))
            first += parts[-1].steps
        return parts

    @property
    def lacks_numbers(self) -> bool:
        """True where numbers of the whole image have to be measured between its parts."""
        return len(self.parts()) > 1 and not self.numbers

    def stand_in(self) -> Leg:
        """Return the leg with some numbers in the place of statistics, rising: its kernels are those of any numbers."""
        leg = self.bind({name: 1.0 + i for i, name in enumerate(self.operator.statistics())})
        return replace(leg, operator=leg.operator.rehearsed(), numbers={})


def total_halo(legs: Iterable[Leg], spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the halo of successive legs: halos add along a chain."""
    return chained((leg.halo(spacing) for leg in legs), len(spacing))


def carried_into(legs: Sequence[Leg], ndim: int, channels: int) -> int:
    """Return how many carried arrays a batch receives beside the state."""
    return legs[0].carried_arrays(ndim, channels) if legs and not legs[0].begins else 0


def carried_out_of(legs: Sequence[Leg], ndim: int, channels: int) -> int:
    """Return how many carried arrays a batch passes on beside the state."""
    return legs[-1].carried_arrays(ndim, channels) if legs and not legs[-1].last else 0


def result_channels(legs: Iterable[Leg], channels: int) -> int:
    """Return how many channels the result of successive legs has.

    Raises
    ------
    ValueError
        For another number of channels than an operator takes.
    """
    for leg in legs:
        leg.operator.require_channels(channels)
        channels = leg.operator.result_channels(channels) if leg.last else channels
    return channels
