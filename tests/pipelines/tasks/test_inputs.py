"""Values that few cells need are read in parts: all of them, and no chunk twice."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.image.frames import Frames
from pipelines.image.source import SourceSpec
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import SourcePixels


@pytest.mark.parametrize(
    ("chunk", "rows"), [(1, [128] * 8), (300, [300, 300, 300, 124]), (512, [512, 512]), (5000, [1024])]
)
def test_parts_cover_a_region_in_whole_chunks(chunk, rows):
    pixels = SourcePixels(SourceSpec(uri="image"), "cyx", 1, (1, chunk, 64))
    reading = Reading(pixels, np.dtype("f4"))
    region = (slice(0, 3), slice(2048, 3072), slice(5, 9))
    parts = list(reading.parts(Frames("cyx", "yx", (1.0, 1.0)), region))
    assert [slice_.stop - slice_.start for slice_, _ in parts] == rows
    assert [s.start for s, _ in parts] == list(np.cumsum([0, *rows[:-1]]))
    assert [(r[1].start - 2048, r[1].stop - 2048) for _, r in parts] == [(s.start, s.stop) for s, _ in parts]
    assert all((r[0], r[2]) == (region[0], region[2]) for _, r in parts)
