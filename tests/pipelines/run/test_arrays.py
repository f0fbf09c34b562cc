"""Chunks of a state divide its tiles, and are so small that a window with a halo decodes little that it leaves out."""

from __future__ import annotations

import math

import pytest

from pipelines.run.arrays import state_chunks
from pipelines.tasks.pixels import OWN_CHUNK_BYTES

CASES = {
    "plane": ("yx", (4096, 4096), (16384, 16384)),
    "plane of odd tiles": ("yx", (1280, 1536), (20000, 20000)),
    "volume": ("zyx", (192, 192, 192), (512, 512, 512)),
    "thin volume": ("zyx", (16, 2048, 2048), (16, 8192, 8192)),
    "colours": ("cyx", (3, 2048, 2048), (3, 8192, 8192)),
    "carried arrays": ("kyx", (2, 2048, 2048), (2, 8192, 8192)),
    "one tile": ("yx", (331, 457), (331, 457)),
}


@pytest.mark.parametrize(("axes", "tile", "shape"), CASES.values(), ids=CASES)
def test_chunks_of_states_divide_tiles_and_are_small(axes, tile, shape):
    chunks = state_chunks(axes, tile, shape)
    assert all(t % c == 0 or t == n for c, t, n in zip(chunks, tile, shape, strict=True))
    assert 8 * math.prod(chunks) <= 2 * OWN_CHUNK_BYTES
    halo = [8 if a in "zyx" else 0 for a in axes]
    window = [min(t + 2 * h, n) for t, h, n in zip(tile, halo, shape, strict=True)]
    decoded = math.prod(
        min(n, t + 2 * c if w > t else t) for t, w, c, n in zip(tile, window, chunks, shape, strict=True)
    )
    assert decoded <= 5 * math.prod(tile)


def test_a_tile_that_nothing_divides_is_one_chunk():
    assert state_chunks("yx", (1009, 1009), (5000, 5000)) == (1009, 1009)
