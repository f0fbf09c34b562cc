"""Cut an image into a grid of tiles, by arithmetic and without a list of tiles."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from diffusion_ops.blocks.window import Region, Window, window_of

__all__ = [
    "Grid",
    "Region",
    "Window",
    "decoded_cells",
    "extent",
    "format_region",
    "grown_cells",
    "grown_extent",
    "one_frame",
    "shifted",
    "shrinking_cells",
    "window_of",
]


@dataclass(frozen=True)
class Grid:
    """Tiles over an image, numbered in row-major order.

    Attributes
    ----------
    shape : tuple of int
        Length of the image per axis.
    tile : tuple of int
        Length of a tile per axis; the last one of an axis may be shorter.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles per axis; the driver asks for them several times for every tile."""
        return tuple(math.ceil(n / t) for n, t in zip(self.shape, self.tile, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    @property
    def largest(self) -> tuple[int, ...]:
        """Extent of the largest tile that occurs."""
        return tuple(min(t, n) for t, n in zip(self.tile, self.shape, strict=True))

    def position(self, index: int) -> tuple[int, ...]:
        """Return the position of a tile in the grid, per axis."""
        position = []
        for count in reversed(self.counts):
            index, i = divmod(index, count)
            position.append(i)
        return tuple(reversed(position))

    def region(self, index: int) -> Region:
        """Return the region of a tile."""
        return tuple(
            slice(i * t, min((i + 1) * t, n))
            for i, t, n in zip(self.position(index), self.tile, self.shape, strict=True)
        )

    def window(self, index: int, halo: tuple[int, ...]) -> Window:
        """Return the window of a tile: what it reads with a halo, keeps and writes."""
        return window_of(self.region(index), self.shape, halo)

    def box(self, region: Region) -> Region:
        """Return the tiles that a region touches, by their positions; the part of it beyond the grid touches none."""
        ends = zip(region, self.shape, self.tile, strict=True)
        return tuple(slice(s.start // t, (min(s.stop, n) - 1) // t + 1) for s, n, t in ends)

    def covering(self, region: Region) -> Iterator[int]:
        """Yield the numbers of the tiles that a region touches, in order."""
        for position in product(*(range(s.start, s.stop) for s in self.box(region))):
            index = 0
            for i, count in zip(position, self.counts, strict=True):
                index = index * count + i
            yield index


def shifted(region: Region, by: Region) -> Region:
    """Return a region, counted from the start of another one, in the coordinates of the image."""
    return tuple(slice(s.start + o.start, s.stop + o.start) for s, o in zip(region, by, strict=True))


def within(region: Region, outer: Region) -> Region:
    """Return a region of the image, counted from the start of another one: what `shifted` takes back."""
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, outer, strict=True))


def extent(region: Region) -> tuple[int, ...]:
    """Return the shape of a region."""
    return tuple(s.stop - s.start for s in region)


def format_region(region: Region, axes: str) -> str:
    """Return a region as people write it, "y 0:512, x 512:1024"."""
    return ", ".join(f"{a} {s.start}:{s.stop}" for a, s in zip(axes, region, strict=True))


def grown_extent(grid: Grid, halo: tuple[int, ...]) -> tuple[int, ...]:
    """Return the extent of the largest window with a halo."""
    return tuple(min(t + 2 * h, n) for t, h, n in zip(grid.largest, halo, grid.shape, strict=True))


def grown_cells(grid: Grid, halo: tuple[int, ...]) -> int:
    """Return the cells of the largest window with a halo."""
    return math.prod(grown_extent(grid, halo))


def decoded_cells(grid: Grid, halo: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """Return the cells of the chunks that the windows of all tiles touch: each window decodes whole chunks.

    Examples
    --------
    >>> decoded_cells(Grid((4096,), (1024,)), (64,), (1,)), decoded_cells(Grid((4096,), (1024,)), (64,), (2048,))
    (4480, 12288)
    """
    axes = zip(grid.shape, grid.tile, halo, chunks, strict=True)
    return math.prod(_decoded_along(*numbers) for numbers in axes)


def _decoded_along(length: int, tile: int, halo: int, chunk: int) -> int:
    """Return the cells along an axis; tiles between the first one and the last are taken to be like the second."""

    def touched(number: int) -> int:
        start, stop = max(0, number * tile - halo), min(length, (number + 1) * tile + halo)
        return min(length, math.ceil(stop / chunk) * chunk) - start // chunk * chunk

    count = math.ceil(length / tile)
    if count <= 2:
        return sum(map(touched, range(count)))
    return touched(0) + (count - 2) * touched(1) + touched(count - 1)


def shrinking_cells(grid: Grid, halo: tuple[int, ...]) -> float:
    """Return the cells computed per step, on average, while the active region shrinks from the window to the tile.

    Simpson's rule is exact for the polynomial of degree 2 or 3 that the area is.
    """
    half = tuple(h // 2 for h in halo)
    none = (0,) * len(halo)
    return (grown_cells(grid, halo) + 4 * grown_cells(grid, half) + grown_cells(grid, none)) / 6


def one_frame(window: Window, index: tuple[int | slice, ...]) -> Window:
    """Return the part of a window that holds one frame."""

    def at(region: Region) -> Region:
        return tuple(
            s if isinstance(i, slice) else slice(s.start + i, s.start + i + 1)
            for s, i in zip(region, index, strict=True)
        )

    return Window(at(window.read), window.keep, at(window.write), window.open_sides)
