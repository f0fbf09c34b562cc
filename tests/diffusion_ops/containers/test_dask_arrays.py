"""`evolve` on Dask arrays: lazy, in the user's chunks, with few tasks."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

import diffusion_ops as do

RNG = np.random.default_rng(0)
IMAGE = RNG.random((96, 128), np.float32) * 100


def refuse_to_compute(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("computed")


def tasks_per_chunk(lazy: Any) -> float:
    """Return the tasks per chunk after Dask's own optimization."""
    graph = lazy.__dask_graph__()
    return len(lazy.__dask_optimize__(graph, lazy.__dask_keys__())) / lazy.npartitions


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    lazy = da.from_array(IMAGE, (32, 32))
    with dask.config.set(scheduler=refuse_to_compute):
        result = do.evolve(lazy, do.PeronaMalik({"noise": 2}), time=3, mask=IMAGE > 5)
        with pytest.raises(AssertionError, match="computed"):
            result.compute()


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("chunks", [(32, 32), (96, 17), (5, 64), (96, 128)])
def test_schedulers_and_chunks_agree_with_numpy(scheduler: str, chunks: tuple[int, int]) -> None:
    lazy = da.from_array(IMAGE, chunks)
    result = do.evolve(lazy, do.PeronaMalik({"quantile": 0.99}), time=9)
    assert result.chunks == lazy.chunks
    assert isinstance(result._meta, np.ndarray)
    whole = do.evolve(IMAGE, do.PeronaMalik({"quantile": 0.99}), time=9)
    assert np.array_equal(result.compute(scheduler=scheduler), whole)


def test_the_result_dtype_is_known_before_and_after() -> None:
    image = (IMAGE * 2).astype(np.uint8)
    for dtype in (None, np.uint8, np.float16, np.float64):
        whole = do.evolve(image, do.Heat(), steps=12, dtype=dtype)
        for batch in (None, 5):
            lazy = do.evolve(da.from_array(image, (50, 60)), do.Heat(), steps=12, dtype=dtype, batch=batch)
            assert lazy.dtype == whole.dtype == lazy.compute().dtype
            assert np.array_equal(lazy.compute(), whole)


def test_walls_come_back_as_they_were() -> None:
    image = IMAGE.copy()
    image[10:14, 20:30], image[40, 40], image[50, 50] = np.nan, np.inf, -9999
    for batch in (None, 2):
        lazy = do.evolve(da.from_array(image, (24, 32)), do.Heat(), steps=8, nodata=-9999, batch=batch)
        result = lazy.compute()
        assert np.array_equal(result, do.evolve(image, do.Heat(), steps=8, nodata=-9999), equal_nan=True)
        assert np.isnan(result[12, 25])
        assert (result[40, 40], result[50, 50]) == (np.inf, -9999)


def test_one_batch_costs_no_more_tasks_than_one_overlap() -> None:
    lazy = da.zeros((8 * 256, 8 * 256), chunks=256, dtype=np.float32)
    assert tasks_per_chunk(do.evolve(lazy, do.Heat(), steps=20)) < 17
    assert tasks_per_chunk(do.evolve(lazy, do.Heat(), steps=50)) < 34
    assert tasks_per_chunk(do.evolve(lazy, do.Heat(), steps=0)) < 3


def test_wide_halos_cost_two_tasks_per_chunk() -> None:
    lazy = da.zeros((320, 320), chunks=32, dtype=np.float32)
    wide = do.evolve(lazy, do.Heat(), steps=40, batch=40)
    assert tasks_per_chunk(wide) < 3
    measured = do.evolve(lazy, do.PeronaMalik({"quantile": {"q": 0.9, "sigma": 10}}), steps=40, batch=40)
    assert tasks_per_chunk(measured) < 5


def test_a_small_last_chunk_does_not_make_more_batches() -> None:
    even = do.evolve(da.zeros((512, 512), chunks=256), do.Heat(), steps=30)
    ragged = do.evolve(da.zeros((514, 514), chunks=256), do.Heat(), steps=30)
    assert tasks_per_chunk(ragged) <= tasks_per_chunk(even)


