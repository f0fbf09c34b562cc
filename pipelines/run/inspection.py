"""Compare the tiles that a resumed run takes over with the journal, on the workers, before anything reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import distributed
import numpy as np

from pipelines.image.window import Grid
from pipelines.record.journal import Finished
from pipelines.record.ready_tiles import TileId
from pipelines.record.state import RunState
from pipelines.tasks.work import Work

TOGETHER = 8
"""Number of tiles that one task reads, one after another."""


@dataclass(frozen=True)
class Group:
    """Tiles of one stage, each with the work that wrote it and the checksum that the journal has."""

    stage: int
    grid: Grid
    tiles: tuple[tuple[int, Work, int], ...]

    def differing(self) -> list[int]:
        """Return the tiles that are not as they were written; every task calls this method."""
        return [tile for tile, work, crc in self.tiles if _checksum(work, self.grid, tile) != crc]


def _checksum(work: Work, grid: Grid, tile: int) -> int | None:
    try:
        return work.stored_checksum(grid.region(tile))
    except Exception:  # any codec's error means a chunk that is not whole
        return None


def groups(state: RunState, needed: Iterable[int], last: dict[TileId, Finished]) -> Iterator[Group]:
    """Yield the finished tiles of the stages whose arrays are still needed.

    Parameters
    ----------
    state : RunState
    needed : iterable of int
    last : dict
        Last event of each finished tile.
    """
    for number in needed:
        stage, visits = state.stages[number], state.tiles.visits(number)
        written = state.tiles.done[number] if visits is None else visits > 0
        # A tile lies where its last visit has put it.
        before = None if visits is None else visits - (visits > 0)
        tiles = [int(tile) for tile in np.flatnonzero(written) if (number, int(tile)) in last]
        for start in range(0, len(tiles), TOGETHER):
            yield Group(
                number,
                stage.grid,
                tuple(
                    (
                        tile,
                        stage.work if before is None else stage.work.at_visit(stage.grid, tile, before),
                        last[number, tile].crc,
                    )
                    for tile in tiles[start : start + TOGETHER]
                ),
            )


def damaged_tiles(
    found: Iterable[Group], submit: Callable[..., distributed.Future[Any]], name: str, ahead: int
) -> Iterator[TileId]:
    """Read groups of tiles on the workers and yield the tiles that differ from the journal.

    Parameters
    ----------
    found : iterable of Group
    submit : callable
        Gives a call to the workers.
    name : str
        Begins the key of every task.
    ahead : int
        Number of groups that may be at the workers at a time.

    Raises
    ------
    Exception
        Of a task that could not end, such as that of a worker that was lost again and again.
    """
    waiting = enumerate(found)
    out: dict[Any, Group] = {}
    finished = distributed.as_completed()

    def give() -> None:
        for count, group in waiting:
            future = submit(Group.differing, group, key=f"{name}-check-{count}", pure=False)
            out[future.key] = group
            finished.add(future)
            if len(out) >= ahead:
                return

    give()
    for future in finished:
        group = out.pop(future.key)
        for tile in future.result():
            yield group.stage, tile
        give()
