"""Write a residual: the result of a step minus the final result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import finish_image
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Work

SUBTRACT_RATE = 2.0e8
"""Values per second of one core that are subtracted."""


@KINDS.register("subtract")
@dataclass(frozen=True)
class Subtract(Work):
    """Write the difference of two images of the same shape; walls of either keep the source's own pixels.

    Attributes
    ----------
    first, second : Reading
        Image that is subtracted from, and image that is subtracted.
    original : Reading
        The source.
    frames : Frames
    dtype : numpy dtype
    target : ZarrPixels
    """

    first: Reading
    second: Reading
    original: Reading
    frames: Frames
    dtype: np.dtype[Any]
    target: ZarrPixels

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """Both images and the source."""
        return self.first.pixels, self.second.pixels, self.original.pixels

    @property
    def writes(self) -> ZarrPixels:
        """The difference."""
        return self.target

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: both images as floats, a block of them and the result."""
        total, largest = math.prod(grid.shape), math.prod(grid.largest)
        working = max(self.first.dtype.itemsize, 4)
        memory = largest * (6 * working + 2 * self.dtype.itemsize + 2) + self.codec_bytes
        item = self.dtype.itemsize
        return Cost(memory, 2 * total * working, total * item, seconds=total / SUBTRACT_RATE)

    def compute(self, window: Window) -> Done:
        """Return the difference."""
        values, read_bytes = np.empty(extent(window.write), self.dtype), 0
        for index in self.frames.each(extent(window.write)):
            region = one_frame(window, index).write
            first, second = (r.floats(self.frames, region) for r in (self.first, self.second))
            difference = first - second
            read_bytes += first.nbytes + second.nbytes
            valid = ~np.isnan(difference).any(axis=0)
            block = Block.from_image(difference, self.frames.spacing, valid)
            original = self.original.fields(self.frames, region)
            done = finish_image(block, original, self.dtype, self.frames.nodata)
            values[index] = done.reshape(values[index].shape)
        return Done(values, read_bytes=read_bytes)
