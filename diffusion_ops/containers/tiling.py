"""Compute the window that each chunk of an array needs, for a halo of any width."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_ops.blocks.window import Window, window_of


@dataclass(frozen=True)
class Tiling:
    """The windows of an array's chunks: each chunk and a halo, clamped to the array."""

    chunks: tuple[tuple[int, ...], ...]
    halo: tuple[int, ...]

    @property
    def fits(self) -> bool:
        """True where every halo ends in the neighbouring chunk."""
        return all(
            len(sizes) == 1 or h <= min(sizes) for sizes, h in zip(self.chunks, self.halo, strict=True)
        )

    def window(self, index: Sequence[int]) -> Window:
        """Return the window of a chunk."""
        starts = [sum(sizes[:i]) for sizes, i in zip(self.chunks, index, strict=True)]
        sizes = [sizes[i] for sizes, i in zip(self.chunks, index, strict=True)]
        region = tuple([slice(start, start + size) for start, size in zip(starts, sizes, strict=True)])
        return window_of(region, [sum(sizes) for sizes in self.chunks], self.halo)

    def chunk_slices(self, axis: int, i: int) -> Iterator[tuple[int, slice]]:
        """Yield the index of each chunk that a window reads along an axis, and the slice of that chunk."""
        (read,) = self.along([axis]).window([i]).read
        start = 0
        for k, size in enumerate(self.chunks[axis]):
            if k == i or (start < read.stop and start + size > read.start):
                yield k, slice(max(read.start - start, 0), min(read.stop - start, size))
            start += size

    def along(self, axes: Sequence[int]) -> Tiling:
        """Return the tiling of some axes only."""
        return Tiling(tuple(self.chunks[a] for a in axes), tuple(self.halo[a] for a in axes))

    def gather(self, index: Sequence[int], blocks: Sequence[Any]) -> Any:
        """Return the window of a chunk from the chunks that `chunk_slices` yields, the last axis fastest."""
        parts = [[part for _, part in self.chunk_slices(axis, i)] for axis, i in enumerate(index)]
        # An axis without a halo is taken whole: a mask has one channel where the image may have several.
        parts = [some if self.halo[axis] else [slice(None)] for axis, some in enumerate(parts)]
        views = [block[part] for block, part in zip(blocks, itertools.product(*parts), strict=True)]
        return _join(views, [len(some) for some in parts])


def _join(parts: list[Any], counts: list[int]) -> Any:
    """Return the array that a grid of parts makes, `counts` per axis, the last axis fastest."""
    if not counts:
        return parts[0]
    size = len(parts) // counts[0]
    rows = [_join(parts[i : i + size], counts[1:]) for i in range(0, len(parts), size)]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=-len(counts))
