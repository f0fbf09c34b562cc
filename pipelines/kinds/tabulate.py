"""Make a table of labelled regions: tally each tile, and compute a row for each region from the sums."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
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
"""Bytes per cell of labels while they are measured, and beside it 24 per value."""

_SUMS = 5
"""Sums of a region and channel: how many cells count, and pieces of their values at one or two powers of two."""

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
        """Return the cost: labels and values as float64, and the arrays of the measures."""
        total, channels = math.prod(grid.shape), self.values.channels
        cells = math.prod(grid.largest)
        memory = cells * (_BYTES + 24 * channels) + self.codec_bytes
        read = total * (self.labels.dtype.itemsize + channels * self.values.dtype.itemsize)
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
            labels, values = (r.floats(self.frames, part.write) for r in (self.labels, self.values))
            read_bytes += labels.nbytes + values.nbytes
            fields = np.concatenate([labels.astype(np.float64), values])
            block = Block.from_image(fields, self.frames.spacing, ~np.isnan(labels[0]))
            block.origin = tuple(s.start for s in self.frames.spatial_part(part.write))
            block.frame = self.frames.number(part)
            everything = (slice(None),) * len(block.spatial)
            found = {name: one.measure(block, everything) for name, one in self.statistics.items()}
            merge_tallies(self.statistics, tallies, found)
        return Done(None, tallies, read_bytes)

    def conclude(self, told: Told) -> Conclusion:
        """Return the table, and the number of regions."""
        ndim = len(self.frames.spatial)
        rows = region_table(told.tallies["sums"], told.tallies["ends"], ndim, self.values.channels)
        head = np.zeros((1, rows.shape[1]), np.int64)
        head[0, :2] = ndim, self.values.channels
        return Conclusion({"regions": len(rows)}, files=(File(self.table, np.concatenate([head, rows])),))
