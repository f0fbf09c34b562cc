"""Decide which tile may go next: in order within a stage, later stages first, as soon as what they read is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.image.window import Grid, Region
from pipelines.plan.plan import Stage


class Frontier:
    """Finished tiles of every stage, one bit each, and how far each stage has been handed out.

    Memory is one byte per tile; nothing is listed. Tiles of a stage are handed out in row-major order, so a tile of the
    next batch is ready when its neighbours below it are done, long before the batch is.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.done: list[NDArray[np.bool_]] = [np.zeros(len(stage.grid), bool) for stage in stages]
        self._left = [len(stage.grid) for stage in stages]
        self._cursor = [0] * len(stages)
        self._again: list[tuple[int, int]] = []
        self.skipped: set[int] = set()

    def mark(self, stage: int, tile: int) -> bool:
        """Note a finished tile and return whether it was the stage's last."""
        if not self.done[stage][tile]:
            self.done[stage][tile] = True
            self._left[stage] -= 1
        return self._left[stage] == 0

    def forget(self, stage: int, tile: int | None = None) -> None:
        """Take a tile of a stage, or all of them, as not done; none of the stage may be on its way."""
        self._cursor[stage] = 0
        self.done[stage][slice(None) if tile is None else tile] = False
        self._left[stage] = int((~self.done[stage]).sum())

    def skip(self, stage: int) -> None:
        """Take a stage as done without its tiles: nobody needs what they would write."""
        self.skipped.add(stage)
        self.done[stage][:] = True
        self._left[stage] = 0

    def complete(self, stage: int) -> bool:
        """Return whether all tiles of a stage are done."""
        return self._left[stage] == 0

    @property
    def left(self) -> int:
        """Tiles that are not done."""
        return sum(self._left)

    def again(self, stage: int, tile: int) -> None:
        """Hand out a tile once more."""
        self._again.append((stage, tile))

    def next(self) -> tuple[int, int] | None:
        """Return the next (stage, tile) that may start now, or None."""
        if self._again:
            return self._again.pop(0)
        for stage in range(len(self.stages) - 1, -1, -1):
            tile = self._next_of(stage)
            if tile is not None:
                return stage, tile
        return None

    def _next_of(self, number: int) -> int | None:
        done, cursor = self.done[number], self._cursor[number]
        while cursor < len(done) and done[cursor]:
            cursor += 1
        self._cursor[number] = cursor
        if cursor == len(done) or not self._ready(self.stages[number], cursor):
            return None
        self._cursor[number] = cursor + 1
        return cursor

    def _ready(self, stage: Stage, tile: int) -> bool:
        if not all(self.complete(i) for i in stage.needs):
            return False
        if not stage.after:
            return True
        read = stage.work.window(stage.grid.region(tile)).read
        return all(self._stands(self.stages[i].grid, self.done[i], read) for i in stage.after)

    @staticmethod
    def _stands(grid: Grid, done: Any, region: Region) -> bool:
        """Return whether a region of what a stage writes is done; it may have fewer channels than are read."""
        inside = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(region, grid.shape, strict=True))
        return all(done[i] for i in grid.covering(inside))