def test_equal_calls_have_equal_names() -> None:
    lazy = da.from_array(IMAGE, (32, 32))
    for size in (32, 5):
        lazy = da.from_array(IMAGE, size)
        first, again = (do.evolve(lazy, do.PeronaMalik({"noise": 2}), time=3) for _ in range(2))
        assert first.name == again.name
        assert first.name != do.evolve(lazy, do.PeronaMalik({"noise": 3}), time=3).name


@pytest.mark.thorough
def test_the_graph_can_be_sent_elsewhere() -> None:
    for size in (40, 9):
        lazy = do.evolve(da.from_array(IMAGE, size), do.PeronaMalik({"noise": 2}), time=3, mask=IMAGE > 2)
        assert np.array_equal(pickle.loads(pickle.dumps(lazy)).compute(), lazy.compute())


def test_a_part_of_the_result_reads_a_part_of_the_image() -> None:
    seen = []

    def note(block: Any, block_id: Any = None) -> Any:
        seen.append(block_id)
        return block

    lazy = da.zeros((320, 320), chunks=32, dtype=np.float32).map_blocks(
        note, dtype=np.float32, meta=IMAGE[:0, :0]
    )
    do.evolve(lazy, do.Heat(), steps=4)[:32, :32].compute(scheduler="synchronous")
    assert sorted(set(seen)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_empty_chunks_pass() -> None:
    lazy = da.from_array(IMAGE, ((0, 40, 0, 56), (64, 64, 0)))
    assert np.array_equal(do.evolve(lazy, do.Heat(), steps=4).compute(), do.evolve(IMAGE, do.Heat(), steps=4))


def test_a_contrast_of_zero_is_refused_when_it_is_known() -> None:
    lazy = do.evolve(da.ones((64, 64), chunks=32), do.PeronaMalik({"quantile": 0.9}), time=1)
    with pytest.raises(ValueError, match=r"GradientQuantile.*is 0 over this image"):
        lazy.compute()


def test_channels_in_several_chunks_are_refused() -> None:
    lazy = da.zeros((32, 32, 3), chunks=(16, 16, 1))
    with pytest.raises(ValueError, match=r"image.rechunk\(\{2: -1\}\)"):
        do.evolve(lazy, do.Heat(), steps=1, channel_axis=-1)


def test_unknown_chunks_are_refused() -> None:
    lazy = da.from_array(IMAGE, 32)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        do.evolve(lazy[lazy[:, 0] > 50], do.Heat(), steps=1)


def test_masked_chunks_are_refused() -> None:
    with pytest.raises(TypeError, match=r"MaskedArray.*Allowed: plain NumPy"):
        do.evolve(da.ma.masked_less(da.from_array(IMAGE, 32), 5), do.Heat(), steps=1)


@pytest.mark.parametrize("mask", [np.ones((96, 127), bool), da.ones((96, 128), dtype=float)])
def test_masks_of_another_shape_or_type_are_refused(mask: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="mask"):
        do.evolve(da.from_array(IMAGE, 32), do.Heat(), steps=1, mask=mask)


@pytest.mark.parametrize("batch", [0, -1, 2.5, True])
def test_batches_that_are_not_counts_are_refused(batch: Any) -> None:
    with pytest.raises(ValueError, match=r"batch=.*Allowed"):
        do.evolve(da.from_array(IMAGE, 32), do.Heat(), steps=1, batch=batch)


LAZY = """
import re
from pathlib import Path
import dask, dask.array as da, numpy as np
import diffusion_ops as do

class Nowhere:
    def __setitem__(self, region, values): pass

def rows(block_info):
    return np.tile(np.arange(2048, dtype="u1"), (2048, 1))

def compute(chunks):
    image = da.map_blocks(rows, chunks=((2048,) * chunks,) * 2, dtype="u1")
    da.store(do.evolve(image, do.Heat(), steps=4), Nowhere(), lock=False)

def resident(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

dask.config.set(scheduler="threads", num_workers=4)
compute(1)
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
before = resident("VmRSS")
compute(4)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("allocator", "most"),
    [({}, 5.0), pytest.param({"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}, 3.0, marks=pytest.mark.slow)],
)
def test_a_thread_holds_a_few_chunks_however_large_the_image(allocator, most):
    """The docstring of `evolve` states it, without and with what the allocator keeps of what is freed."""
    environment = {**os.environ, **allocator}
    done = subprocess.run([sys.executable, "-c", LAZY], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= most * 4 * (2048 + 16) ** 2 * 4
