"""Carry one block through a batch of steps: the one function that every container and every engine calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from diffusion_ops.blocks.block import Block, allocate
from diffusion_ops.evolution.adaptive import Control, batch_halo, take_batch
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.schedule import Cycle


@dataclass(frozen=True)
class Leg:
    """One operator and the cycles it takes in a batch.

    Attributes
    ----------
    operator : Operator
    cycles : tuple of Cycle
    first : int
        Steps that the operator has taken in the batches before.
    last : bool
        Whether the operator ends with this batch.
    adaptive : Control or None
        Where an evolution by steps of an error stands: then it takes one batch of them, and there are no cycles.
    """

    operator: Operator
    cycles: tuple[Cycle, ...]
    first: int = 0
    last: bool = True
    adaptive: Control | None = None

    @property
    def goes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.cycles) or (self.adaptive is not None and not self.adaptive.finished)

    @property
    def steps(self) -> int:
        """Steps in this batch."""
        return sum(cycle.steps for cycle in self.cycles) + (self.adaptive.evaluations if self.adaptive else 0)

    def halo(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return how many cells per axis the leg reads beyond what it writes."""
        parts = [self.operator.halo(self.cycles, spacing)]
        if self.adaptive is not None:
            parts.append(batch_halo(self.operator, self.adaptive.adaptive.batch, spacing))
        if self.first == 0:
            parts.append(self.operator.start_radius(spacing))
        if self.last:
            parts.append(self.operator.finish_radius(spacing))
        return tuple(map(sum, zip(*parts, strict=True)))

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return how many arrays the operator carries beside the state while it goes on."""
        return self.operator.carried_arrays(ndim, channels)

    def bind(self, values: Mapping[str, float]) -> Leg:
        """Return the leg with numbers in the place of its operator's statistics."""
        return replace(self, operator=self.operator.bind(values)) if self.operator.statistics() else self


def total_halo(legs: Iterable[Leg], spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the halo of legs one after another: halos add along a chain."""
    halo = [0] * len(spacing)
    for leg in legs:
        halo = [a + b for a, b in zip(halo, leg.halo(spacing), strict=True)]
    return tuple(halo)


def carried_into(legs: Sequence[Leg], ndim: int, channels: int) -> int:
    """Return how many carried arrays a batch is handed beside the state."""
    return legs[0].carried_arrays(ndim, channels) if legs and legs[0].first else 0


def carried_out_of(legs: Sequence[Leg], ndim: int, channels: int) -> int:
    """Return how many carried arrays a batch hands on beside the state."""
    return legs[-1].carried_arrays(ndim, channels) if legs and not legs[-1].last else 0


def result_channels(legs: Iterable[Leg], channels: int) -> int:
    """Return how many channels come out of legs one after another."""
    for leg in legs:
        channels = leg.operator.result_channels(channels) if leg.last else channels
    return channels


def advance(block: Block, legs: Sequence[Leg]) -> Block:
    """Take all cycles of all legs on a block, in place, and return it.

    Cells farther than `total_halo(legs)` from the open sides have the bits they would have in the whole image; the
    others are spoilt. Sides that are not open are no-flux walls, as are invalid cells.

    Parameters
    ----------
    block : Block
        The state, its walls and its open sides.
    legs : sequence of Leg
        Operators without statistics left in them.
    """
    if block.valid is not None and not block.valid.any():
        return _pass_over(block, legs)
    for leg in legs:
        operator = leg.operator
        if leg.first == 0:
            operator.start(block)
            block.spoil(operator.start_radius(block.spacing))
        block.step = leg.first
        for cycle, run in itertools.groupby(leg.cycles):
            count = len(list(run))
            frozen = cycle.inertial or any(operator.setup_radius(block.spacing))
            for repeat in [1] * count if frozen else [count]:
                operator.run(block, cycle, repeat)
                block.step += repeat * cycle.steps
        if leg.adaptive is not None:
            take_batch(block, operator, leg.adaptive.tau, leg.adaptive.adaptive.batch)
        if leg.last:
            operator.finish(block)
            block.spoil(operator.finish_radius(block.spacing))
            block.carried = None
    return block


def _pass_over(block: Block, legs: Sequence[Leg]) -> Block:
    """Give a block without a valid cell the channels and carried arrays that legs would leave; it has no values."""
    channels = result_channels(legs, len(block.storage))
    if channels != len(block.storage):
        block.storage = allocate(channels, block.spatial, block.storage.dtype)
    carried = carried_out_of(legs, len(block.spatial), channels)
    block.carried = allocate(carried, block.spatial, block.storage.dtype) if carried else None
    return block
