"""What every source format promises: regions of the whole, from any thread; identities that tell changes."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.image.info import ImageInfo
from pipelines.image.kept_sources import cached_source
from pipelines.image.open_source import open_source
from pipelines.image.source import SOURCES, SourceSpec
from tests.pipelines.source_files import WRITERS, ramp

SHAPE = (45, 61)
FORMATS = [name for name in SOURCES.names() if SOURCES[name].__module__.startswith("pipelines.formats.")]


def whole(info: ImageInfo) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in info.shape)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return each format's file and pixels, written once."""
    made = {}

    def make(name):
        if name not in made:
            pixels = ramp(SHAPE)
            made[name] = (WRITERS[name](tmp_path_factory.mktemp(name), pixels), pixels)
        return made[name]

    return make


def test_every_format_has_a_file_to_test_it_with():
    assert set(FORMATS) == set(WRITERS)


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_found_from_the_file(name, images):
    spec, pixels = images(name)
    source = open_source(spec)
    assert type(source) is SOURCES[name]
    np.testing.assert_array_equal(source.read(whole(source.info)), pixels)


@pytest.mark.parametrize("name", FORMATS)
def test_metadata_fits_the_pixels(name, images):
    info = open_source(images(name)[0]).info
    assert info.shape == SHAPE
    assert info.axes == "yx"
    assert info.dtype.isnative
    assert len(info.chunks) == 2
    assert all(1 <= c <= n for c, n in zip(info.chunks, info.shape, strict=True))
    assert info.identity
    assert info.by_region is (name != "picture")


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_region_equals_the_whole(name, images, data):
    spec, pixels = images(name)
    source = cached_source(spec)
    region = []
    for n in SHAPE:
        start = data.draw(st.integers(0, n - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, n))))
    found = source.read(tuple(region))
    assert found.dtype == source.info.dtype
    assert found.flags.writeable
    np.testing.assert_array_equal(found, pixels[tuple(region)])


@pytest.mark.parametrize("name", FORMATS)
def test_threads_read_at_once(name, images):
    spec, pixels = images(name)
    source = open_source(spec)
    rng = np.random.default_rng(1)
    regions = []
    for _ in range(60):
        starts = [int(rng.integers(0, n - 5)) for n in SHAPE]
        regions.append(tuple(slice(a, a + int(rng.integers(1, 6))) for a in starts))
    with ThreadPoolExecutor(8) as pool:
        for region, found in zip(regions, pool.map(source.read, regions), strict=True):
            np.testing.assert_array_equal(found, pixels[region])


@pytest.mark.parametrize("name", FORMATS)
def test_identity_follows_the_content_not_the_place(name, tmp_path):
    first = tmp_path / "a"
    first.mkdir()
    spec = WRITERS[name](first, ramp(SHAPE))
    before = open_source(spec).info.identity
    assert open_source(spec).info.identity == before
    moved = Path(shutil.copytree(first, tmp_path / "b"))
    at = str(moved / Path(spec.uri).name)
    assert open_source(spec.model_copy(update={"uri": at})).info.identity == before
    _rewrite_one_byte(Path(spec.uri))
    assert open_source(spec).info.identity != before


def _rewrite_one_byte(path: Path) -> None:
    """Write a byte of the file, or of a chunk of the folder, again, one second later."""
    if path.is_dir():
        path = next(p for p in sorted(path.rglob("*")) if p.is_file() and p.name.isdigit())
    stat = path.stat()
    data = path.read_bytes()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize("name", FORMATS)
def test_one_source_per_process_until_the_file_changes(name, tmp_path):
    spec = WRITERS[name](tmp_path, ramp(SHAPE))
    first = cached_source(spec)
    assert cached_source(SourceSpec(uri=spec.uri)) is first
    os.utime(spec.uri, ns=(0, 10**18))
    assert cached_source(spec) is not first


@pytest.mark.parametrize("name", FORMATS)
def test_a_level_that_is_not_there_is_refused_with_the_sizes(name, images):
    with pytest.raises(ValueError, match=r"no level 7.*45 x 61"):
        open_source(images(name)[0].model_copy(update={"level": 7}))


@pytest.mark.parametrize("name", FORMATS)
def test_options_that_mean_nothing_are_refused(name, images):
    spec = images(name)[0]
    wrong = {"series": 1} if name in ("zarr", "netcdf", "ome-zarr") else {"path": "a/b"}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        open_source(spec.model_copy(update=wrong))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_short_is_refused(name, tmp_path):
    spec = WRITERS[name](tmp_path, ramp((200, 200)))
    path = Path(spec.uri)
    if path.is_dir():
        path = path / "zarr.json"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"damaged|without a Zarr"):
        open_source(spec.model_copy(update={"format": name}))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_another_format_is_refused(name, tmp_path):
    path = tmp_path / "image.xyz"
    path.write_bytes(b"neither fish nor fowl")
    with pytest.raises(ValueError, match=r"image.xyz"):
        open_source(SourceSpec(uri=str(path), format=name))
