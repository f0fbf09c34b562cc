"""Hold the state of a run, which only events change, so that replaying the journal on resume restores it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from diffusion_ops.blocks.statistic import Tally
from pipelines.plan.stage import Stage
from pipelines.record.checksums import Checksums
from pipelines.record.journal import Claimed, Event, Finished, Forgotten, Published
from pipelines.record.ready_tiles import ReadyTiles, TileId
from pipelines.record.tallies import Tallies
from pipelines.tasks.work import Conclusion, Told, Work


class RunState:
    """The state of a run. It reads no clock, no file and no cluster: the same events give the same state.

    Parameters
    ----------
    stages : sequence of Stage
        Stages as planned.
    retries : int
        Number of times that a failed tile is tried again.

    Attributes
    ----------
    stages : list of Stage
        Stages as they are now: conclusions may have changed what they read and write.
    tiles : ReadyTiles
        Tiles that are done, and tiles that may start.
    rounds : list of int
        Number of each stage's current round, from 0.
    bound : dict
        Values of statistics, per position of an operator.
    conclusions : dict
        Last conclusion of each stage that was complete.
    tries : dict
        Number of failures of each tile.
    failed : dict
        Errors of the tiles that are given up.
    claims : dict
        Stamps of the results that were about to be moved to their targets.
    published : set of int
        Numbers of the results that are complete at their targets.
    """

    def __init__(self, stages: Sequence[Stage], retries: int = 0) -> None:
        self._planned = tuple(stages)
        self.stages = list(stages)
        self.tiles = ReadyTiles(self.stages)
        self.rounds = [0] * len(stages)
        self.bound: dict[int, Mapping[str, float]] = {}
        self.conclusions: dict[int, Conclusion] = {}
        self.tries: dict[TileId, int] = {}
        self.failed: dict[TileId, str] = {}
        self.claims: dict[int, list[int]] = {}
        self.published: set[int] = set()
        self._retries = retries
        self._tallies: dict[int, Tallies] = {}
        self._each: dict[int, list[Tally]] = {}
        self._held: dict[int, int] = {}
        self._together: dict[int, tuple[int, ...]] = {}

    # ---- events that the journal keeps

    def replay(self, events: Iterable[Event]) -> Checksums:
        """Apply the events of a journal, and return the last checksum of each tile that was ever finished."""
        last = Checksums()
        for event in events:
            self.apply(event)
            last.note(event)
        return last

    def apply(self, event: Event) -> Conclusion | None:
        """Apply an event, and return the conclusion of its stage where that is complete now."""
        match event:
            case Finished():
                return self._finish(event)
            case Forgotten():
                self._forget(event.stage, event.tile)
            case Claimed():
                self.claims[event.output] = event.stamp
            case Published():
                self.published.add(event.output)
        return None

    def _finish(self, event: Finished) -> Conclusion | None:
        number, tile = event.stage, event.tile
        self.tiles.release(number, tile)
        if not self._is_current(event):
            return None
        stage = self.stages[number]
        reopened: Mapping[int, float] = {}
        if event.tallies:
            self._take_tallies(number, stage.work, event.tallies)
            reopened = stage.work.next_visits(stage.grid, tile, event.tallies)
        return self._conclude(number) if self.tiles.finish(number, tile, reopened) else None

    def _is_current(self, event: Finished) -> bool:
        """Return whether a tile is still to be done in the event's round; the event of a lost worker may come twice."""
        done = bool(self.tiles.done[event.stage][event.tile])
        return not done and event.round == self.round(event.stage, event.tile)

    def _take_tallies(self, number: int, work: Work, tallies: Mapping[str, Tally]) -> None:
        if work.collects:
            self._each.setdefault(number, []).extend(tallies.values())
        else:
            self._tallies.setdefault(number, Tallies()).add(work.statistics, tallies)
        if self._tells_much(number):
            each = self._held.get(number, 0) + _size(tallies)
            self._held[number] = each if work.collects else self._tallies[number].nbytes

    def _tells_much(self, number: int) -> bool:
        return self.stages[number].work.told_bytes(self.stages[number].grid) > 0

    def told_bytes(self, number: int, more: Mapping[str, Tally]) -> int:
        """Return the bytes of all that stages have told that tell much, with tallies of a further tile; else 0."""
        return sum(self._held.values()) + _size(more) if self._tells_much(number) else 0

    def _forget(self, number: int, tile: int | None) -> None:
        """Mark a tile as not done, or its whole stage, because tallies cannot be subtracted tile by tile."""
        work = self.stages[number].work
        if tile is not None and not (work.statistics or work.collects or work.visits_again):
            self.tiles.open_tile(number, tile)
            return
        # Stages that repeat their rounds together start again together, from the plan.
        for one in self._all_together(number):
            self.stages[one] = replace(self.stages[one], work=self._planned[one].work)
            self.rounds[one] = 0
            self._clear(one)

    def _all_together(self, number: int) -> set[int]:
        """Return the stages that repeat their rounds with a stage, or with one of those."""
        found, before = {number}, 0
        while len(found) != before:
            before = len(found)
            for stage, others in self._together.items():
                if found.intersection((stage, *others)):
                    found.update((stage, *others))
        return found

    def _clear(self, number: int) -> None:
        self._drop_tallies(number)
        self.tiles.open(number)

    def _drop_tallies(self, number: int) -> None:
        self._tallies.pop(number, None)
        self._each.pop(number, None)
        self._held.pop(number, None)

    # ---- what follows from a complete stage

    def _conclude(self, number: int) -> Conclusion:
        work, tallies = self.stages[number].work, self._tallies.pop(number, Tallies())
        told = Told(
            tallies.sums(work.statistics),
            tuple(self._each.get(number, ())),
            self.conclusions,
            self.tiles.visits(number),
        )
        concluded = work.conclude(told)
        self.conclusions[number] = concluded
        self._drop_tallies(number)
        for position, values in concluded.bound.items():
            self.bound[position] = {**self.bound.get(position, {}), **values}
        for stage in concluded.skipped:
            self.tiles.skip(stage)
        if concluded.reader is not None:
            self._hand_on(number, concluded.reader)
        for stage, work in concluded.again.items():
            self._together[stage] = tuple(concluded.again)
            self.stages[stage] = replace(self.stages[stage], work=work)
            self.rounds[stage] += 1
            self._clear(stage)
        return concluded

    def _hand_on(self, number: int, reader: int) -> None:
        """Let the stage that ends an operator read the state that another stage has written."""
        made, end = self.stages[number].work, self.stages[reader]
        assert made.writes is not None
        after = (number, *(i for i in end.after if i not in range(number, reader)))
        self.stages[reader] = replace(end, work=end.work.moved(made.writes, made.carries), after=after)

    # ---- failures of tiles in flight, which do not outlive the process

    def fail(self, tile: TileId, error: str, final: bool = False) -> int:
        """Count a failure of a tile, and return the tries that are left; at 0 the tile is given up."""
        self.tries[tile] = self.tries.get(tile, 0) + 1
        left = 0 if final else max(0, self._retries + 1 - self.tries[tile])
        if left:
            self.tiles.again(*tile)
        else:
            self.tiles.release(*tile)
            self.failed[tile] = error
        return left

    # ---- questions

    def round(self, number: int, tile: int) -> int:
        """Return the round of a stage, or the number of visits of a tile of a worklist."""
        visits = self.tiles.visits(number)
        return self.rounds[number] if visits is None else int(visits[tile])

    def work(self, number: int, tile: int) -> Work:
        """Return the work on a tile now, with statistics replaced by their values."""
        stage, visits = self.stages[number], self.tiles.visits(number)
        work = stage.work.bind(self.bound)
        return work if visits is None else work.at_visit(stage.grid, tile, visits)

    def concluded(self, number: int) -> Conclusion | None:
        """Return the conclusion of a stage, None while tiles of it are left."""
        return self.conclusions.get(number) if self.tiles.complete(number) else None


def _size(tallies: Mapping[str, Tally]) -> int:
    return sum(tally.nbytes for tally in tallies.values())
