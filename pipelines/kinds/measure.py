"""Reduce whole-image numbers, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.fields import working_dtype
from diffusion_ops.statistic import Statistic, Tally
from pipelines.pixels import Pixels
from pipelines.window import Grid, Window, extent, grown_cells, one_frame
from pipelines.work import Cost, Frames, Work

MEASURE_RATE = 1.0e8
"""Values per second of one core that a statistic tallies."""


@dataclass(frozen=True)
class Measure(Work):
    """Tally statistics over the tile."""

    reads: Pixels
    read_dtype: np.dtype[Any]
    frames: Frames
    statistics: Mapping[str, Statistic]
    from_source: bool

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image: the widest radius of the statistics."""
        radii = [s.radius(self.frames.spacing) for s in self.statistics.values()]
        return self.frames.on_axes(tuple(max(r) for r in zip(*radii, strict=True)))

    def window(self, grid: Grid, tile: int) -> Window:
        """Return the tile with its halo."""
        return grid.window(tile, self.halo)

    def cost(self, grid: Grid) -> Cost:
        """Return a window as stored, as a block, and what the statistics hold beside it."""
        cells = grown_cells(grid, self.halo)
        channels, frame = self.frames.split_cells(grid, self.halo)
        extra = max(s.extra_arrays(len(self.frames.spatial), channels) for s in self.statistics.values())
        working = working_dtype(self.read_dtype).itemsize
        memory = cells * self.read_dtype.itemsize + int(frame * (working * (channels + extra) + 2))
        total = math.prod(grid.shape)
        read = int(total * cells / math.prod(grid.largest)) * self.read_dtype.itemsize
        return Cost(memory, read, 0, seconds=len(self.statistics) * total / MEASURE_RATE)

    def compute(self, window: Window) -> tuple[NDArray[Any] | None, Mapping[str, Tally], int]:
        """Return what the tile contributes."""
        keep = self.frames.spatial_part(window.keep)
        nodata = self.frames.nodata if self.from_source else None
        tallies: dict[str, Tally] = {}
        read_bytes = 0
        for index in self.frames.each(extent(window.write)):
            values = self.frames.fields(self.reads.read(one_frame(window, index).read))
            read_bytes += values.nbytes
            block = self.frames.block(values, window, nodata)
            del values
            self.add(tallies, {name: s.measure(block, keep) for name, s in self.statistics.items()})
        return None, tallies, read_bytes

    def add(self, tallies: dict[str, Tally], more: Mapping[str, Tally]) -> None:
        """Merge what a part contributes into what is there."""
        for name, tally in more.items():
            tallies[name] = self.statistics[name].merge(tallies[name], tally) if name in tallies else tally
