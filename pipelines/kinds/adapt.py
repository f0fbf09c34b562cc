"""Take a batch of adaptive steps, and tell its error: the same stage again and again, with the step that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.statistic import Statistic, Tally
from diffusion_ops.evolution.adaptive import Control
from diffusion_ops.evolution.advance import Leg, take_batch
from pipelines.image.window import Grid, Region, Window, extent, grown_cells, one_frame, window_of
from pipelines.tasks.inputs import Inputs
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.work import Cost, Done, Frames, Work, merge_tallies

ERROR = "error"
"""What tiles tally after a batch."""


@dataclass(frozen=True)
class Adapt(Work):
    """Carry a tile through one batch of steps whose size the batches before have decided.

    Attributes
    ----------
    inputs : Inputs
    target : ZarrPixels
        Of the first batch; each writes an array of its own.
    frames : Frames
    leg : Leg
        With the control that the batch goes by.
    position : int
        Of the operator among the steps.
    dtype : numpy dtype
        Of the state.
    image_shape : tuple of int
    """

    inputs: Inputs
    target: ZarrPixels
    frames: Frames
    leg: Leg
    position: int
    dtype: np.dtype[Any]
    image_shape: tuple[int, ...]

    @property
    def control(self) -> Control:
        """Where the evolution stands."""
        assert self.leg.adaptive is not None
        return self.leg.adaptive

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The state, and what is read beside it."""
        return self.inputs.sources

    @property
    def writes(self) -> ZarrPixels:
        """The state after the batch."""
        return self.target

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """The error of the batch."""
        return {ERROR: self.control.adaptive.statistic}

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        return self.frames.on_axes(self.leg.halo(self.frames.spacing))

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Adapt:
        """Return the work with statistics bound into its operator."""
        return replace(
            self, leg=self.leg.bind(values.get(self.position, {})), inputs=self.inputs.bind(values)
        )

    def following(self, control: Control) -> Adapt:
        """Return the work of the next batch: from the state it made where that counts, else from the one it read."""
        inputs = self.inputs
        if control.accepted:
            inputs = replace(inputs, image=replace(inputs.image, pixels=self.target, nodata=None), mask=None)
        base, _, number = self.target.path.rpartition("@")
        target = replace(self.target, path=f"{base}@{int(number) + 1}")
        return replace(self, inputs=inputs, target=target, leg=replace(self.leg, adaptive=control))

    def window(self, region: Region) -> Window:
        """Return the region with the halo of the batch."""
        return window_of(region, self.image_shape, self.halo)

    def cost(self, grid: Grid) -> Cost:
        """Return what one batch takes: the state, two more of it, and the error."""
        cells, (channels, frame) = grown_cells(grid, self.halo), self.frames.split_cells(grid, self.halo)
        working, total = self.dtype.itemsize, math.prod(grid.shape)
        operator = self.leg.operator
        ndim = len(self.frames.spatial)
        extra = operator.extra_arrays(ndim, False, channels) + operator.setup_arrays(ndim, channels)
        stored = self.inputs.image.dtype.itemsize
        memory = int(max(frame * channels * (stored + working), frame * (5 * channels + extra) * working))
        steps = self.leg.steps
        ratio = cells / math.prod(grid.largest)
        seconds = total * ratio * steps / operator.pace(ndim, channels)
        return Cost(
            memory,
            int(total * ratio) * stored,
            total * working,
            total * steps,
            total * steps * ratio,
            seconds,
        )

    def compute(self, window: Window) -> Done:
        """Return the state of the tile after the batch, and its error."""
        values, read_bytes = np.empty(extent(window.write), self.dtype), 0
        keep = self.frames.spatial_part(window.keep)
        tallies: dict[str, Tally] = {}
        for index in self.frames.each(values.shape):
            block, more = self.inputs.block(self.frames, one_frame(window, index))
            read_bytes += more
            take_batch(block, self.leg.operator, self.control.tau, self.control.adaptive.batch)
            found = {name: s.measure(block, keep) for name, s in self.statistics.items()}
            merge_tallies(self.statistics, tallies, found)
            block.carried = None
            values[index] = block.kept(keep).reshape(values[index].shape)
        return Done(values, tallies, read_bytes)
