"""Smallest and largest value of the image."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import (
    STATISTICS,
    Integers,
    Statistic,
    Tally,
    no_valid_cell,
    ordered_key,
    value_of_key,
)


@dataclass(frozen=True)
class Extreme(Statistic):
    """One end of the range of values; a tally holds its key, or nothing where no cell is valid."""

    pick: ClassVar[Any]
    start: ClassVar[float]

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own value."""
        return (0,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the key of the extreme, or an empty tally where no cell is valid."""
        u = block.u[(slice(None), *keep)]
        valid: Any = True if block.valid is None else block.valid[keep]
        if not u.size or not np.any(valid):
            return Tally()
        found = self.pick.reduce(u, axis=None, where=valid, initial=self.start)
        return Tally(np.array([ordered_key(float(found))]), np.array([1]))

    def merge(self, first: Tally, second: Tally) -> Tally:
        """Return the tally of the more extreme key."""
        keys = np.concatenate([first.keys, second.keys])
        return Tally(self.end(keys), np.ones(min(1, len(keys)), np.int64))

    def value(self, tally: Tally) -> float:
        """Return the extreme."""
        if not len(tally.keys):
            raise no_valid_cell("extremes")
        return value_of_key(int(self.end(tally.keys)[0]))

    @abstractmethod
    def end(self, keys: Integers) -> Integers:
        """Return the extreme of keys as an array of one element; an empty one where there are none."""


@STATISTICS.register("minimum")
@dataclass(frozen=True)
class Minimum(Extreme):
    """Smallest valid value of all channels, in image units."""

    pick = np.minimum
    start = np.inf

    def end(self, keys: Integers) -> Integers:
        """Return the smallest key."""
        return np.sort(keys)[:1]


@STATISTICS.register("maximum")
@dataclass(frozen=True)
class Maximum(Extreme):
    """Largest valid value of all channels, in image units."""

    pick = np.maximum
    start = -np.inf

    def end(self, keys: Integers) -> Integers:
        """Return the largest key."""
        return np.sort(keys)[-1:]
