"""Arrays of a steady state: several values per pixel, or numbers per cell of 32 pixels, in the regions of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.steady.aggregates import room_of
from diffusion_ops.steady.couplings import CELL, Triple
from diffusion_ops.steady.lattice import lattice_shape
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import Carried, NewArray

BAND = 4 * CELL
"""Rows of the fourth level's rows that are read at a time."""


@dataclass(frozen=True)
class StackedPixels(ZarrPixels):
    """An array with `count` values along a first axis, addressed by regions of the image.

    Attributes
    ----------
    count : int
    along : tuple of int
        Axes of the image that the array has.
    per_cell : tuple of int
        How many numbers it has along each of them for 32 pixels; empty where it has one per pixel.
    band : int
        Rows of a chunk, at most; 0 for the usual chunks.
    """

    count: int = 1
    along: tuple[int, ...] = ()
    per_cell: tuple[int, ...] = ()
    band: int = 0

    @classmethod
    def of(cls, frames: Frames, root: str, path: str, count: int, kind: str = "pixels") -> StackedPixels:
        """Return an array of one of three kinds: "pixels", "nodes" of the fourth level, or their "rows"."""
        axes = f"k{frames.spatial}"
        along = tuple(frames.axes.index(a) for a in frames.spatial)
        volume = len(frames.spatial) == 3
        whole: Triple = (CELL if volume else 1, CELL, CELL)
        nodes = lattice_shape(whole)[3 - len(along) :]
        wide = (*(CELL,) * (len(along) - 1), room_of(whole) // CELL ** (len(along) - 1))
        per_cell = {"pixels": (), "nodes": nodes, "rows": wide}[kind]
        return cls(root, path, axes, axes, count, along, per_cell, BAND if kind == "rows" else 0)

    def place(self, region: Region) -> Region:
        """Return the region of the array that belongs to a region of the image."""
        parts = tuple(region[axis] for axis in self.along)
        return (slice(0, self.count), *(in_cells(parts, self) if self.per_cell else parts))

    def new(self, grid: Grid, dtype: Any) -> NewArray:
        """Return the array to be created for tiles of the image."""
        shape, tile = (
            tuple(s.stop for s in self.place(tuple(slice(0, n) for n in lengths)))
            for lengths in (grid.shape, grid.tile)
        )
        tile = tuple(min(t, n) for t, n in zip(tile, shape, strict=True))
        if self.band:
            # Chunks as high as the bands that it is read in.
            tile = (tile[0], math.gcd(tile[1], self.band), *tile[2:])
        return NewArray(self, shape, tile, np.dtype(dtype))

    def read(self, region: Region) -> NDArray[Any]:
        """Return (count, *spatial) of a region of the image."""
        return super().read(self.place(region))

    def read_one(self, region: Region, number: int) -> NDArray[Any]:
        """Return one of the values of a region of the image."""
        found: NDArray[Any] = super().read((slice(number, number + 1), *self.place(region)[1:]))[0]
        return found

    def write(self, region: Region, values: NDArray[Any]) -> None:
        """Write a region of the image that is a tile."""
        super().write(self.place(region), values)


@dataclass(frozen=True)
class CarriedStack(Carried):
    """A stacked array that a stage writes beside its own."""

    def region(self, region: Region) -> Region:
        """Return the region itself: the array finds its own place."""
        return region


def beside(pixels: StackedPixels) -> CarriedStack:
    """Return a stacked array as what a stage writes beside its own."""
    return CarriedStack(pixels, pixels.count, pixels.along)


def as_volume(values: NDArray[Any]) -> NDArray[Any]:
    """Return values with three spatial axes: of a plane as a volume of one."""
    return values if values.ndim == 3 else values[None]


def sizes_of(region: Region) -> tuple[int, ...]:
    """Return the shape of a region."""
    return tuple(s.stop - s.start for s in region)


def in_cells(region: Region, stack: StackedPixels) -> Region:
    """Return a spatial region in the numbers of a stacked array."""
    return tuple(
        slice(s.start // CELL * n, -(-s.stop // CELL) * n)
        for s, n in zip(region, stack.per_cell, strict=True)
    )
