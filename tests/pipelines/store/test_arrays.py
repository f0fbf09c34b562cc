"""Arrays: chunks and shards, checksums on every read, the same pixels for every reader."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from diffusion_ops.blocks.spare import keep_window, release_spare, window_memory
from pipelines.store.arrays import (
    FILES_BEFORE_SHARDS,
    Chunking,
    choose_chunks,
    codecs,
    create_array,
    fill_value,
    holds,
    json_number,
    open_array,
    read_region,
    use_fast_codecs,
)
from pipelines.tasks.pixels import ZarrPixels

DEFAULT_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"
SHAPE = (100, 120)
LAYOUTS = [Chunking((32, 32)), Chunking((32, 32), (64, 64))]
REGIONS = {
    "all": np.s_[:, :],
    "one chunk": np.s_[:32, :32],
    "part of a chunk": np.s_[:20, 3:20],
    "parts of many": np.s_[5:70, 9:101],
    "the ragged end": np.s_[64:, 96:],
}


@pytest.fixture(autouse=True)
def fast_codecs():
    use_fast_codecs(2)


def pixels(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(7).integers(0, 100, SHAPE).astype(dtype)


def filled(root: Path, layout: Chunking, compression: str, dtype: str = "float32") -> np.ndarray:
    array = create_array(
        str(root), "a", SHAPE, np.dtype(dtype), layout, axes="yx", compression=compression, nodata=0
    )
    array[:] = pixels(dtype)
    return pixels(dtype)


@pytest.mark.parametrize("compression", ["zstd", pytest.param("lz4", marks=pytest.mark.thorough), "none"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["chunks", "shards"])
@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_one_flipped_bit_is_found_by_every_read_that_touches_it(tmp_path, compression, layout, region):
    expected = filled(tmp_path / "z", layout, compression)[region]
    array = open_array(str(tmp_path / "z"), "a")
    assert np.array_equal(array[region], expected)
    found = 0
    for file in sorted((tmp_path / "z" / "a" / "c").rglob("*")):
        if file.is_dir():
            continue
        healthy = file.read_bytes()
        for position in range(3, len(healthy), max(1, len(healthy) // 9)):
            file.write_bytes(healthy[:position] + bytes([healthy[position] ^ 4]) + healthy[position + 1 :])
            try:
                values = array[region]
            except Exception:
                found += 1
            else:
                assert np.array_equal(values, expected)
        file.write_bytes(healthy)
    assert found


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["chunks", "shards"])
def test_zarr_alone_reads_the_same_pixels(tmp_path, dtype, layout):
    for compression in ("zstd", "lz4", "none"):
        expected = filled(tmp_path / compression, layout, compression, dtype)
        with zarr.config.set({"codec_pipeline.path": DEFAULT_PIPELINE}):
            array = zarr.open_array(str(tmp_path / compression), path="a")
            assert np.array_equal(array[:], expected)
            assert array.metadata.dimension_names == ("y", "x")


def test_three_dimensions_in_part(tmp_path):
    values = np.arange(20 * 30 * 25, dtype="int32").reshape(20, 30, 25)
    array = create_array(
        str(tmp_path / "z"), "a", values.shape, values.dtype, Chunking((8, 8, 8)), axes="zyx"
    )
    array[:] = values
    for z, y, x in product((0, 3, 8), repeat=3):
        part = np.s_[z : z + 11, y : y + 9, x : x + 17]
        assert np.array_equal(array[part], values[part])
    assert np.array_equal(array[3], values[3])
    assert np.array_equal(array[3, :, 5:9], values[3, :, 5:9])


def test_chunks_that_hold_only_fill_value_are_written(tmp_path):
    array = create_array(str(tmp_path / "z"), "a", (4, 4), np.dtype("uint8"), Chunking((2, 2)), axes="yx")
    array[:] = 0
    assert len([f for f in (tmp_path / "z" / "a" / "c").rglob("*") if f.is_file()]) == 4
    again = open_array(str(tmp_path / "z"), "a")
    again[:2, :2] = 0
    assert array.nchunks_initialized == 4


def test_what_was_not_written_reads_as_nodata(tmp_path):
    root, kind = str(tmp_path / "z"), np.dtype("float32")
    array = create_array(root, "a", (5, 5), kind, Chunking((4, 4)), axes="yx", nodata=-9.0)
    assert np.all(array[1:3, 1:5] == -9)


def test_threads_read_and_write_side_by_side(tmp_path):
    values = np.arange(512 * 512, dtype="f4").reshape(512, 512)
    array = create_array(str(tmp_path / "z"), "a", values.shape, values.dtype, Chunking((64, 64)), axes="yx")

    def move(i: int) -> bool:
        part = np.s_[64 * i : 64 * (i + 1)]
        array[part] = values[part]
        return bool(np.array_equal(array[64 * i + 5 : 64 * i + 40], values[64 * i + 5 : 64 * i + 40]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(move, range(8)))


def test_stores_without_compiled_codecs_work_too():
    how = codecs("zstd", np.dtype("uint16"))
    array = zarr.create_array(MemoryStore(), shape=(10, 10), chunks=(4, 4), dtype="uint16", compressors=how)
    array[:] = 7
    assert np.all(array[1:9, 2:] == 7)


@pytest.mark.parametrize("dtype", [">f4", "<i2", ">u2", "bool", "complex64"])
@pytest.mark.parametrize("fill", [None, 0])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_others_are_read_as_they_are(dtype, fill, order, tmp_path):
    values = np.arange(60 * 70).reshape(60, 70).astype(dtype)
    options = {"shape": values.shape, "chunks": (16, 32), "dtype": dtype, "fill_value": fill, "order": order}
    array = zarr.create_array(str(tmp_path / "v2"), zarr_format=2, **options)
    array[:] = values
    again = pickle.loads(pickle.dumps(zarr.open_array(str(tmp_path / "v2"), mode="r")))
    for part in (np.s_[:], np.s_[3:40, 5:60], np.s_[16:32, 32:64], np.s_[::2, ::3], np.s_[5], np.s_[..., 7]):
        assert np.array_equal(again[part], values[part])


def test_each_task_uses_one_thread_and_tasks_do_not_wait_for_each_other():
    script = (
        "import zarr\nfrom pipelines.store.arrays import use_fast_codecs\nuse_fast_codecs(3)\n"
        "from zarr.core.sync import _get_executor\n"
        "print(_get_executor()._max_workers, zarr.config.get('threading.max_workers'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "1"]


def test_few_chunks_stay_files_and_many_become_shards():
    assert choose_chunks("yx", (16384, 16384)).shards is None
    huge = choose_chunks("yx", (10**6, 10**6))
    assert huge == Chunking((512, 512), (4096, 4096))
    assert huge.unit == (4096, 4096)
    large = {"yx": (80_000, 70_000), "zyx": (2000, 3000, 3000), "tczyx": (50, 4, 30, 2048, 2048)}
    for axes, shape in large.items():
        layout = choose_chunks(axes, shape)
        files = np.prod([-(-n // u) for n, u in zip(shape, layout.unit, strict=True)])
        assert files <= 10 * FILES_BEFORE_SHARDS
        assert all(u % c == 0 for u, c in zip(layout.unit, layout.chunks, strict=True))


def test_chunks_hold_about_as_many_values_in_every_shape():
    assert choose_chunks("cyx", (4, 5000, 5000)).chunks == (1, 512, 512)
    assert choose_chunks("yxc", (5000, 5000, 3), whole="c").chunks == (512, 512, 3)
    assert choose_chunks("yxc", (5000, 5000, 200), whole="c").chunks == (64, 64, 200)
    assert choose_chunks("tzyx", (7, 300, 900, 900)).chunks == (1, 64, 64, 64)
    assert choose_chunks("zyx", (4, 900, 900)).chunks == (4, 256, 256)
    assert choose_chunks("zyx", (300, 900, 900), planes=True).chunks == (1, 512, 512)
    assert choose_chunks("zyx", (10, 20, 30)).chunks == (10, 20, 30)
    assert choose_chunks("yx", (900, 900), 100).chunks == (100, 100)


def test_planes_of_a_huge_stack_are_not_tied_together():
    layout = choose_chunks("zyx", (5000, 9000, 9000), planes=True)
    assert layout.unit[0] == 1


def test_fill_values_and_numbers_for_json():
    assert fill_value(np.dtype("uint8"), -9999) == 0
    assert fill_value(np.dtype("int16"), -9999) == -9999
    assert holds(np.dtype("float16"), float("nan"))
    assert not holds(np.dtype("float16"), 1e30)
    assert [json_number(v) for v in (3.0, 2.5, float("nan"), 1e300)] == [3, 2.5, "nan", 1e300]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("left", [0, 1, 100])
def test_what_a_killed_task_left_of_a_chunk_at_the_end_is_written_again(tmp_path, layout, left):
    root, values = str(tmp_path / "state.zarr"), np.random.default_rng(0).random(SHAPE).astype("f4")
    array = create_array(root, "", SHAPE, np.dtype("f4"), layout, axes="yx", compression="none")
    pixels = ZarrPixels(root, "", "yx", "yx")
    region = (slice(64, 100), slice(64, 120))
    pixels.write(region, values[region])
    for chunk in (tmp_path / "state.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:-left] if left else b"")
    pixels.write(region, values[region])
    assert np.array_equal(array[region], values[region])


def test_a_region_is_read_into_kept_memory_and_holds_its_own_pixels(tmp_path):
    values = np.random.default_rng(0).random((1500, 1100), np.float32)
    array = create_array(
        str(tmp_path / "z"), "a", values.shape, values.dtype, Chunking((512, 512)), axes="yx"
    )
    array[:] = values
    release_spare()
    first = read_region(array, np.s_[10:1400, 3:1100])
    address, copy = first.ctypes.data, first.copy()
    other = read_region(array, np.s_[0:1400, 0:1100])
    assert np.array_equal(first, copy)
    keep_window(first)
    again = read_region(array, np.s_[100:1500, 0:1090])
    assert again.ctypes.data == address
    assert np.array_equal(again, values[100:1500, 0:1090])
    assert np.array_equal(other, values[0:1400, 0:1100])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "c8", "u1"])
def test_regions_of_all_layouts_of_zarr_2_are_as_zarr_reads_them(tmp_path, order, dtype):
    values = np.random.default_rng(0).integers(0, 99, (1600, 1700)).astype(dtype)
    array = zarr.create_array(
        str(tmp_path / "z"), shape=values.shape, dtype=dtype, chunks=(700, 600), zarr_format=2, order=order
    )
    array[:] = values
    keep_window(window_memory(values.shape, np.float32))
    for region in (np.s_[:, :], np.s_[5:1333, 590:1650]):
        assert np.array_equal(read_region(array, region), values[region])
