"""Take adaptive steps: one stage in rounds of one batch each, whose error decides the step size of the next round."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.blocks.statistic import Statistic, Tally
from diffusion_ops.evolution.adaptive import Control
from diffusion_ops.evolution.advance import take_batch
from diffusion_ops.evolution.legs import Leg
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, grown_cells, one_frame, window_of
from pipelines.plan.batches import measure_statistics, request_after, request_inputs
from pipelines.plan.stages import ChainRequest, ChainWork, Image, lay_out_chain
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, merge_tallies

ERROR = "error"
"""Name of the statistic that tiles tally after a batch."""


@KINDS.register("adapt")
@dataclass(frozen=True)
class Adapt(ChainWork):
    """Carry a tile through one batch of steps, whose size the errors of the batches before have decided.

    Attributes
    ----------
    inputs : Inputs
    target : ZarrPixels
        State after this batch; each batch writes an array of its own.
    frames : Frames
    leg : Leg
        Operator, with the control of this batch.
    position : int
        Position of the operator among the steps.
    dtype : numpy dtype
        Type of the state.
    image_shape : tuple of int
    number : int
        Number of its stage.
    history : tuple of Control
        Controls of the batches before.
    """

    inputs: Inputs
    target: ZarrPixels
    frames: Frames
    leg: Leg
    position: int
    dtype: np.dtype[Any]
    image_shape: tuple[int, ...]
    number: int
    history: tuple[Control, ...] = ()

    sections = ("adaptive",)

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stage that takes batches until the time is reached, and those that end the operator."""
        request.refuse_part(
            "chooses its steps by the error over the whole image, so a part alone cannot "
            "be computed. Run the spec first and verify it, or give schedule: explicit."
        )
        (leg,), (position,) = request.chain.legs, request.chain.positions
        stages, begin = request.stages, request.begin
        inputs, after = request_inputs(request), request_after(request)
        working = working_dtype(begin.reading.dtype)
        needs = measure_statistics(request, request.chain.legs, inputs, begin.shape, after, request.number)
        target, number = request.target(request.number, None), stages.following
        work = cls(inputs, target, request.frames, leg, position, working, begin.shape, number)
        title = f"{leg.operator.name} (adaptive)"
        stages.add(title, work, stages.grid(begin.shape), after, (*needs, *request.needs))
        taken = Image(Reading(target, working, None, begin.reading.channels), begin.shape, (number,))
        ended = replace(request.chain, legs=(replace(leg, adaptive=None, begins=False),))
        # Only the complete stage knows that the time is reached, so the end needs all of its tiles.
        end = replace(
            request,
            chain=ended,
            begin=taken,
            beside={},
            needs=(number,),
            number=request.number + 1,
            given_back=begin.reading,
        )
        return lay_out_chain(end)

    @property
    def control(self) -> Control:
        """Step size, error and reached time of the evolution."""
        assert self.leg.adaptive is not None
        return self.leg.adaptive

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The state, and the guide or mask."""
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
        """Return the work with statistics replaced by their values."""
        leg, inputs = self.leg.bind(values.get(self.position, {})), self.inputs.bind(values)
        return replace(self, leg=leg, inputs=inputs)

    def conclude(self, told: Told) -> Conclusion:
        """Return the error, and the work of the stage's next round until the time is reached."""
        error = self.statistics[ERROR].value(told.tallies[ERROR])
        control = self.control.after(error)
        values = {ERROR: error, "step": self.control.tau, "time": float(control.done)}
        if control.finished:
            return Conclusion(values, reader=self.number + 1)
        return Conclusion(values, again={self.number: self.following(control)})

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the batches: step sizes, errors in units of the tolerance, and whether they were accepted."""
        controls = [*self.history, self.control]
        if concluded is not None and not concluded.again:
            controls.append(self.control.after(concluded.values[ERROR]))
        batches = [
            {"step": before.tau, "error": after.error, "accepted": after.accepted, "time": float(after.done)}
            for before, after in itertools.pairwise(controls)
        ]
        return {"adaptive": {"position": self.position, "batches": batches}}

    def following(self, control: Control) -> Adapt:
        """Return the work of the next batch, from the state after this batch where it is accepted, else before it."""
        inputs = self.inputs
        if control.accepted:
            inputs = replace(inputs, image=replace(inputs.image, pixels=self.target, nodata=None), mask=None)
        base, _, number = self.target.path.rpartition("@")
        target = replace(self.target, path=f"{base}@{int(number) + 1}")
        leg, history = replace(self.leg, adaptive=control), (*self.history, self.control)
        return replace(self, inputs=inputs, target=target, leg=leg, history=history)

    def window(self, region: Region) -> Window:
        """Return the region with the halo of the batch."""
        return window_of(region, self.image_shape, self.halo)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of one batch: the state, two copies of it, and the error."""
        cells, (channels, frame) = grown_cells(grid, self.halo), self.frames.split_cells(grid, self.halo)
        working, total = self.dtype.itemsize, math.prod(grid.shape)
        operator = self.leg.operator
        ndim = len(self.frames.spatial)
        extra = operator.extra_arrays(ndim, False, channels) + operator.setup_arrays(ndim, channels)
        stored = self.inputs.image.dtype.itemsize
        values = math.prod(grid.largest) * working
        stepping = self.inputs.block_bytes(frame) + int(frame * (3 * channels + extra) * working)
        # The kept part of a frame is copied twice.
        memory = values + max(
            self.inputs.reading_bytes(frame), stepping, frame * (3 * channels + 1) * working
        )
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

    @property
    def may_have_walls(self) -> bool:
        """Whether what it reads may have invalid pixels."""
        return self.inputs.may_have_walls

    @property
    def compiled_for(self) -> frozenset[str]:
        """The operator."""
        return frozenset({type(self.leg.operator).__name__})

    def rehearse(self, walls: bool) -> None:
        """Take one batch of a few cells, which compiles its kernels or loads them."""
        block, leg = self.inputs.few_cells(self.frames, walls), self.leg.stand_in()
        take_batch(block, leg.operator, self.control.tau, self.control.adaptive.batch)
        for statistic in self.statistics.values():
            statistic.measure(block, (slice(None),) * len(self.frames.spatial))

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
