"""Values that few cells need are read in parts; a source is listed once, by the driver."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipelines.image.frames import Frames
from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec
from pipelines.store import listings
from pipelines.store.guarded import MissingObjectError
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


def test_a_worker_takes_over_the_listing_of_the_driver(tmp_path, monkeypatch):
    array = zarr.create_array(tmp_path / "in.zarr", shape=(8, 8), chunks=(4, 4), dtype="u1", fill_value=7)
    array[:4], array[4:, :4] = 1, 1
    spec = SourceSpec(uri=str(tmp_path / "in.zarr"))
    source, file = open_source(spec), tmp_path / "run" / "source.npz"
    source.listing.keep(str(file))
    pixels = SourcePixels.of(spec, source.info, str(file))
    monkeypatch.setattr(listings, "tree", None)  # listing again would call it
    assert pixels.read((slice(4, 8), slice(4, 8))).tolist() == [[7] * 4] * 4
    # A chunk that the driver has listed is no fill value, if it is gone before the worker opens the source.
    (tmp_path / "in.zarr" / "c" / "0" / "0").unlink()
    other = tmp_path / "run" / "other.npz"
    file.rename(other)
    with pytest.raises(MissingObjectError, match="is gone"):
        SourcePixels.of(spec, source.info, str(other)).read((slice(0, 4), slice(0, 4)))
