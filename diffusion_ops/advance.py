"""Carry one block through a batch of steps: the one function that every container and every engine calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diffusion_ops.block import Block
from diffusion_ops.operator import Operator
from diffusion_ops.schedule import Cycle


@dataclass(frozen=True)
class Leg:
    """One operator and the cycles it takes in a batch."""

    operator: Operator
    cycles: tuple[Cycle, ...]

    def halo(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return how many cells per axis the leg reads beyond what it writes."""
        return self.operator.halo(self.cycles, spacing)


def total_halo(legs: Iterable[Leg], spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the halo of legs one after another: halos add along a chain."""
    halo = [0] * len(spacing)
    for leg in legs:
        halo = [a + b for a, b in zip(halo, leg.halo(spacing), strict=True)]
    return tuple(halo)


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
    for leg in legs:
        for cycle, run in itertools.groupby(leg.cycles):
            count = len(list(run))
            frozen = cycle.inertial or any(leg.operator.setup_radius(block.spacing))
            for repeat in [1] * count if frozen else [count]:
                leg.operator.run(block, cycle, repeat)
    return block
