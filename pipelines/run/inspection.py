"""Compare the tiles that a resumed run takes over with the journal, on the workers, before anything reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.image.window import Grid
from pipelines.plan.plan import Plan
from pipelines.record.checksums import Checksums
from pipelines.record.ready_tiles import TileId
from pipelines.record.state import RunState
from pipelines.run.submission import Submission
from pipelines.tasks.values import Outcome
from pipelines.tasks.work import Work

TOGETHER = 8
"""Number of tiles that one task reads, one after another."""


@dataclass(frozen=True)
class Group:
    """Finished tiles of one stage.

    Attributes
    ----------
    stage : int
    grid : Grid
    works : dict
        Work that has written each tile.
    crcs : dict
        Checksum of each tile in the journal.
    """

    stage: int
    grid: Grid
    works: Mapping[int, Work]
    crcs: Mapping[int, int]

    @property
    def tiles(self) -> list[TileId]:
        """The tiles of the group."""
        return [(self.stage, tile) for tile in self.works]

    def perform(self, grid: Grid, tile: int) -> Outcome:
        """Read a tile as it is stored, and return its checksum."""
        return Outcome(self.works[tile].stored_checksum(grid.region(tile)))

    def is_whole(self, tile: int) -> bool:
        """Return whether a tile is stored as the journal says."""
        try:
            return self.perform(self.grid, tile).crc == self.crcs[tile]
        except Exception:  # any codec's error means a chunk that is not whole
            return False


def needed_stages(state: RunState, plan: Plan) -> set[int]:
    """Return the stages that have written an array that is still to be read, or to be published."""
    found = set()
    left = {number for number in range(len(state.stages)) if not state.tiles.complete(number)}
    read = {pixels for number in left for pixels in state.stages[number].work.stored}
    for number, stage in enumerate(state.stages):
        written = stage.work.writes
        if written is None or number in state.tiles.skipped or not state.tiles.begun(number):
            continue
        output = plan.output_of(stage)
        unpublished = output is not None and output not in state.published
        # A stage that is not complete goes on in its own array.
        if written in read or unpublished or number in left:
            found.add(number)
    return found


def groups(state: RunState, needed: Iterable[int], last: Checksums) -> Iterator[Group]:
    """Yield the finished tiles of the stages whose arrays are still needed, but for what is forgotten meanwhile.

    Parameters
    ----------
    state : RunState
    needed : iterable of int
    last : Checksums
        Of each finished tile.
    """
    for number in sorted(needed):
        stage, visits = state.stages[number], state.tiles.visits(number)
        written = state.tiles.done[number] if visits is None else visits > 0
        # A tile of a worklist lies where its last visit has put it.
        before = None if visits is None else visits - (visits > 0)
        tiles = np.flatnonzero(written)
        for start in range(0, len(tiles), TOGETHER):
            found = {tile: last.get(number, tile) for tile in tiles[start : start + TOGETHER].tolist()}
            crcs = {tile: crc for tile, crc in found.items() if crc is not None}
            works = {
                t: stage.work if before is None else stage.work.at_visit(stage.grid, t, before) for t in crcs
            }
            if crcs:
                yield Group(number, stage.grid, works, crcs)


def damaged_tiles(found: Iterable[Group], submission: Submission) -> Iterator[TileId]:
    """Let workers read groups of tiles, and yield the tiles that cannot be read or differ from the journal."""
    waiting, crcs = iter(found), {}

    def give() -> None:
        for group in itertools.islice(waiting, submission.room):
            crcs.update({(group.stage, tile): crc for tile, crc in group.crcs.items()})
            submission.give(group.tiles, group, group.grid)

    give()
    for outcomes in submission.outcomes():
        for tile, outcome in outcomes:
            if crcs.pop(tile) != (outcome.crc if isinstance(outcome, Outcome) else None):
                yield tile
        give()
