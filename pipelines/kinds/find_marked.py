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
        """Return the cost of reading the markers, some rows at a time."""
        size, rows = self.markers.dtype.itemsize, grid.largest[self.frames.axes.index(self.frames.spatial[0])]
        part = math.prod(grid.largest) // rows * self.markers.rows_at_once(self.frames, rows)
        memory = part * (size + 36) + self.codec_bytes
        total = math.prod(grid.shape) * size
        return Cost(memory, total, 0, seconds=total / 1e9)

    def compute(self, window: Window) -> Done:
        """Return the marked pixels of a tile."""
        keys, labels, read_bytes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
        # Keys are sorted, as rows come one after another.
        for _, part in self.markers.parts(self.frames, window.write):
            region = self.frames.spatial_part(part)
            markers = whole_labels(self.markers.fields(self.frames, part)[0]).reshape(extent(region))
            cells = np.argwhere(markers > 0)
            there = tuple((cells + [s.start for s in region]).T)
            keys.append(np.ravel_multi_index(there, self.frames.spatial_part(self.shape)))
            labels.append(markers[tuple(cells.T)].astype(np.int64))
            read_bytes += markers.nbytes
        return Done(None, {"marked": Tally(np.concatenate(keys), np.concatenate(labels))}, read_bytes)

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
