"""Read and write Zarr chunks in compiled code; check every chunk that is read, and write every chunk.

This module closes two gaps of the compiled codecs. They skip the checksum of a chunk that is read in part, and a
haloed window reads most of its chunks in part: of flipped bits that changed the pixels read, all went unnoticed
without compression, 3 of 4 with blosc, 1 of 3 with zstd. They also do not write chunks that hold only the fill
value, whatever `write_empty_chunks` says.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from zarr.core.buffer import NDBuffer
from zarr.registry import register_pipeline
from zarrs import ZarrsCodecPipeline
from zarrs.pipeline import UnsupportedMetadataError, get_codec_pipeline_fallback, get_codec_pipeline_impl
from zarrs.utils import make_chunk_info_for_rust_with_indices

from diffusion_ops.blocks.block import row_bands
from pipelines.store.surrounding import surrounding

PILE_BYTES = 2 << 20
"""Bytes of the chunks that are decoded whole in one call, because only parts of them are read; no more, so that the
allocator keeps this memory for the next window."""


class CheckedCodecPipeline(ZarrsCodecPipeline):
    """The compiled codecs, except that chunks that are read in part are decoded whole, checked, and cut.

    zarr-python silently does what they cannot do: arrays of another byte order or memory order, as in Zarr 2, and
    fill values that they do not support.
    """

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: Any, store: Any) -> Self:
        """Return the codecs of an array."""
        python = get_codec_pipeline_fallback(array_metadata, strict=False)
        return cls(array_metadata, store, _compiled(array_metadata, store), python)

    def __setstate__(self, state: Any) -> None:
        self.metadata, self.store = state["metadata"], state["store"]
        self.impl = _compiled(self.metadata, self.store)
        self.python_impl = get_codec_pipeline_fallback(self.metadata, strict=False)

    async def read(self, batch_info: Iterable[Any], out: NDBuffer, drop_axes: tuple[int, ...] = ()) -> None:
        """Fill `out` from chunks, as zarr-python's codec pipelines do."""
        batch_info, out = _in_surrounding(list(batch_info), out)
        target = np.asarray(out.as_ndarray_like())
        if self.python_impl is not None and not (target.dtype.isnative and target.flags.c_contiguous):
            await self.python_impl.read(batch_info, out, drop_axes)
            return
        whole: list[Any] = []
        part: list[Any] = []
        for item in batch_info:
            (whole if _covers_chunk(item) else part).append(item)
        if whole:
            await super().read(whole, out, drop_axes)
        if not part:
            return
        if reads_parts(self.metadata) and self.impl is not None and not drop_axes and all(map(_plain, part)):
            # There is nothing to decode or to check, and a chunk may be as large as the image.
            for rows in _in_bands(part, target.dtype.itemsize):
                await super().read(rows, out, drop_axes)
            return
        cut = self.impl is not None and not (self._sharded or drop_axes) and target.dtype.kind in "biufc"
        if not (cut and all(map(_plain, part))):
            assert self.python_impl is not None
            # Decoding a whole shard for a corner of it costs more than zarr-python, which checks each inner
            # chunk.
            await self.python_impl.read(part, out, drop_axes)
        else:
            # All of them in one thread: at each change of threads a busy machine lets the next one wait.
            await asyncio.to_thread(_read_and_cut, self.impl, part, target)

    async def write(
        self, batch_info: Iterable[Any], value: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """Fill chunks from `value`, as zarr-python's codec pipelines do."""
        batch_info, value = _in_surrounding(list(batch_info), value)
        values = value.as_ndarray_like()
        full: list[Any] = []
        empty: list[Any] = []
        for item in batch_info:
            keep = self.python_impl is not None and _writes_fill_value(item, values)
            (empty if keep else full).append(item)
        if full:
            await super().write(full, value, drop_axes)
        if empty and self.python_impl is not None:
            await self.python_impl.write(empty, value, drop_axes)

    @property
    def _sharded(self) -> bool:
        return any(type(codec).__name__ == "ShardingCodec" for codec in getattr(self.metadata, "codecs", ()))


def _in_bands(items: list[Any], itemsize: int) -> Iterator[list[Any]]:
    """Yield parts of chunks that are read together: small ones all at once, and rows of a large one.

    What is read of a file comes in pieces of a row, which lie beside the array before they are copied into it.
    """
    small: list[Any] = []
    for source, spec, chunk_part, out_part, whole in items:
        (start, stop, _), *others = (s.indices(n) for s, n in zip(chunk_part, spec.shape, strict=True))
        row_bytes = itemsize * math.prod(last - first for first, last, _ in others)
        if (stop - start) * row_bytes <= PILE_BYTES:
            small.append((source, spec, chunk_part, out_part, whole))
            continue
        there = out_part[0].start or 0
        for band in row_bands((stop - start, row_bytes), PILE_BYTES):
            first, last = start + band.start, min(start + band.stop, stop)
            rows = (slice(first, last), *chunk_part[1:])
            into = (slice(there + band.start, there + last - start), *out_part[1:])
            yield [(source, spec, rows, into, False)]
    if small:
        yield small


def _read_and_cut(impl: Any, items: list[Any], out: NDArray[Any]) -> None:
    """Decode chunks, a pile of them at a time, and copy the requested part of each."""
    spec = items[0][1]
    rows, size = spec.shape[0], _pile_size(spec)
    whole = tuple(slice(0, n) for n in spec.shape)
    pile = np.empty((rows * min(len(items), size), *spec.shape[1:]), out.dtype)
    for first in range(0, len(items), size):
        group = items[first : first + size]
        regions = [(slice(i * rows, (i + 1) * rows), *whole[1:]) for i in range(len(group))]
        chunks = [(item[0], spec, whole, region, True) for item, region in zip(group, regions, strict=True)]
        described = make_chunk_info_for_rust_with_indices(chunks, (), pile.shape)
        impl.retrieve_chunks_and_apply_index(described.chunk_info_with_indices, pile)
        for (_, _, chunk_part, out_part, _), region in zip(group, regions, strict=True):
            out[out_part] = pile[region][chunk_part]


def reads_parts(metadata: Any) -> bool:
    """Return whether parts of a chunk are read without the rest: numbers as they are, in a file without a checksum."""
    codecs = getattr(metadata, "codecs", None)
    if codecs is not None:
        return [type(codec).__name__ for codec in codecs] == ["BytesCodec"]
    return metadata.compressor is None and not metadata.filters and metadata.order == "C"


def _compiled(metadata: Any, store: Any) -> Any:
    """Return the compiled codecs of an array, None where they do not know some of its metadata."""
    try:
        return get_codec_pipeline_impl(metadata, store, strict=True)
    except UnsupportedMetadataError:
        return None


def _pile_size(spec: Any) -> int:
    """Return how many chunks are decoded in one call: a call costs as much as a small chunk, a pile costs memory."""
    chunk_bytes: int = math.prod(spec.shape) * spec.dtype.to_native_dtype().itemsize
    return max(1, PILE_BYTES // max(1, chunk_bytes))


def _writes_fill_value(item: Any, values: Any) -> bool:
    """Return whether a chunk must be written although it holds only the fill value."""
    _, spec, _, out_part, _ = item
    if not spec.config.write_empty_chunks:
        return False
    part = np.asarray(values[out_part] if values.ndim else values)
    if not part.size or not _is_fill(part[(0,) * part.ndim], spec.fill_value):
        return False
    return bool(np.all(_is_fill(part, spec.fill_value)))


def _is_fill(values: Any, fill: Any) -> Any:
    return (values == fill) | ((values != values) & (fill != fill))


def _covers_chunk(item: Any) -> bool:
    """Return whether a read takes a whole chunk, with its cells beyond the array's end."""
    _, spec, chunk_part, _, _ = item
    return isinstance(chunk_part, tuple) and all(
        isinstance(s, slice) and s.start in (0, None) and s.stop in (n, None) and s.step in (1, None)
        for s, n in zip(chunk_part, spec.shape, strict=True)
    )


def _plain(item: Any) -> bool:
    return all(isinstance(s, slice) for part in (item[2], item[3]) for s in part)


def _in_surrounding(items: list[Any], values: NDBuffer) -> tuple[list[Any], NDBuffer]:
    """Return chunks and values with a contiguous array around the values in their place, where there is one.

    The compiled codecs take contiguous arrays only: values that are a part of one would be copied.
    """
    part: Any = values.as_ndarray_like()
    if part.flags.c_contiguous or not items or not all(map(_plain, items)):
        return items, values
    found = surrounding(part)
    if found is None:
        return items, values
    around, begins = found
    moved = [(*item[:3], _moved(item[3], begins), *item[4:]) for item in items]
    return moved, items[0][1].prototype.nd_buffer.from_ndarray_like(around)


def _moved(region: tuple[slice, ...], by: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(s.start + n, s.stop + n) for s, n in zip(region, by, strict=True))


register_pipeline(CheckedCodecPipeline)
