"""Make a table of labelled regions: tally each tile, and compute a row for each region from the sums."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block, row_bands
from diffusion_ops.blocks.regions import CHANNELS, FRAMES, RegionEnds, RegionSums, region_table
from diffusion_ops.blocks.statistic import Reduction, Tally
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, File, Told, Work, merge_tallies

TABULATE_RATE = 4.0e6
"""Values per second of one core, measured with nuclei."""

_BYTES = 200
"""Bytes per cell of labels of a band while they are measured, and beside it 24 per value."""

_SUMS = 5
"""Sums of a region and channel: how many cells count, and pieces of their values at one or two powers of two."""

_BAND = 1 << 16
"""Cells of a frame that are measured at a time; a row, or a plane of a volume, at least."""

USUAL_CELLS = 2048
"""Cells of an image per region that are expected; nuclei in tissue have 1,000 to 3,000."""


@KINDS.register("tabulate")
@dataclass(frozen=True)
class Tabulate(Work):
    """Tally the regions of a tile, and merge the tallies into a table.

    Attributes
    ----------
    labels : Reading
    values : Reading
        Image whose means over the regions are taken.
    frames : Frames
    table : str
        Path of the table.
    """

    labels: Reading
    values: Reading
    frames: Frames
    table: str

    merging = 3

    @classmethod
    def make(cls, **parts: Any) -> Work:
        """Return the work, or refuse labels of several channels, and more frames or channels than a table can hold."""
        work = cls(**parts)
        if work.labels.channels > 1:
            raise ValueError(
                f"The label image has {work.labels.channels} joint channels, and a table is of one. "
                "Give image.channels: separate, where each is a frame, or labels of one channel, such as of components."
            )
        axes = zip(work.frames.axes, work.frames.shape, strict=True)
        count = math.prod(n for a, n in axes if a not in work.frames.together)
        if count > FRAMES or work.values.channels > CHANNELS:
            raise ValueError(
                f"A table cannot hold {count:,} frames of {work.values.channels:,} channels. "
                f"Allowed: {FRAMES:,} frames of {CHANNELS:,} channels. Read fewer at a time."
            )
        return work

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The labels, and the image that is measured."""
        return self.labels.pixels, self.values.pixels

    @property
    def statistics(self) -> Mapping[str, Reduction]:
        """The sums and the ends of the regions."""
        return {"sums": RegionSums(), "ends": RegionEnds()}

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: what is read of a frame, and the arrays of the measures of a band of it."""
        total, channels = math.prod(grid.shape), self.values.channels
        per_cell = self.labels.dtype.itemsize + channels * self.values.dtype.itemsize
        frame = self.frames.spatial_part(grid.largest)
        band = min(math.prod(frame), max(_BAND, math.prod(frame[1:])))
        memory = math.prod(frame) * per_cell + band * (_BYTES + 24 * channels) + self.codec_bytes
        read = total * per_cell
        return Cost(memory, read, 0, seconds=total * channels / TABULATE_RATE)

    def told_bytes(self, grid: Grid) -> int:
        """Return the bytes of the sums and ends of a region of `USUAL_CELLS`: a number and its key of 8 bytes each."""
        spread = 2 * (1 + len(self.frames.spatial)) + len(self.frames.spatial)
        return 16 * (spread + _SUMS * self.values.channels) * math.prod(grid.shape) // USUAL_CELLS

    def compute(self, window: Window) -> Done:
        """Return the tallies of the tile."""
        tallies: dict[str, Tally] = {}
        read_bytes = 0
        for index in self.frames.each(extent(window.write)):
            part = one_frame(window, index)
            stored = [r.fields(self.frames, part.write) for r in (self.labels, self.values)]
            read_bytes += sum(one.nbytes for one in stored)
            for band in row_bands(stored[0].shape[1:], _BAND):
                merge_tallies(self.statistics, tallies, self._measured(part, band, *stored))
        return Done(None, tallies, read_bytes)

    def _measured(
        self, part: Window, band: slice, labels: NDArray[Any], values: NDArray[Any]
    ) -> dict[str, Tally]:
        """Return the tallies of some rows of a frame; float64 holds every label that a table can have."""
        pairs = (self.labels, labels), (self.values, values)
        fields = np.concatenate([r.as_floats(stored[:, band], np.float64) for r, stored in pairs])
        block = Block.from_image(fields, self.frames.spacing, ~np.isnan(fields[0]))
        first, *others = (s.start for s in self.frames.spatial_part(part.write))
        block.origin, block.frame = (first + band.start, *others), self.frames.number(part)
        everything = (slice(None),) * len(block.spatial)
        return {name: one.measure(block, everything) for name, one in self.statistics.items()}

    def conclude(self, told: Told) -> Conclusion:
        """Return the table, and the number of regions."""
        ndim = len(self.frames.spatial)
        rows = region_table(told.tallies["sums"], told.tallies["ends"], ndim, self.values.channels)
        head = np.zeros((1, rows.shape[1]), np.int64)
        head[0, :2] = ndim, self.values.channels
        return Conclusion({"regions": len(rows)}, files=(File(self.table, np.concatenate([head, rows])),))
