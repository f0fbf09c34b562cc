"""Say which window of an array each of its chunks needs, however far the halo reaches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tiling:
    """The windows of an array's chunks: each chunk and a halo, clamped to the array."""

    chunks: tuple[tuple[int, ...], ...]
    halo: tuple[int, ...]

    @property
    def fits(self) -> bool:
        """Whether every halo ends in the neighbouring chunk."""
        return all(
            len(sizes) == 1 or h <= min(sizes) for sizes, h in zip(self.chunks, self.halo, strict=True)
        )

    def ends(self, axis: int, i: int) -> tuple[int, int, int, int]:
        """Return where the window begins, the chunk begins, the chunk ends and the window ends."""
        sizes, h = self.chunks[axis], self.halo[axis]
        start = sum(sizes[:i])
        stop = start + sizes[i]
        return max(start - h, 0), start, stop, min(stop + h, sum(sizes))

    def keep(self, index: Sequence[int]) -> tuple[slice, ...]:
        """Return the chunk as slices of its window."""
        ends = (self.ends(axis, i) for axis, i in enumerate(index))
        return tuple(slice(start - low, stop - low) for low, start, stop, _ in ends)

    def open_sides(self, index: Sequence[int]) -> tuple[tuple[bool, bool], ...]:
        """Return per axis whether the array goes on before and after the window."""
        ends = (self.ends(axis, i) for axis, i in enumerate(index))
        return tuple((low > 0, high < sum(s)) for (low, _, _, high), s in zip(ends, self.chunks, strict=True))

    def origin(self, index: Sequence[int]) -> tuple[int, ...]:
        """Return where the window begins in the array."""
        return tuple(self.ends(axis, i)[0] for axis, i in enumerate(index))

    def pieces(self, axis: int, i: int) -> Iterator[tuple[int, slice]]:
        """Yield the chunks that a window reads along an axis, and which part of each."""
        low, _, _, high = self.ends(axis, i)
        start = 0
        for k, size in enumerate(self.chunks[axis]):
            if k == i or (start < high and start + size > low):
                yield k, slice(max(low - start, 0), min(high - start, size))
            start += size

    def along(self, axes: Sequence[int]) -> Tiling:
        """Return the tiling of some axes only."""
        return Tiling(tuple(self.chunks[a] for a in axes), tuple(self.halo[a] for a in axes))

    def gather(self, index: Sequence[int], blocks: Sequence[Any]) -> Any:
        """Return the window of a chunk from the blocks that `pieces` names, the last axis fastest."""
        parts = [[part for _, part in self.pieces(axis, i)] for axis, i in enumerate(index)]
        # An axis without a halo is taken as it comes: a mask has one channel where the image has several.
        parts = [some if self.halo[axis] else [slice(None)] for axis, some in enumerate(parts)]
        places = itertools.product(*parts)
        views = [block[place] for block, place in zip(blocks, places, strict=True)]
        return _join(views, [len(some) for some in parts])


def _join(parts: list[Any], counts: list[int]) -> Any:
    """Return the array of parts that lie in a grid of `counts`, the last axis fastest."""
    if not counts:
        return parts[0]
    size = len(parts) // counts[0]
    rows = [_join(parts[i : i + size], counts[1:]) for i in range(0, len(parts), size)]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=-len(counts))
