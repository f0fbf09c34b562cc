"""Give tiles to workers, a bounded number at a time, and take back what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import distributed

from pipelines.image.window import Grid
from pipelines.record.ready_tiles import TileId
from pipelines.tasks.fence import Fence, behind
from pipelines.tasks.values import Outcome
from pipelines.tasks.work import Work


def perform(work: Work, grid: Grid, tile: int, fence: Fence) -> Outcome:
    """Do a tile; every task calls this function."""
    with behind(fence):
        return work.perform(grid, tile)


class Submission:
    """Tiles at the workers.

    Parameters
    ----------
    client : distributed.Client
    name : str
        Begins the key of every task: Dask takes two tasks of one key for the same.
    ahead : int
        Number of tiles that may be at the workers at a time.
    fence : Fence
        Keeps tasks from writing once another process has taken over the run.
    """

    def __init__(self, client: distributed.Client, name: str, ahead: int, fence: Fence) -> None:
        self._client, self._name, self._ahead, self._fence = client, name, ahead, fence
        self._finished = distributed.as_completed()
        self._in_flight: dict[Any, TileId] = {}

    @property
    def has_room(self) -> bool:
        """Whether another tile may be given."""
        return len(self._in_flight) < self._ahead

    def give(self, found: TileId, attempt: str, work: Work, grid: Grid) -> None:
        """Give a tile to the workers.

        Parameters
        ----------
        found : TileId
        attempt : str
            Distinguishes this try from the tile's others.
        work : Work
        grid : Grid
        """
        number, tile = found
        key = f"{self._name}-{number}-{tile}-{attempt}"
        future = self._client.submit(perform, work, grid, tile, self._fence, key=key, pure=False)
        self._in_flight[future.key] = found
        self._finished.add(future)

    def outcomes(self) -> Iterator[tuple[TileId, Outcome | BaseException]]:
        """Yield tiles as they come back, each with its outcome or the error of its task, until none is out."""
        for future in self._finished:
            found = self._in_flight.pop(future.key)
            error = None if future.status == "finished" else future.exception()
            yield found, error or future.result()
