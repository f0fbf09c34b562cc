"""Make the levels of a pyramid."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.image.pyramid import reduce_block
from pipelines.image.window import Grid, Region, Window, window_of
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done
from pipelines.tasks.work import KINDS, Work

REDUCE_RATE = 2.0e8
"""Values per second of one core that are averaged."""


@KINDS.register("reduce")
@dataclass(frozen=True)
class Reduce(Work):
    """Make a tile of a pyramid level from the level before."""

    reads: Pixels
    dtype: np.dtype[Any]
    target: ZarrPixels
    factors: tuple[int, ...]
    fine_shape: tuple[int, ...]
    labels: bool
    nodata: float | None

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The finer level."""
        return (self.reads,)

    @property
    def writes(self) -> ZarrPixels:
        """The level."""
        return self.target

    def moved(self, pixels: Pixels, carried: Carried | None) -> Reduce:
        """Return the work that reads the finer level elsewhere."""
        return replace(self, reads=pixels)

    def window(self, coarse: Region) -> Window:
        """Return the pixels of the finer level that a region stands for."""
        fine = tuple(
            slice(s.start * f, min(s.stop * f, n))
            for s, f, n in zip(coarse, self.factors, self.fine_shape, strict=True)
        )
        return replace(window_of(fine, self.fine_shape, (0,) * len(fine)), write=coarse)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the finer pixels, their sums in float64 band by band, and the coarser pixels."""
        fine = math.prod(n * f for n, f in zip(grid.largest, self.factors, strict=True))
        size, item = math.prod(self.fine_shape), self.dtype.itemsize
        coarse = math.prod(grid.shape) * item
        return Cost(fine * (item + 4) + self.codec_bytes, size * item, coarse, seconds=size / REDUCE_RATE)

    def compute(self, window: Window) -> Done:
        """Return the reduced pixels."""
        values = self.reads.read(window.read)
        reduced = reduce_block(values, self.factors, self.labels, self.nodata)
        return Done(reduced.astype(self.dtype, copy=False), read_bytes=values.nbytes)
