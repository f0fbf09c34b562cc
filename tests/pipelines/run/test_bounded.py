"""Memory is known before and measured from outside: never above the limit or the prediction, and near the latter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from tests.benchmarks.bench_memory import (
    JOBS,
    MOST,
    Job,
    Measurement,
    job_of,
    make_source,
    measure,
    source_of,
)
from tests.pipelines.run.test_never_lost import linux

HUNGRIEST = ("salt-and-pepper", "coherence", "coherence-enhancing", "total-variation", "canny")
"""Operators that hold the most arrays."""

TWO_STEPS = Job([{"operator": "heat", "steps": 2}])


def check(found: Measurement) -> None:
    """Require that the limit and the prediction were bounds, and the prediction near."""
    assert found.peak, found.told
    assert found.peak <= found.limit
    assert found.peak <= found.predicted <= MOST * found.peak


def measured(folder: Path, name: str, side: int, limit: str, cluster: str) -> Measurement:
    """Return the memory of a job over an image with holes."""
    return measure(folder, source_of(folder, name, side), job_of(name, side), limit, cluster)


@linux
@pytest.mark.parametrize(
    ("name", "limit", "cluster"),
    [
        pytest.param("coherence-enhancing", "400MiB", "threads", marks=pytest.mark.slow),
        ("total-variation", "600MiB", "local"),
    ],
)
def test_memory_is_bounded(tmp_path: Path, name: str, limit: str, cluster: str) -> None:
    check(measured(tmp_path, name, 4096, limit, cluster))


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "cluster"), [("400MiB", "threads"), ("600MiB", "threads"), ("600MiB", "local")]
)
@pytest.mark.parametrize("name", JOBS)
def test_memory_of_every_job_is_bounded(tmp_path: Path, name: str, limit: str, cluster: str) -> None:
    check(measured(tmp_path, name, 8192, limit, cluster))


@pytest.mark.thorough
@linux
def test_two_processes_that_do_not_fit_are_refused_with_numbers(tmp_path: Path) -> None:
    found = measured(tmp_path, "heat", 1024, "400MiB", "local")
    assert not found.peak
    assert re.search(r"needs [\d,]+ bytes .* Allow at least --memory \d+MiB", found.told)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["threads", "local"])
@pytest.mark.parametrize("name", HUNGRIEST)
def test_memory_is_bounded_for_larger_images(tmp_path: Path, name: str, cluster: str) -> None:
    check(measured(tmp_path, name, 16384, "1GiB", cluster))


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", ["heat", "edge-enhancing"])
def test_memory_is_bounded_where_kernels_are_compiled_first(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    check(measured(tmp_path, name, 4096, "400MiB", "threads"))


@linux
@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    peaks = []
    for side in (8192, 16384):
        folder = tmp_path / str(side)
        folder.mkdir()
        peaks.append(measured(folder, "perona-malik", side, "600MiB", "threads").peak)
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("side", [8192, 16384])
def test_memory_of_images_of_floats_without_holes_is_bounded(tmp_path: Path, side: int) -> None:
    """They might have NaN anywhere: walls are counted, although none is found."""
    make_source(tmp_path / "floats.zarr", side, dtype="f4", holes=False)
    limit = "1GiB" if side == 16384 else "600MiB"
    check(measure(tmp_path, tmp_path / "floats.zarr", job_of("perona-malik", side), limit, "threads"))


def one_chunk(path: Path, side: int, *, compressed: bool) -> None:
    """Write an image of noise as one chunk."""
    pixels = np.random.default_rng(0).integers(1, 200, (side, side), dtype=np.uint8)
    codecs = [ZstdCodec()] if compressed else None
    array = zarr.create_array(path, shape=pixels.shape, chunks=pixels.shape, dtype="u1", compressors=codecs)
    array[:] = pixels


@linux
def test_a_chunk_that_does_not_fit_is_refused_with_its_numbers(tmp_path: Path) -> None:
    one_chunk(tmp_path / "one.zarr", 8192, compressed=True)
    found = measure(tmp_path, tmp_path / "one.zarr", TWO_STEPS, "300MiB", "threads")
    assert not found.peak
    assert "One chunk of the source is 8192 x 8192 = 67,108,864 bytes decoded" in found.told
    assert re.search(r"Allow at least --memory \d+MiB, or rewrite the source with smaller chunks", found.told)


@pytest.mark.thorough
@linux
def test_of_a_large_chunk_only_a_part_is_read_where_nothing_has_to_be_decoded(tmp_path: Path) -> None:
    one_chunk(tmp_path / "one.zarr", 8192, compressed=False)
    check(measure(tmp_path, tmp_path / "one.zarr", TWO_STEPS, "400MiB", "threads"))


@linux
@pytest.mark.slow
def test_a_large_chunk_is_counted_where_it_is_decoded(tmp_path: Path) -> None:
    one_chunk(tmp_path / "one.zarr", 8192, compressed=True)
    check(measure(tmp_path, tmp_path / "one.zarr", TWO_STEPS, "600MiB", "threads"))
