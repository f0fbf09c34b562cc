"""Define a stage: all tiles of one kind of work, and what they cost."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pipelines.image.window import Grid
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
        return self.work.cost(self.grid)

    @property
    def seconds(self) -> float:
        """Expected time on one core."""
        cost = self.cost
        moving = cost.read_bytes / READ_RATE + cost.written_bytes / WRITE_RATE
        return cost.seconds + moving + TASK_SECONDS * len(self.grid)
