"""Checksums of finished tiles take eight bytes each, and the last one counts."""

from __future__ import annotations

import tracemalloc

from pipelines.record.checksums import Checksums
from pipelines.record.journal import Finished, Forgotten, Published


def test_the_last_checksum_of_a_tile_counts():
    events = (
        Finished(0, 7, 1),
        Finished(2, 0, 0),
        Forgotten(0, 7),
        Finished(0, 7, 2**32 - 1),
        Published(0, 5),
    )
    found = Checksums(events)
    assert (found.get(0, 7), found.get(2, 0)) == (2**32 - 1, 0)
    assert [found.get(*tile) for tile in ((0, 6), (0, 8), (1, 0), (2, 1))] == [None] * 4


def test_many_tiles_take_few_bytes():
    tracemalloc.start()
    try:
        found = Checksums(Finished(0, tile, tile) for tile in range(200_000))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.get(0, 199_999) == 199_999
    assert kept < 20 * 200_000
