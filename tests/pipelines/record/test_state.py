"""The run state by events alone: no cluster, no files, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally
from pipelines.image.window import Grid, Region, Window, window_of
from pipelines.plan.stage import Stage
from pipelines.record.journal import Event, Finished, Forgotten, event_of, line_of
from pipelines.record.state import RunState
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import Conclusion, Told, Work

GRID = Grid((6, 6), (2, 2))


@dataclass(frozen=True)
class Plain(Work):
    """Work that is never done: only what the state asks of it is there."""

    name: str = "a"
    halo_cells: int = 0
    reads: tuple[ZarrPixels, ...] = ()

    @property
    def sources(self) -> tuple[ZarrPixels, ...]:
        return self.reads

    @property
    def writes(self) -> ZarrPixels:
        return array(self.name)

    def cost(self, grid: Grid) -> Cost:
        return Cost(1, 1, 1)

    def window(self, region: Region) -> Window:
        return window_of(region, GRID.shape, (self.halo_cells,) * 2)

    def moved(self, pixels: Any, carried: Any) -> Work:
        return replace(self, reads=(pixels,))

    def compute(self, window: Window) -> Done:
        raise AssertionError("nothing is computed here")


@dataclass(frozen=True)
class Measuring(Plain):
    """Tells the mean, which takes the place of a statistic of the operator at position 3."""

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        return {"mean": STATISTICS["mean"]()}

    def conclude(self, told: Told) -> Conclusion:
        values = {"mean": float(told.tallies["mean"].counts.sum())}
        return Conclusion(values, bound={3: values})


@dataclass(frozen=True)
class Repeated(Plain):
    """Is done three times, each with an array of its own; then the stage behind it reads the last."""

    round: int = 0

    @property
    def writes(self) -> ZarrPixels:
        return array(f"{self.name}@{self.round}")

    def conclude(self, told: Told) -> Conclusion:
        if self.round == 2:
            return Conclusion(reader=1)
        return Conclusion(again={0: replace(self, round=self.round + 1)})


@dataclass(frozen=True)
class Spreading(Plain):
    """A worklist: a visit whose tally has tiles as keys wants these to be visited, as urgently as the counts say."""

    visits_again = True

    def first_visits(self, grid: Grid) -> Mapping[int, float]:
        return {0: 0.0}

    def next_visits(self, grid: Grid, tile: int, tallies: Mapping[str, Tally]) -> Mapping[int, float]:
        wanted = tallies.get("wanted", Tally())
        return dict(zip(wanted.keys.tolist(), map(float, wanted.counts.tolist()), strict=True))

    def conclude(self, told: Told) -> Conclusion:
        assert told.visits is not None
        return Conclusion({"visits": float(told.visits.sum())})


def array(name: str) -> ZarrPixels:
    return ZarrPixels("/nowhere", name, "yx", "yx")


def stages(*works: Work) -> list[Stage]:
    """Return stages that each read the one before, over the same nine tiles."""
    return [Stage(f"stage {i}", work, GRID, (i - 1,) if i else ()) for i, work in enumerate(works)]


def counted(n: int) -> dict[str, Tally]:
    return {"mean": Tally(np.array([0]), np.array([n]))}


def wanting(**urgency: int) -> dict[str, Tally]:
    keys = sorted(int(name[1:]) for name in urgency)
    return {"wanted": Tally(np.array(keys, np.int64), np.array([urgency[f"t{k}"] for k in keys], np.int64))}


def facts(state: RunState) -> Any:
    """Return all that a state knows, as plain values."""
    visits = [state.tiles.visits(i) for i in range(len(state.stages))]
    return (
        [stage.work for stage in state.stages],
        [stage.after for stage in state.stages],
        [done.tolist() for done in state.tiles.done],
        [None if v is None else v.tolist() for v in visits],
        state.rounds,
        state.bound,
        state.conclusions,
        sorted(state.tiles.skipped),
    )


def carry_out(state: RunState, order: Any = None) -> list[Event]:
    """Do all tiles that are ready, one at a time or in an order that random numbers choose."""
    events, in_flight = [], []
    while True:
        while len(in_flight) < 3 and (found := state.tiles.next()) is not None:
            in_flight.append(found)
        if not in_flight:
            return events
        number, tile = in_flight.pop(0 if order is None else order(len(in_flight)))
        event = Finished(number, tile, 7, counted(tile), state.round(number, tile))
        events.append(event)
        state.apply(event)


def test_a_tile_is_ready_when_what_it_reads_is_done() -> None:
    state = RunState(stages(Plain("a"), Plain("b", halo_cells=1)))
    order = [(event.stage, event.tile) for event in carry_out(state)]
    # A tile of the second stage reads its neighbours, and goes as soon as these are done.
    assert order.index((1, 0)) < order.index((0, 8))
    assert len(order) == 18
    assert state.tiles.left == 0


def test_what_is_measured_is_bound_and_known_to_everybody() -> None:
    state = RunState(stages(Measuring("a"), Plain("b")))
    carry_out(state)
    assert state.bound == {3: {"mean": float(sum(range(9)))}}
    concluded = state.concluded(0)
    assert concluded is not None
    assert concluded.values == {"mean": 36.0}


def test_a_stage_that_is_done_again_begins_with_its_new_work_and_hands_on_the_last() -> None:
    state = RunState(stages(Repeated("a"), Plain("b", reads=(array("a@0"),))))
    events = carry_out(state)
    assert [e.round for e in events if e.stage == 0] == [0] * 9 + [1] * 9 + [2] * 9
    assert state.rounds == [2, 0]
    assert state.stages[1].work.sources == (array("a@2"),)


def test_a_worklist_visits_what_is_wanted_most_urgent_first_and_nothing_else() -> None:
    state = RunState(stages(Spreading("a", halo_cells=1)))
    assert state.tiles.next() == (0, 0)
    assert state.tiles.next() is None
    state.apply(Finished(0, 0, tallies=wanting(t8=5, t2=1, t4=9)))
    assert state.tiles.next() == (0, 2)
    # Tile 4 touches tile 2, which is on its way; tile 8 does not.
    assert state.tiles.next() == (0, 8)
    assert state.tiles.next() is None
    state.apply(Finished(0, 2))
    state.apply(Finished(0, 8, tallies=wanting(t0=3)))
    assert state.tiles.next() == (0, 0)
    assert state.tiles.next() is None
    state.apply(Finished(0, 0, round=1))
    assert state.tiles.next() == (0, 4)
    concluded = state.apply(Finished(0, 4))
    assert concluded is not None
    assert concluded.values == {"visits": 5.0}
    visits = state.tiles.visits(0)
    assert visits is not None
    assert visits.tolist() == [2, 0, 1, 0, 1, 0, 0, 0, 1]


def test_a_tile_that_comes_twice_counts_once() -> None:
    state = RunState(stages(Measuring("a")))
    event = Finished(0, 4, tallies=counted(10))
    state.apply(event)
    state.apply(event)
    carry_out(state)
    assert state.bound[3]["mean"] == 10 + 36 - 4


def test_an_event_of_an_earlier_round_changes_nothing() -> None:
    state = RunState(stages(Repeated("a"), Plain("b")))
    for tile in range(9):
        state.apply(Finished(0, tile))
    assert state.rounds == [1, 0]
    before = facts(state)
    assert state.apply(Finished(0, 4, round=0)) is None
    assert facts(state) == before


def test_a_forgotten_tile_is_done_again_and_a_measured_stage_from_the_beginning() -> None:
    state = RunState(stages(Plain("a"), Measuring("b")))
    carry_out(state)
    state.apply(Forgotten(0, 4))
    assert state.tiles.left == 1
    assert state.tiles.next() == (0, 4)
    state.apply(Finished(0, 4))
    state.apply(Forgotten(1, 4))  # what one tile has told cannot be taken back
    assert state.tiles.left == 9
    carry_out(state)
    assert state.bound[3]["mean"] == 36


def test_what_was_forgotten_stays_forgotten_when_the_journal_is_replayed() -> None:
    """A half-written array was taken for a whole one: the second kill remembered what the first had forgotten."""
    planned = stages(Plain("a"), Plain("b"))
    state = RunState(planned)
    journal: list[Event] = [Finished(0, tile) for tile in range(9)]
    journal += [Forgotten(0), Finished(0, 0), Finished(0, 1)]
    for event in journal:
        state.apply(event)
    assert state.tiles.done[0].tolist() == [True, True] + [False] * 7


def test_a_cycle_of_stages_is_forgotten_together() -> None:
    state = RunState(stages(Repeated("a"), Plain("b")))
    for tile in range(9):
        state.apply(Finished(0, tile))
    state.apply(Finished(0, 3, round=1))
    state.apply(Forgotten(0))
    assert state.rounds == [0, 0]
    assert state.stages[0].work == Repeated("a")
    carry_out(state)
    assert state.rounds == [2, 0]


def test_a_tile_fails_as_often_as_allowed_and_is_then_given_up() -> None:
    state = RunState(stages(Plain("a")), retries=1)
    tile = state.tiles.next()
    assert tile == (0, 0)
    assert state.fail(tile, "no") == 1
    assert state.tiles.next() == tile
    assert state.fail(tile, "no") == 0
    assert state.failed == {tile: "no"}
    assert all(found != tile for found in iter(state.tiles.next, None))


@pytest.mark.parametrize(
    "works", [(Plain("a"), Plain("b", halo_cells=1)), (Repeated("a"), Plain("b"))], ids=str
)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 60))
@settings(max_examples=30)
def test_replaying_any_part_of_the_journal_and_going_on_ends_in_the_same_state(
    works: tuple[Work, ...], seed: int, cut: int
) -> None:
    random = np.random.default_rng(seed)
    whole = RunState(stages(*works))
    events = carry_out(whole, lambda n: int(random.integers(n)))
    again = RunState(stages(*works))
    for event in events[:cut]:
        again.apply(event_of(line_of(event)))
    carry_out(again)
    assert facts(again) == facts(whole)
