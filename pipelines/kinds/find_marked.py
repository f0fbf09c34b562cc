"""Find the marked pixels of every tile, and list them in a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from diffusion_ops.blocks.statistic import Tally
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, window_of
from pipelines.kinds.fronts.tiles import MARKED, whole_labels
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, File, Told, Work


@KINDS.register("find-marked")
@dataclass(frozen=True)
class FindMarked(Work):
    """Tell the numbers and labels of the marked pixels of every tile; conclude with a file of all of them.

    Attributes
    ----------
    markers : Reading
    frames : Frames
    shape : tuple of int
        Of the image.
    position : int
        Position of the problem among the steps.
    ends : str
        The file: a row per marked pixel, its number in the image and its label.
    """

    markers: Reading
    frames: Frames
    shape: tuple[int, ...]
    position: int
    ends: str
    dtype: np.dtype[Any] = field(default=np.dtype(np.uint8))

    collects = True
    sections = ("paths",)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The markers."""
        return (self.markers.pixels,)

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, self.shape, (0,) * len(region))

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Self:
        """Return the work with statistics of its inputs replaced by their values."""
        return replace(self, markers=self.markers.bind(values))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of reading the markers."""
        size = self.markers.dtype.itemsize
        memory = math.prod(grid.largest) * (size + 20) + self.codec_bytes
        total = math.prod(grid.shape) * size
        return Cost(memory, total, 0, seconds=total / 1e9)

    def compute(self, window: Window) -> Done:
        """Return the marked pixels of a tile."""
        region = self.frames.spatial_part(window.write)
        markers = whole_labels(self.markers.fields(self.frames, window.write)[0]).reshape(extent(region))
        cells = np.argwhere(markers > 0)
        spatial = self.frames.spatial_part(self.shape)
        numbers = np.ravel_multi_index(tuple((cells + [s.start for s in region]).T), spatial)
        # Keys are sorted, as rows come one after another.
        tally = Tally(numbers.astype(np.int64), markers[tuple(cells.T)].astype(np.int64))
        return Done(None, {"marked": tally}, markers.nbytes)

    def conclude(self, told: Told) -> Conclusion:
        """Return the number of marked pixels, and the file of them."""
        # Tiles come in any order.
        rows = np.concatenate([np.stack([tally.keys, tally.counts], axis=1) for tally in told.each])
        rows = rows[np.argsort(rows[:, 0])]
        found = {MARKED: float(len(rows))}
        return Conclusion(found, bound={self.position: found}, files=(File(self.ends, rows),))

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the number of marked pixels."""
        return {} if concluded is None else {"paths": {"title": title, "ends": int(concluded.values[MARKED])}}
