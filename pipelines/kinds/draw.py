"""Draw lines into a label image, tile by tile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import row_bands
from diffusion_ops.evolution.problems.solve_request import require_labels
from diffusion_ops.families.fronts.paths import draw
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, window_of
from pipelines.store.places import local_copy
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Work

_BYTES, _POINTS = 100, 1 << 14
"""Bytes of a point of a line while it is drawn, and points that are drawn at a time."""


@KINDS.register("draw")
@dataclass(frozen=True)
class Draw(Work):
    """Write the labels of lines to the pixels that they run through.

    Attributes
    ----------
    frames : Frames
    shape : tuple of int
        Of the image.
    lines : str
        File of the points of all lines.
    target : ZarrPixels
    dtype : numpy dtype
    """

    frames: Frames
    shape: tuple[int, ...]
    lines: str
    target: ZarrPixels
    dtype: np.dtype[Any]

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """Nothing: a file is read."""
        return ()

    @property
    def writes(self) -> ZarrPixels:
        """The label image."""
        return self.target

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, self.shape, (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of a tile of labels, and of some points of lines."""
        size = self.dtype.itemsize
        memory = math.prod(grid.largest) * (size + 8) + _POINTS * _BYTES + self.codec_bytes
        return Cost(memory, 0, math.prod(grid.shape) * size, seconds=math.prod(grid.shape) / 1e9)

    def compute(self, window: Window) -> Done:
        """Return the labels of a tile."""
        rows, region = np.load(local_copy(self.lines), mmap_mode="r"), self.frames.spatial_part(window.write)
        labels = np.zeros(extent(region), np.int64)
        for band in row_bands(rows.shape[:1], _POINTS):
            draw(rows[band], region, labels)
        require_labels(labels, self.dtype)
        return Done(labels.astype(self.dtype).reshape(extent(window.write)), {}, rows.nbytes)
