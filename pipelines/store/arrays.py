"""Decide how arrays are stored in Zarr: codecs, checksums, chunks, shards, fill value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec
from zarr.core.buffer.cpu import NDBuffer
from zarr.storage import MemoryStore

from diffusion_ops.blocks.spare import release_window, window_memory
from pipelines.store.addresses import is_remote
from pipelines.store.checked_codecs import CheckedCodecPipeline
from pipelines.store.guarded import own_store

SPATIAL = "zyx"
"""Letters of the axes that chunks cut into squares or cubes."""

Compression = Literal["lz4", "zstd", "none"]

FILES_BEFORE_SHARDS = 10_000
"""More chunks than this in one array go into shards: so many files are slow to list, copy and delete."""

CHUNK_VALUES = 512 * 512
"""Values in a chunk of the usual shape: 512 x 512, or 64 x 64 x 64; 1 MiB of float32."""

SHARD_SIDES = {2: (2048, 4096), 3: (256, 512)}
"""Side of a shard by number of spatial axes: the usual one, and one for arrays that are larger still."""


READ_AT_ONCE = 4
"""Chunks that a task reads from a store at a time, each in memory as encoded and as decoded."""


def use_fast_codecs(threads: int = 1) -> None:
    """Let Zarr encode, decode and check chunks in compiled code.

    Call it in every process that runs tasks, before the process opens arrays.

    Parameters
    ----------
    threads : int
        Tasks that run at a time in this process. Each of them encodes and decodes on one thread only, because
        the engine runs as many tasks as it may use cores.
    """
    # Zarr makes its pool of threads at the first operation, of the size then in force; the codecs read the
    # same setting whenever an array is opened. So the pool gets one thread per task first, and each codec one
    # thread afterwards.
    with zarr.config.set({"threading.max_workers": max(1, threads)}):
        zarr.create_group(store=MemoryStore())
    zarr.config.set(
        {
            "threading.max_workers": 1,
            "codec_pipeline.chunk_concurrent_minimum": 1,
            "codec_pipeline.chunk_concurrent_maximum": 1,
            "async.concurrency": READ_AT_ONCE,
            "codec_pipeline.path": f"{CheckedCodecPipeline.__module__}.{CheckedCodecPipeline.__qualname__}",
            # A chunk that is absent must mean "not written", never "all fill value".
            "array.write_empty_chunks": True,
        }
    )


@dataclass(frozen=True)
class Chunking:
    """How one array is cut into chunks, and which chunks share a file.

    Attributes
    ----------
    chunks : tuple of int
        Shape of what is encoded and decoded at once.
    shards : tuple of int or None
        Shape of what one file holds; None where a file holds one chunk.
    """

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None

    @property
    def unit(self) -> tuple[int, ...]:
        """Smallest shape that one write may cover: a shard where there are shards, else a chunk."""
        return self.shards or self.chunks


def choose_chunks(
    axes: str, shape: tuple[int, ...], chunk: int | None = None, *, whole: str = "", planes: bool = False
) -> Chunking:
    """Return chunks, and shards where there would be too many files.

    Parameters
    ----------
    axes : str
        One letter of "tczyx" per axis.
    shape : tuple of int
    chunk : int, optional
        Side of a chunk along every spatial axis; by default 512 in 2-D, 64 in 3-D, and as many values where z
        is short.
    whole : str
        Axes that are never cut; others that are not spatial are cut into single planes, as viewers read them.
    planes : bool
        Cut z into single planes too, for files that are written plane by plane.

    Examples
    --------
    >>> choose_chunks("cyx", (3, 3000, 400))
    Chunking(chunks=(1, 512, 400), shards=None)
    >>> choose_chunks("zyx", (16, 4000, 4000)).chunks
    (16, 128, 128)
    >>> choose_chunks("yx", (100_000, 100_000))
    Chunking(chunks=(512, 512), shards=(2048, 2048))
    """
    sizes = dict(zip(axes, shape, strict=True))
    together = math.prod(sizes[a] for a in whole if a in sizes)
    sides = _chunk_sides(1 if planes else sizes.get("z", 1), together, chunk)
    if planes:
        sides["z"] = 1
    chunks = tuple(
        max(1, n) if a in whole else min(sides.get(a, 1), max(1, n)) for a, n in zip(axes, shape, strict=True)
    )
    if _count(shape, chunks) <= FILES_BEFORE_SHARDS:
        return Chunking(chunks)
    depth = 3 if "z" in axes and chunks[axes.index("z")] > 1 else 2
    shards = chunks
    for side in SHARD_SIDES[depth]:
        shards = tuple(
            c * max(1, min(side // c, math.ceil(n / c))) if a in "yx" or (a == "z" and c > 1) else c
            for a, c, n in zip(axes, chunks, shape, strict=True)
        )
        if _count(shape, shards) <= 10 * FILES_BEFORE_SHARDS:
            break
    return Chunking(chunks, shards if shards != chunks else None)


def _chunk_sides(depth: int, together: int, chunk: int | None) -> dict[str, int]:
    """Return the sides of a chunk: `CHUNK_VALUES` values, up to four times that where channels stay whole."""
    if chunk is not None:
        return dict.fromkeys(SPATIAL, chunk)
    depth = min(64, max(1, depth))
    values = CHUNK_VALUES * min(4, max(1, together))
    plane = 1 << (max(1, math.isqrt(values // (depth * max(1, together)))).bit_length() - 1)
    return {"z": depth, "y": plane, "x": plane}


def _count(shape: Sequence[int], chunks: Sequence[int]) -> int:
    return math.prod(math.ceil(n / c) for n, c in zip(shape, chunks, strict=True))


def create_array(
    root: str,
    path: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    layout: Chunking,
    *,
    axes: str,
    compression: Compression = "zstd",
    nodata: float | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> zarr.Array[Any]:
    """Create an empty array, with a checksum behind every chunk.

    Parameters
    ----------
    root, path : str
        Hierarchy, and the array inside it.
    shape : tuple of int
    dtype : numpy dtype
    layout : Chunking
    axes : str
        Axis letters, stored as the dimension names.
    compression : {"lz4", "zstd", "none"}
        lz4 for arrays that are read again soon, zstd for arrays that are kept.
    nodata : float, optional
        Fill value of the array, where the dtype can hold it.
    attributes : dict, optional
    """
    return zarr.create_array(
        root,
        name=path or None,
        shape=shape,
        dtype=np.dtype(dtype).newbyteorder("="),
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=codecs(compression, np.dtype(dtype)),
        fill_value=fill_value(np.dtype(dtype), nodata),
        dimension_names=tuple(axes),
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
    )


def chunk_names(array: zarr.Array[Any], region: Sequence[slice]) -> Iterator[str]:
    """Yield the names, inside an array's folder, of the chunks (shards, where there are some) that a region touches."""
    unit = array.shards or array.chunks
    touched = (range(s.start // u, math.ceil(s.stop / u)) for s, u in zip(region, unit, strict=True))
    return (array.metadata.encode_chunk_key(position) for position in itertools.product(*touched))


def open_array(root: str, path: str) -> zarr.Array[Any]:
    """Open an array of a hierarchy of a run for reading and writing."""
    store: Any = own_store(root) if is_remote(root) else root
    return zarr.open_array(store, path=path, mode="r+").with_config({"write_empty_chunks": True})


def reads_into(array: zarr.Array[Any]) -> bool:
    """Return whether pixels of an array are read into the memory that is given for them, without a copy."""
    return array.dtype.isnative and array.dtype.kind in "biuf" and array.order == "C"


def read_region(
    array: zarr.Array[Any], region: tuple[slice, ...], empty: Callable[..., NDArray[Any]] = window_memory
) -> NDArray[Any]:
    """Return a region of an array.

    `empty` makes an uninitialised array from its shape and dtype; by default in memory that the thread has kept from
    another window where there is.
    """
    if not reads_into(array):
        release_window()
        return np.asarray(array[region])
    shape = tuple(len(range(*s.indices(n))) for s, n in zip(region, array.shape, strict=True))
    pixels: Any = empty(shape, array.dtype)
    array.get_basic_selection(region, out=NDBuffer.from_ndarray_like(pixels))
    return np.asarray(pixels)


def codecs(compression: Compression, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the codecs of an array's chunks; the checksum is the last, so that it covers the bytes on disk."""
    if compression == "none":
        return (Crc32cCodec(),)
    # Measured on a denoised satellite scene, bytes left of 1: uint8 with sorted bits 0.72 (lz4 0.81), with sorted
    # bytes 0.77 (0.98); uint16 0.58 (0.61) and 0.59 (0.66), at up to 1.3 times the speed; float32 0.79 and
    # 0.78, at 0.85 times.
    shuffle = BloscShuffle.bitshuffle if dtype.itemsize <= 2 else BloscShuffle.shuffle
    level = 5 if compression == "lz4" else 1
    blosc = BloscCodec(cname=compression, clevel=level, shuffle=shuffle, typesize=dtype.itemsize)
    return (blosc, Crc32cCodec())


def fill_value(dtype: np.dtype[Any], nodata: float | None) -> Any:
    """Return the fill value of an array: nodata where the dtype can hold it, else 0."""
    if nodata is None or not holds(dtype, nodata):
        return dtype.type(0)
    return dtype.type(nodata)


def holds(dtype: np.dtype[Any], value: float) -> bool:
    """Return whether a dtype can hold a value, up to the rounding of the dtype.

    Examples
    --------
    >>> holds(np.dtype("uint8"), -9999), holds(np.dtype("float32"), -3.4028234663852886e38)
    (False, True)
    """
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= int(value) <= limits.max


def json_number(value: float) -> int | float | str:
    """Return a number as strict JSON can hold it: NaN and infinities as strings, whole numbers as integers."""
    if not math.isfinite(value):
        return str(float(value))
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)
