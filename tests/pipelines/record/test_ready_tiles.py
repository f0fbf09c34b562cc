"""Tiles start depth first: what a batch has written is read as soon as it can be, so that few tiles wait at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.image.info import ImageInfo
from pipelines.plan.search import make_plan
from pipelines.record.ready_tiles import ReadyTiles
from pipelines.spec.spec import make_spec

ACROSS = 50


@pytest.fixture(scope="module")
def plan():
    spec = {
        "source": {"uri": "source.npy"},
        "steps": [{"operator": "heat", "steps": 4}],
        "sink": {"uri": "result.zarr", "chunk": 16},
        "run": {"tile": 16, "batch": 1, "threads": 2},
    }
    side = 16 * ACROSS
    return make_plan(make_spec(spec), ImageInfo((side, side), np.dtype("u1"), "yx", (side, side)))


@pytest.mark.parametrize(("groups", "size"), [(1, 1), (8, 1), (4, 16)])
def test_few_tiles_of_a_batch_wait_for_the_next_one(plan, groups, size):
    """Groups come back in any order. Batches go in pairs: a third one waits until the first one is read."""
    random, ready = np.random.default_rng(0), ReadyTiles(plan.stages)
    assert [len(stage.grid) for stage in plan.stages] == [ACROSS**2] * 4
    at_work, done, waiting = [], np.zeros(4, int), np.zeros(2, int)
    while ready.left:
        while len(at_work) < groups and (first := ready.next()) is not None:
            at_work.append([first, *ready.more(first[0], size - 1)])
        for stage, tile in at_work.pop(random.integers(len(at_work))):
            ready.release(stage, tile)
            ready.finish(stage, tile, {})
            done[stage] += 1
        waiting = np.maximum(waiting, (done[:-1] - done[1:])[::2])
        # At most three arrays are there at a time that are not complete, or still to be read.
        assert sum(done[:-1] > 0) - sum(done[1:] == ACROSS**2) <= 3
    # A tile waits for the row below it, and for a group that is late.
    assert ACROSS < waiting.min() <= waiting.max() <= ACROSS + 2 + 6 * groups * size
