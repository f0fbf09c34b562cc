"""Decide which tile starts next: later stages first, in order within a stage, once the tiles that it reads are done."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.image.window import Region
from pipelines.plan.stage import Stage

TileId = tuple[int, int]
"""A tile of a run: (stage, tile)."""


class Worklist:
    """Tiles of one stage that are to be visited, the most urgent first, and the number of visits of each.

    Memory is five bytes per tile and one entry per tile that waits.
    """

    def __init__(self, tiles: int, first: Mapping[int, float]) -> None:
        self.visits = np.zeros(tiles, np.uint32)
        self._waiting: list[tuple[float, int]] = []
        self._urgency: dict[int, float] = {}
        self.put(first)

    def put(self, tiles: Mapping[int, float]) -> None:
        """Add waiting tiles, each with its urgency: the smallest number goes first."""
        for tile, urgency in tiles.items():
            if tile not in self._urgency or urgency < self._urgency[tile]:
                self._urgency[tile] = urgency
                heapq.heappush(self._waiting, (urgency, tile))

    def visit(self, tile: int) -> None:
        """Count a visit of a tile; the tile does not wait any more."""
        self.visits[tile] += 1
        self._urgency.pop(tile, None)

    def take(self, may_go: Callable[[int], bool]) -> int | None:
        """Remove and return the most urgent waiting tile that may go; None without one."""
        held: list[tuple[float, int]] = []
        found = None
        while self._waiting and found is None:
            urgency, tile = heapq.heappop(self._waiting)
            if self._urgency.get(tile) != urgency:
                continue  # the tile has become more urgent since, or has started
            if may_go(tile):
                found = tile
                del self._urgency[tile]
            else:
                held.append((urgency, tile))
        for one in held:
            heapq.heappush(self._waiting, one)
        return found


class ReadyTiles:
    """Finished tiles of every stage, one byte each, and the tile of each stage that comes next.

    Tiles of a stage start in row-major order, so that a tile of the next batch is ready when its neighbours in this
    batch are done, long before the whole batch is: what a batch writes is read soon. As a third batch waits until the
    first one is read, batches go in pairs, one that leads and one that follows close behind; the tiles that are left of
    a pair go before those of the next one. Tiles of a worklist start by urgency, and never while a tile of the same
    stage that they read is in flight.

    Parameters
    ----------
    stages : list of Stage
        Stages as they are now; `RunState` owns the list and may replace some.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.done: list[NDArray[np.bool_]] = [np.zeros(len(stage.grid), bool) for stage in stages]
        self._left = [len(stage.grid) for stage in stages]
        self._cursor = [0] * len(stages)
        self._again: list[TileId] = []
        self._in_flight: dict[int, set[int]] = {}
        self._worklists: dict[int, Worklist] = {}
        self._following: dict[int, bool] = {}
        self.skipped: set[int] = set()
        for number in range(len(stages)):
            self.open(number)

    # ---- what is done

    def open(self, stage: int) -> None:
        """Mark all tiles of a stage as not done; none of them may be in flight."""
        work, grid = self.stages[stage].work, self.stages[stage].grid
        self._cursor[stage] = 0
        self.done[stage][:] = False
        if work.visits_again:
            first = work.first_visits(grid)
            self._worklists[stage] = Worklist(len(grid), first)
            self.done[stage][:] = True
            self.done[stage][list(first)] = False
        self._count(stage)

    def open_tile(self, stage: int, tile: int) -> None:
        """Mark a tile as not done."""
        self._cursor[stage] = 0
        self.done[stage][tile] = False
        self._count(stage)

    def finish(self, stage: int, tile: int, reopened: Mapping[int, float]) -> bool:
        """Mark a tile as done and those of a worklist to visit again as not; return whether the stage is complete."""
        if not self.done[stage][tile]:
            self.done[stage][tile] = True
            self._left[stage] -= 1
        if stage in self._worklists:
            self._worklists[stage].visit(tile)
            self._worklists[stage].put(reopened)
            for other in reopened:
                self._left[stage] += int(self.done[stage][other])
                self.done[stage][other] = False
        return self._left[stage] == 0

    def skip(self, stage: int) -> None:
        """Mark a stage as done without its tiles, because nothing needs what they would write."""
        self.skipped.add(stage)
        self.done[stage][:] = True
        self._left[stage] = 0

    def _count(self, stage: int) -> None:
        self._left[stage] = int((~self.done[stage]).sum())

    def complete(self, stage: int) -> bool:
        """Return whether all tiles of a stage are done."""
        return self._left[stage] == 0

    def begun(self, stage: int) -> bool:
        """Return whether any tile of a stage is done."""
        visits = self.visits(stage)
        return bool(self.done[stage].any() if visits is None else visits.any())

    def visits(self, stage: int) -> NDArray[np.uint32] | None:
        """Return the number of visits of each tile of a worklist; None for other stages."""
        return self._worklists[stage].visits if stage in self._worklists else None

    @property
    def left(self) -> int:
        """Number of tiles that are not done."""
        return sum(self._left)

    def left_of(self, stage: int) -> int:
        """Return the number of tiles of a stage that are not done."""
        return self._left[stage]

    # ---- what may start

    def again(self, stage: int, tile: int) -> None:
        """Let a tile start once more, after it has failed."""
        self.release(stage, tile)
        if stage in self._worklists:
            self._worklists[stage].put({tile: -np.inf})
        else:
            self._again.append((stage, tile))

    def release(self, stage: int, tile: int) -> None:
        """Note that a tile is not in flight any more."""
        self._in_flight.get(stage, set()).discard(tile)

    def next(self) -> TileId | None:
        """Return the next tile that may start now, which is in flight from then on, or None."""
        found = self._again.pop(0) if self._again else self._next()
        if found is not None:
            self._in_flight.setdefault(found[0], set()).add(found[1])
        return found

    def more(self, stage: int, count: int) -> list[TileId]:
        """Return up to `count` tiles of a stage that may start after one of it, in order; they are in flight then."""
        found: list[TileId] = []
        while len(found) < count and (tile := self._next_in_order(stage)) is not None:
            found.append((stage, tile))
            self._in_flight.setdefault(stage, set()).add(tile)
        return found

    def _next(self) -> TileId | None:
        # The sort is stable: later stages first, then those that give way.
        for stage in sorted(reversed(range(len(self.stages))), key=self._gives_way):
            tile = self._next_visit(stage) if stage in self._worklists else self._next_in_order(stage)
            if tile is not None:
                if stage not in self._following:
                    self._following[stage] = not all(map(self._all_started, self.stages[stage].after))
                return stage, tile
        return None

    def _gives_way(self, number: int) -> bool:
        """Return whether a stage is the next pair's, and tiles are left of the pair before, which a third one needs."""
        stage = self.stages[number]
        return bool(stage.needs) and any(
            self._following.get(i, False) and not self._all_started(i) for i in stage.after
        )

    def _all_started(self, stage: int) -> bool:
        """Return whether all tiles of a stage are done or in flight."""
        return self._left[stage] <= len(self._in_flight.get(stage, ()))

    def _next_in_order(self, number: int) -> int | None:
        done, cursor = self.done[number], self._cursor[number]
        while cursor < len(done) and (done[cursor] or cursor in self._in_flight.get(number, ())):
            cursor += 1
        self._cursor[number] = cursor
        if cursor == len(done) or not self._ready(self.stages[number], cursor):
            return None
        self._cursor[number] = cursor + 1
        return cursor

    def _next_visit(self, number: int) -> int | None:
        stage, in_flight = self.stages[number], self._in_flight.setdefault(number, set())

        def may_go(tile: int) -> bool:
            read = stage.work.window(stage.grid.region(tile)).read
            return in_flight.isdisjoint(stage.grid.covering(read)) and self._ready(stage, tile)

        return self._worklists[number].take(may_go)

    def _ready(self, stage: Stage, tile: int) -> bool:
        if not all(self.complete(i) for i in stage.needs):
            return False
        if not stage.after:
            return True
        read = stage.work.window(stage.grid.region(tile)).read
        # A stage that is read may have fewer channels than its reader asks for.
        return all(self._are_done(i, read) for i in stage.after)

    def _are_done(self, stage: int, read: Region) -> bool:
        """Return whether all tiles of a stage that a region touches are done; the driver asks for every tile."""
        grid = self.stages[stage].grid
        return bool(self.done[stage].reshape(grid.counts)[grid.box(read)].all())
