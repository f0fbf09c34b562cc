"""Interpolate a level of the image to the next finer one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.window import doubled, doubling_window
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Work

ENLARGE_RATE = 5.0e7
"""Values per second of one core that are interpolated."""


@KINDS.register("enlarge")
@dataclass(frozen=True)
class Enlarge(Work):
    """Double a level along the axes that diffuse together, by linear interpolation between the cells' centres.

    Coarse cells without a value do not count, see `doubled`. Walls are those of the fine level.

    Attributes
    ----------
    reads : Pixels
        The coarser level, floats with NaN for walls.
    like : Reading
        The image at the finer level, whose walls the result has.
    frames : Frames
    dtype : numpy dtype
    target : ZarrPixels
    coarse_shape : tuple of int
    """

    reads: Pixels
    like: Reading
    frames: Frames
    dtype: np.dtype[Any]
    target: ZarrPixels
    coarse_shape: tuple[int, ...]

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The coarser level, and the finer one's walls."""
        return self.reads, self.like.pixels

    @property
    def writes(self) -> ZarrPixels:
        """The finer level."""
        return self.target

    def window(self, fine: Region) -> Window:
        """Return the coarse cells around a region of the finer level."""
        return doubling_window(fine, self.coarse_shape, self._axes)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: values and weights in float64, and the steps on the way; 33.3 bytes were measured."""
        total, largest = math.prod(grid.shape), math.prod(grid.largest)
        item = self.dtype.itemsize
        return Cost(
            largest * (34 + item) + self.codec_bytes,
            2 * total * item,
            total * item,
            seconds=total / ENLARGE_RATE,
        )

    def compute(self, window: Window) -> Done:
        """Return the interpolated pixels, with the finer level's walls."""
        coarse = self.reads.read(window.read)
        values = np.empty(extent(window.write), self.dtype)
        known = ~np.isnan(coarse)
        total = doubled(np.where(known, coarse, 0).astype(np.float64), window, self._axes)
        weight = doubled(known.astype(np.float64), window, self._axes)
        with np.errstate(invalid="ignore", divide="ignore"):
            values[...] = np.where(weight > 0, total / weight, np.nan)
        walls = self._walls(window.write, values.shape)
        values[walls] = np.nan
        return Done(values, read_bytes=coarse.nbytes + walls.size * self.like.dtype.itemsize)

    @property
    def _axes(self) -> list[bool]:
        """Which axes are doubled."""
        return [a in self.frames.spatial for a in self.frames.axes]

    def _walls(self, fine: Region, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        walls = np.zeros(shape, bool)
        for index in self.frames.each(shape):
            part = tuple(
                s if isinstance(i, slice) else slice(s.start + i, s.start + i + 1)
                for s, i in zip(fine, index, strict=True)
            )
            invalid = np.isnan(self.like.floats(self.frames, part)).any(axis=0)
            walls[index] |= invalid
        return walls
