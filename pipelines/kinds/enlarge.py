"""Interpolate a level of the image to the next finer one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, window_of
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

    A fine cell is 3/4 of the coarse cell that it lies in and 1/4 of the neighbour that it is nearer to, axis by axis;
    coarse cells without a value do not count. Walls are those of the fine level.

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
        halves = tuple(
            slice(s.start // 2, -(-s.stop // 2)) if a in self.frames.spatial else s
            for a, s in zip(self.frames.axes, fine, strict=True)
        )
        ones = self.frames.on_axes((1,) * len(self.frames.spatial))
        return replace(window_of(halves, self.coarse_shape, ones), write=fine)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: values and weights in float64 at both levels."""
        total, largest = math.prod(grid.shape), math.prod(grid.largest)
        item = self.dtype.itemsize
        return Cost(
            largest * (6 * 8 + 2 * item) + self.codec_bytes,
            2 * total * item,
            total * item,
            seconds=total / ENLARGE_RATE,
        )

    def compute(self, window: Window) -> Done:
        """Return the interpolated pixels, with the finer level's walls."""
        coarse = self.reads.read(window.read)
        values = np.empty(extent(window.write), self.dtype)
        known = ~np.isnan(coarse)
        axes = [a in self.frames.spatial for a in self.frames.axes]
        total = _doubled(np.where(known, coarse, 0).astype(np.float64), window, axes)
        weight = _doubled(known.astype(np.float64), window, axes)
        with np.errstate(invalid="ignore", divide="ignore"):
            values[...] = np.where(weight > 0, total / weight, np.nan)
        walls = self._walls(window.write, values.shape)
        values[walls] = np.nan
        return Done(values, read_bytes=coarse.nbytes + walls.size * self.like.dtype.itemsize)

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


def _doubled(values: NDArray[Any], window: Window, axes: list[bool]) -> NDArray[Any]:
    """Return coarse values at the fine cells of a window, summed with the weights 3/4 and 1/4 along each axis."""
    for axis, doubled in enumerate(axes):
        if not doubled:
            continue
        fine = np.arange(window.write[axis].start, window.write[axis].stop)
        read = window.read[axis]
        near, far = fine // 2, fine // 2 + np.where(fine % 2, 1, -1)
        # Beyond the image's edge there are no cells: the cell itself counts twice.
        far = np.where((far < read.start) | (far >= read.stop), near, far)
        at = (np.take(values, i - read.start, axis=axis) for i in (near, far))
        values = 0.75 * next(at) + 0.25 * next(at)
    return values
