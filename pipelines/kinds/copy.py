"""Copy a source that cannot be read by region into Zarr."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.image.window import Grid, Region, Window, window_of
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Work


@KINDS.register("copy")
@dataclass(frozen=True)
class Copy(Work):
    """Read a source whole, once, and write it into Zarr."""

    reads: Pixels
    dtype: np.dtype[Any]
    target: ZarrPixels

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The source."""
        return (self.reads,)

    @property
    def writes(self) -> ZarrPixels:
        """The copy."""
        return self.target

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the whole image twice, decoded and in chunks."""
        size = math.prod(grid.shape) * self.dtype.itemsize
        return Cost(2 * size + self.codec_bytes, size, size)

    def compute(self, window: Window) -> Done:
        """Return the pixels as they are."""
        values = self.reads.read(window.read)
        return Done(values, read_bytes=values.nbytes)
