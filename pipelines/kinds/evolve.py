"""Carry tiles through a batch of steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import finish_image, make_block, working_dtype
from diffusion_ops.blocks.statistic import Statistic, Tally
from diffusion_ops.evolution.advance import Leg, advance, result_channels, total_halo
from diffusion_ops.evolution.reach import chained
from pipelines.image.frames import Frames
from pipelines.image.window import (
    Grid,
    Region,
    Window,
    extent,
    grown_cells,
    one_frame,
    shifted,
    shrinking_cells,
    window_of,
)
from pipelines.plan.batches import Batches, EnergyCheck
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, merge_tallies

ENERGY = "energy"
"""What tiles tally after a batch where the energy is asked for."""


@KINDS.register("evolve")
@dataclass(frozen=True)
class Evolve(ChainWork):
    """Carry a tile through a batch of steps.

    Between batches the state is kept as floats, invalid pixels as NaN; the last batch gives them back what the source
    holds and casts to the result's type.

    Attributes
    ----------
    inputs : Inputs
    target : ZarrPixels
    frames : Frames
    legs : tuple of Leg
        Of this batch; without statistics left in them when a task performs it.
    positions : tuple of int
        Of their operators among the steps.
    dtype : numpy dtype
        Of what is written.
    image_shape : tuple of int
        Of the whole image that is read.
    keeps : Carried or None
        Where what is carried on goes.
    base : Reading or None
        What cells beyond a mask of the step get back at its end.
    original : Reading or None
        The source, for a batch that ends in the result.
    check : EnergyCheck or None
        Where the energy of the last operator is tallied, and may end it.
    roi : tuple of slice or None
        Part of the image that the target holds; tiles then are tiles of that part, and read beyond it.
    """

    inputs: Inputs
    target: ZarrPixels
    frames: Frames
    legs: tuple[Leg, ...]
    positions: tuple[int, ...]
    dtype: np.dtype[Any]
    image_shape: tuple[int, ...]
    keeps: Carried | None = None
    base: Reading | None = None
    original: Reading | None = None
    check: EnergyCheck | None = None
    roi: Region | None = None

    is_pass = True
    sections = ("energies", "stopped")

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the passes of a chain, and what is measured before them."""
        return Batches(request, cls).lay_out()

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The state, what is read beside it, and what cells get back."""
        others = tuple(r.pixels for r in (self.base, self.original) if r is not None)
        return self.inputs.sources + others

    @property
    def writes(self) -> ZarrPixels:
        """The next state, or the result."""
        return self.target

    @property
    def carries(self) -> Carried | None:
        """What goes on beside the state."""
        return self.keeps

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """The energy, where it is asked for."""
        found = self.legs[-1].operator.energy() if self.check is not None else None
        return {} if found is None else {ENERGY: found}

    @property
    def is_state(self) -> bool:
        """Whether it does not end in a result."""
        return not self.last

    def moved(self, pixels: Pixels, carried: Carried | None) -> Evolve:
        """Return the work with the state read from elsewhere."""
        return replace(self, inputs=self.inputs.moved(pixels, carried))

    def conclude(self, told: Told) -> Conclusion:
        """Return the energy where it was measured; where it hardly falls any more, the rest of the steps is skipped."""
        check = self.check
        if check is None:
            return Conclusion()
        energy = self.statistics[ENERGY].value(told.tallies[ENERGY])
        before = None if check.before is None else told.earlier[check.before].values[ENERGY]
        if before is None or check.tolerance is None or before - energy >= check.tolerance * abs(before):
            return Conclusion({ENERGY: energy})
        skipped = tuple(range(check.number + 1, check.closing))
        return Conclusion({ENERGY: energy}, skipped=skipped, reader=check.closing)

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the energy, and the number of steps where they ended early."""
        if concluded is None or self.check is None:
            return {}
        at = {"position": self.check.position, "steps": self.check.steps}
        found = {"energies": {**at, "energy": concluded.values[ENERGY]}}
        return found if concluded.reader is None else {**found, "stopped": at}

    @property
    def last(self) -> bool:
        """Whether it ends in a result."""
        return self.original is not None

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        spacing = self.frames.spacing
        after = [statistic.radius(spacing) for statistic in self.statistics.values()]
        return self.frames.on_axes(chained([total_halo(self.legs, spacing), *after], len(spacing)))

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Evolve:
        """Return the work with statistics bound into its operators, and into those that its inputs come from."""
        pairs = zip(self.legs, self.positions, strict=True)
        legs = tuple(leg.bind(values.get(position, {})) for leg, position in pairs)
        return replace(self, legs=legs, inputs=self.inputs.bind(values))

    def window(self, region: Region) -> Window:
        """Return a region of the target with the halo of the batch."""
        inside = region if self.roi is None else shifted(region, self.roi)
        return replace(window_of(inside, self.image_shape, self.halo), write=region)

    def cost(self, grid: Grid) -> Cost:
        """Return the largest of the moments of a task: reading, stepping, finishing, writing."""
        cells = grown_cells(grid, self.halo)
        _, frame = self.frames.split_cells(grid, self.halo)
        stored = self.inputs.image.dtype
        working, ndim = working_dtype(stored).itemsize, len(self.frames.spatial)
        channels = self.inputs.image.channels
        carried = 0 if self.inputs.carried is None else self.inputs.carried.count
        guide = 0 if self.inputs.guide is None else self.inputs.guide.channels
        extra = max((sum(_arrays(leg, ndim, channels)) for leg in self.legs), default=0)
        kept = math.prod(grid.largest)
        arrays = channels + carried + guide
        reading = frame * ((channels * stored.itemsize + carried * working) * (2 if carried else 1))
        reading += frame * (arrays * working + 2)
        done = kept * self.dtype.itemsize + self._kept_bytes(grid, working)
        several = done if len(list(self.frames.each(grid.largest))) > 1 else 0
        block = frame * (channels + guide) * working
        stepping = block + frame * (max(extra, carried) * working + 1)
        memory = int(max(reading, stepping, block + done + kept, 2 * done)) + several
        total = math.prod(grid.shape)
        steps = sum(leg.steps for leg in self.legs)
        ratio = shrinking_cells(grid, self.halo) / kept
        paces = ((leg.steps, leg.operator.pace(ndim, channels)) for leg in self.legs)
        seconds = sum(total * ratio * count / pace for count, pace in paces)
        per_cell = stored.itemsize + working * (carried + guide) / max(1, channels)
        read = int(total * cells / kept * per_cell)
        written = total * self.dtype.itemsize + len(grid) * self._kept_bytes(grid, working)
        return Cost(memory, read, written, total * steps, total * steps * ratio, seconds)

    def _kept_bytes(self, grid: Grid, working: int) -> int:
        """Return the size of what a tile carries on."""
        if self.keeps is None:
            return 0
        return math.prod(self.keeps.shape(grid.largest)) * working

    def rehearse(self, walls: bool) -> None:
        """Let every operator take one cycle on a few cells, which compiles its kernels or loads them."""
        legs = [replace(leg.stand_in(), cycles=leg.cycles[:1], first=0, last=True) for leg in self.legs]
        block = advance(self.inputs.few_cells(self.frames, walls), legs)
        for statistic in replace(self, legs=tuple(legs)).statistics.values():
            statistic.measure(block, (slice(None),) * len(self.frames.spatial))

    def compute(self, window: Window) -> Done:
        """Return the tile after the batch; frames are read one by one, and given up as soon as they are a block."""
        frames = list(self.frames.each(extent(window.write)))
        if len(frames) == 1:
            return self._frame(window)
        parts = ((index, self._frame(one_frame(window, index))) for index in frames)
        return self._joined(window, parts)

    def _joined(self, window: Window, parts: Iterator[tuple[Any, Done]]) -> Done:
        """Return frames as one tile."""
        values, carried = np.empty(extent(window.write), self.dtype), None
        tallies: dict[str, Tally] = {}
        read_bytes = 0
        for index, done in parts:
            values[index] = done.values.reshape(values[index].shape)  # type: ignore[union-attr]
            merge_tallies(self.statistics, tallies, done.tallies)
            read_bytes += done.read_bytes
            if done.carried is not None:
                assert self.keeps is not None
                if carried is None:
                    carried = np.empty(self.keeps.shape(extent(window.write)), done.carried.dtype)
                place = (slice(None), *(index[axis] for axis in self.keeps.along))
                carried[place] = done.carried.reshape(carried[place].shape)
        return Done(values, tallies, read_bytes, carried)

    def _frame(self, window: Window) -> Done:
        """Return one frame of the tile after the batch."""
        block, read_bytes = self.inputs.block(self.frames, window)
        advance(block, self.legs)
        keep = self.frames.spatial_part(window.keep)
        tallies = {name: s.measure(block, keep) for name, s in self.statistics.items()}
        carried = None
        if self.last:
            values = self._finished(block, window, keep)
        else:
            state = self._given_back(block, window, keep)
            channels = len(block.storage)
            values, carried = state[:channels], state[channels:] if self.keeps else None
        block.give_up(values)
        shape = extent(window.write)
        return Done(values.reshape(shape), tallies, read_bytes, self._shaped(carried, window))

    def _shaped(self, carried: NDArray[Any] | None, window: Window) -> NDArray[Any] | None:
        if carried is None or self.keeps is None:
            return None
        return carried.reshape(self.keeps.shape(extent(window.write)))

    def _given_back(self, block: Block, window: Window, keep: tuple[slice, ...]) -> NDArray[Any]:
        """Return the kept state, with what the step began with beyond its mask."""
        state = block.kept(keep)
        if self.base is None or block.valid is None or block.valid[keep].all():
            return state
        before = self.base.floats(self.frames, self._place(window))
        if len(before) == len(state):
            walls = ~block.valid[keep]
            state[:, walls] = before[:, walls]
        return state

    def _finished(self, block: Block, window: Window, keep: tuple[slice, ...]) -> NDArray[Any]:
        """Return the kept part as the result's type, with the source's own pixels where walls are."""
        assert self.original is not None
        if block.valid is None or block.valid[keep].all():
            return finish_image(block, block.u, self.dtype, self.frames.nodata, keep)
        # Read again, as few tiles need it.
        original = self.original.fields(self.frames, self._place(window))
        if self.base is not None:
            state = self._given_back(block, window, keep)
            block, keep = make_block(state, self.frames.spacing), (slice(None),) * len(keep)
        return finish_image(block, original, self.dtype, self.frames.nodata, keep)

    def _place(self, window: Window) -> Region:
        """Return where in the image the tile lies."""
        return window.write if self.roi is None else shifted(window.write, self.roi)


def _arrays(leg: Leg, ndim: int, channels: int) -> tuple[float, ...]:
    """Return what a leg holds beside the state: arrays of one channel's size."""
    operator = leg.operator
    more = max(0, result_channels([leg], channels) - channels)
    inertial = any(cycle.inertial for cycle in leg.cycles)
    return (
        operator.extra_arrays(ndim, inertial, channels),
        operator.setup_arrays(ndim, channels),
        operator.carried_arrays(ndim, channels),
        more,
    )
