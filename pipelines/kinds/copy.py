"""Bring a source that cannot be read by region into Zarr."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.statistic import Tally
from pipelines.pixels import Pixels, ZarrPixels
from pipelines.window import Grid, Window
from pipelines.work import Cost, Work


@dataclass(frozen=True)
class Copy(Work):
    """Read a source whole, once, and write it into Zarr."""

    reads: Pixels
    read_dtype: np.dtype[Any]
    target: ZarrPixels

    @property
    def writes(self) -> ZarrPixels:
        """The copy."""
        return self.target

    def window(self, grid: Grid, tile: int) -> Window:
        """Return the tile itself."""
        return grid.window(tile, (0,) * len(grid.shape))

    def cost(self, grid: Grid) -> Cost:
        """Return the whole image twice: decoded, and in chunks."""
        size = math.prod(grid.shape) * self.read_dtype.itemsize
        return Cost(2 * size, size, size)

    def compute(self, window: Window) -> tuple[NDArray[Any] | None, Mapping[str, Tally], int]:
        """Return the pixels as they are."""
        values = self.reads.read(window.read)
        return values, {}, values.nbytes
