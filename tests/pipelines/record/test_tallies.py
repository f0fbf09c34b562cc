"""Tallies add up in any order, and what a tile costs does not grow with the tiles before it."""

from __future__ import annotations

import functools
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffusion_ops.blocks.regions import RegionEnds, RegionSums
from diffusion_ops.blocks.statistic import Tally
from pipelines.record.tallies import Tallies

STATISTICS = {"sums": RegionSums(), "ends": RegionEnds()}

counts = st.integers(-(2**40), 2**40)
tallies = st.dictionaries(st.integers(-5, 30), counts).map(
    lambda found: Tally(
        np.array(sorted(found), np.int64), np.array([found[k] for k in sorted(found)], np.int64)
    )
)


def as_dict(tally: Tally) -> dict[int, int]:
    return dict(zip(tally.keys.tolist(), tally.counts.tolist(), strict=True))


@given(st.lists(tallies, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_sums_are_those_of_dictionaries_in_any_order(told, random):
    found = Tallies()
    random.shuffle(told)
    for tally in told:
        found.add(STATISTICS, {"sums": tally, "ends": tally, "another's": tally})
    sums = found.sums(STATISTICS)
    assert set(sums) == set(STATISTICS)
    keys = sorted(functools.reduce(set.union, (set(as_dict(tally)) for tally in told)))
    each = {key: [as_dict(tally)[key] for tally in told if key in as_dict(tally)] for key in keys}
    assert as_dict(sums["sums"]) == {key: sum(values) for key, values in each.items()}
    assert as_dict(sums["ends"]) == {key: min(values) for key, values in each.items()}
    assert all(np.array_equal(tally.keys, keys) for tally in sums.values())


def test_numbers_are_merged_once_for_each_doubling():
    merged, tiles = [0], 1024
    merge = RegionSums.merge

    def count(self: RegionSums, first: Tally, second: Tally) -> Tally:
        merged[0] += len(first.keys) + len(second.keys)
        return merge(self, first, second)

    found = Tallies()
    with patch.object(RegionSums, "merge", count):
        for tile in range(tiles):
            own = np.arange(10) + 10 * tile
            found.add(STATISTICS, {"sums": Tally(own, np.ones(10, np.int64))})
        assert found.nbytes == 16 * 10 * tiles
        sums = found.sums(STATISTICS)["sums"]
    assert np.array_equal(sums.keys, np.arange(10 * tiles))
    assert merged[0] <= 10 * tiles * (np.log2(tiles) + 1)
