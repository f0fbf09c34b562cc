"""Define a stage: all tiles of one kind of work, and what they cost."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

from pipelines.image.window import Grid
from pipelines.store.addresses import is_remote
from pipelines.store.whole_chunks import SENT_AT_ONCE
from pipelines.tasks.pixels import OWN_CHUNK_BYTES
from pipelines.tasks.values import Cost
from pipelines.tasks.work import Work

READ_RATE, WRITE_RATE, TASK_SECONDS = 1.5e9, 0.8e9, 0.01
"""Bytes per second of one core through the codecs, and the overhead of a task; measured, to choose and to predict."""


@dataclass(frozen=True)
class Stage:
    """All tiles of one kind of work.

    Attributes
    ----------
    title : str
        Title for people.
    work : Work
        Work of each task.
    grid : Grid
        Tiles of the stage.
    after : tuple of int
        Numbers of the stages whose output it reads, tile by tile; none for the source.
    needs : tuple of int
        Numbers of the stages that must be complete before its first tile: those that measure its statistics, and
        the last readers of states that are removed first.
    """

    title: str
    work: Work
    grid: Grid
    after: tuple[int, ...] = ()
    needs: tuple[int, ...] = ()

    @functools.cached_property
    def cost(self) -> Cost:
        """Predicted cost of the stage; asked for again for every number of threads that a plan may have."""
        cost = self.work.cost(self.grid)
        return replace(cost, memory_bytes=cost.memory_bytes + self._sent_bytes)

    @property
    def _sent_bytes(self) -> int:
        """Memory of encoded chunks on their way to a store: no more than the tile, even where they are shards."""
        sent = 0
        for array in self.work.arrays(self.grid):
            if is_remote(array.pixels.root):
                tile = math.prod(array.tile) * array.dtype.itemsize
                sent = max(sent, min(tile, SENT_AT_ONCE * OWN_CHUNK_BYTES) if self.work.is_state else tile)
        return sent

    @property
    def uses_store(self) -> bool:
        """Whether its tasks read or write arrays of the run in a store."""
        arrays = (*self.work.stored, *(array.pixels for array in self.work.arrays(self.grid)))
        return any(is_remote(pixels.root) for pixels in arrays)

    @property
    def seconds(self) -> float:
        """Expected time on one core."""
        cost = self.cost
        moving = cost.read_bytes / READ_RATE + cost.written_bytes / WRITE_RATE
        return cost.seconds + moving + TASK_SECONDS * len(self.grid)
