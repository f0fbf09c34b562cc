"""Find the tiles, strips and bytes that a window of a TIFF level touches, from its directories alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Window = tuple[tuple[int, int], ...]
"""Start and stop along each axis; of a page: sample, plane, row, column, contiguous sample."""


def slices(bounds: Window) -> tuple[slice, ...]:
    """Return bounds as slices."""
    return tuple(slice(a, b) for a, b in bounds)


def overlap(bounds: Window, window: Window) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part that bounds share with a window, counted from the start of the bounds and of the window."""
    both = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(bounds, window, strict=True)]
    inner = tuple(slice(a - p, b - p) for (a, b), (p, _) in zip(both, bounds, strict=True))
    outer = tuple(slice(a - w, b - w) for (a, b), (w, _) in zip(both, window, strict=True))
    return inner, outer


@dataclass(frozen=True)
class Contiguous:
    """Pixels that lie in the file as they do in memory."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def map(self) -> NDArray[Any]:
        """Return a memory map, made for one read: what an open map has touched counts as memory."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


@dataclass(frozen=True)
class Pages:
    """How the axes of a level split into axes that count pages and axes of a page.

    Attributes
    ----------
    leading : tuple of int
        Lengths of the axes that count pages.
    inner : tuple of int or None
        Axis of the page (sample, plane, row, column, contiguous sample) for each other axis, None for length
        1.
    shaped : tuple of int
        Lengths of the axes of a page.
    """

    leading: tuple[int, ...]
    inner: tuple[int | None, ...]
    shaped: tuple[int, ...]

    def window(self, bounds: Window) -> Window:
        """Return bounds in the axes of a page."""
        window = [(0, n) for n in self.shaped]
        for axis, part in zip(self.inner, bounds, strict=True):
            if axis is not None:
                window[axis] = part
        return tuple(window)


def page_layout(level: Any) -> Pages | Contiguous | None:
    """Return how a level can be read by region, None if only as a whole."""
    keyframe, shape = level.keyframe, tuple(level.shape)
    if len(level) == 1 and math.prod(shape) > math.prod(keyframe.shaped):
        # ImageJ writes stacks of more than 4 GB as one page followed by the bytes of all others.
        return None if level.dataoffset is None else _mapped(level[0], shape, level.dataoffset)
    split = next((k for k in range(len(shape) + 1) if math.prod(shape[:k]) == len(level)), None)
    if split is None or level.transform is not None:
        return None
    inner = _matched(shape[split:], keyframe.shaped)
    return None if inner is None else Pages(shape[:split], inner, tuple(keyframe.shaped))


def _matched(shape: tuple[int, ...], shaped: tuple[int, ...]) -> tuple[int | None, ...] | None:
    """Return the axis of a page for each axis of a level: those longer than 1 come in the same order."""
    long = [i for i, n in enumerate(shaped) if n > 1]
    if [shaped[i] for i in long] != [n for n in shape if n > 1]:
        return None
    return tuple(long.pop(0) if n > 1 else None for n in shape)


def _mapped(page: Any, shape: tuple[int, ...], offset: int) -> Contiguous:
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    return Contiguous(page.parent.filehandle.path, dtype, tuple(shape), offset)


def contiguous(page: Any) -> Contiguous | None:
    """Return where the pixels of a page lie if they need no decoding, else None."""
    keyframe, offsets, counts = page.keyframe, page.dataoffsets, page.databytecounts
    # The library answers for the first page of a series; the strips of the others may lie apart.
    gaps = any(a + n != b for a, n, b in zip(offsets, counts, offsets[1:], strict=False))
    if not keyframe.is_final or gaps or sum(counts) < math.prod(keyframe.shaped) * keyframe.dtype.itemsize:
        return None
    return _mapped(page, keyframe.shaped, offsets[0])


def segment_shape(keyframe: Any) -> tuple[int, ...]:
    """Return the shape of a tile or strip in the axes of a page."""
    samples = keyframe.shaped[-1]
    if keyframe.is_tiled:
        return (1, max(1, keyframe.tiledepth), keyframe.tilelength, keyframe.tilewidth, samples)
    return (1, 1, min(keyframe.rowsperstrip, keyframe.shaped[2]), keyframe.shaped[3], samples)
