"""Measure statistics of the whole image: tally each tile, and add the tallies up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.blocks.statistic import Statistic, Tally
from diffusion_ops.evolution.reach import widest
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.tasks.inputs import Inputs
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, Work, merge_tallies

MEASURE_RATE = 1.0e8
"""Values per second of one core that a statistic tallies."""


@KINDS.register("measure")
@dataclass(frozen=True)
class Measure(Work):
    """Tally statistics over the tile.

    Attributes
    ----------
    inputs : Inputs
    frames : Frames
    wanted : mapping
        Statistics per parameter of an operator.
    position : int
        Position of the operator among the steps.
    image_shape : tuple of int
        Shape of the image that is read.
    """

    inputs: Inputs
    frames: Frames
    wanted: Mapping[str, Statistic]
    position: int
    image_shape: tuple[int, ...]

    sections = ("statistics",)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The image, its guide and its mask."""
        return self.inputs.sources

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """The statistics."""
        return self.wanted

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image: the widest radius of the statistics."""
        return self.frames.on_axes(widest(s.radius(self.frames.spacing) for s in self.wanted.values()))

    def conclude(self, told: Told) -> Conclusion:
        """Return the values, which replace the operator's statistics."""
        values = {name: s.value(told.tallies[name]) for name, s in self.wanted.items()}
        return Conclusion(values, bound={self.position: values})

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the values, and the position of the operator that they are for."""
        if concluded is None:
            return {}
        return {"statistics": {"title": title, "position": self.position, "values": dict(concluded.values)}}

    def window(self, region: Region) -> Window:
        """Return the region with the halo."""
        return window_of(region, self.image_shape, self.halo)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: reading a window, or a block of it and the arrays of the statistics."""
        channels, frame = self.frames.split_cells(grid, self.halo)
        extra = max(s.extra_arrays(len(self.frames.spatial), channels) for s in self.wanted.values())
        stored = self.inputs.image.dtype
        working = working_dtype(stored).itemsize
        memory = max(
            self.inputs.reading_bytes(frame), self.inputs.block_bytes(frame) + int(frame * working * extra)
        )
        read = self.inputs.decoded_cells(self.frames, grid, self.halo) * stored.itemsize
        seconds = len(self.wanted) * math.prod(grid.shape) / MEASURE_RATE
        return Cost(memory, read, 0, seconds=seconds)

    @property
    def may_have_walls(self) -> bool:
        """Whether what it reads may have invalid pixels."""
        return self.inputs.may_have_walls

    def rehearse(self, walls: bool) -> None:
        """Measure a few cells, which compiles the kernels of the statistics or loads them."""
        block = self.inputs.few_cells(self.frames, walls)
        for statistic in self.wanted.values():
            statistic.measure(block, (slice(None),) * len(self.frames.spatial))

    def compute(self, window: Window) -> Done:
        """Return the tallies of the window."""
        keep = self.frames.spatial_part(window.keep)
        tallies: dict[str, Tally] = {}
        read_bytes = 0
        for index in self.frames.each(extent(window.write)):
            block, more = self.inputs.block(self.frames, one_frame(window, index))
            found = {name: s.measure(block, keep) for name, s in self.wanted.items()}
            merge_tallies(self.wanted, tallies, found)
            read_bytes += more
        return Done(None, tallies, read_bytes)
