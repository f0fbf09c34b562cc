"""Take a batch of time steps on a tile and its halo, and keep the tile."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import cast_all, give_back, valid_cells, working_dtype
from diffusion_ops.blocks.spare import keep_state, keep_window, window_memory
from diffusion_ops.blocks.statistic import Reduction, Statistic, Tally
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg, total_halo
from diffusion_ops.evolution.reach import chained
from diffusion_ops.evolution.refreshed import Refreshed, named_after
from pipelines.image.frames import Frames
from pipelines.image.window import (
    Grid,
    Region,
    Window,
    extent,
    grown_extent,
    one_frame,
    shifted,
    shrinking_cells,
    window_of,
)
from pipelines.plan.batch_memory import BatchMemory
from pipelines.plan.batches import Batches, EnergyCheck
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, merge_tallies

ENERGY, NUMBERS = "energy", "numbers"
"""Names of what tiles tally after a batch: the energy, or numbers that the operator needs anew."""


@KINDS.register("evolve")
@dataclass(frozen=True)
class Evolve(ChainWork):
    """Carry a tile through a batch of steps.

    Between batches the state is stored as floats, with NaN at invalid pixels; the last batch gives these the values of
    the source and casts to the result's type.

    Attributes
    ----------
    inputs : Inputs
    target : ZarrPixels
    frames : Frames
    legs : tuple of Leg
        Legs of this batch; a task has no statistics left in them.
    positions : tuple of int
        Positions of their operators among the steps.
    dtype : numpy dtype
        Type of the written pixels.
    image_shape : tuple of int
        Shape of the whole image that is read.
    keeps : Carried or None
        Arrays that are carried to the next batch.
    base : Reading or None
        Image whose values cells outside a mask of the step get at its end.
    original : Reading or None
        Source, or fill value, for invalid pixels; None where the batch ends in a state.
    check : EnergyCheck or None
        Check of the energy of the last operator after this batch.
    refreshes : bool
        True where the numbers that the last operator needs anew are measured after this batch.
    roi : tuple of slice or None
        Region that the target holds; tiles are then tiles of that region, and read beyond it.
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
    refreshes: bool = False
    roi: Region | None = None

    is_pass = keeps_memory = True
    sections = ("energies", "stopped", "statistics")

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the passes of a chain, and the stages that measure its statistics."""
        return Batches(request, cls).lay_out()

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The state, its guide and mask, and the images whose values cells get back."""
        others = tuple(r.pixels for r in (self.base, self.original) if r is not None)
        return self.inputs.sources + others

    @property
    def writes(self) -> ZarrPixels:
        """The next state, or the result."""
        return self.target

    @property
    def carries(self) -> Carried | None:
        """The arrays that are carried to the next batch."""
        return self.keeps

    @property
    def statistics(self) -> Mapping[str, Reduction]:
        """The energy or the numbers that the operator needs anew, where they are measured."""
        energy = self.legs[-1].operator.energy() if self.check is not None else None
        numbers = self.legs[-1].operator.refreshed() if self.refreshes else None
        return {name: one for name, one in ((ENERGY, energy), (NUMBERS, numbers)) if one is not None}

    @property
    def is_state(self) -> bool:
        """True where the batch ends in a state."""
        return not self.last

    def moved(self, pixels: Pixels, carried: Carried | None) -> Evolve:
        """Return the work with the state read from other arrays."""
        return replace(self, inputs=self.inputs.moved(pixels, carried))

    def conclude(self, told: Told) -> Conclusion:
        """Return the energy where it was measured; skip the other steps where its fall is below the tolerance."""
        check, statistics = self.check, self.statistics
        if isinstance(refreshed := statistics.get(NUMBERS), Refreshed):
            leg = self.legs[-1]
            numbers = named_after(refreshed.numbers(told.tallies[NUMBERS]), leg.first + leg.steps)
            return Conclusion(numbers, bound={self.positions[-1]: numbers})
        if check is None or not isinstance(measured := statistics.get(ENERGY), Statistic):
            return Conclusion()
        energy = measured.value(told.tallies[ENERGY])
        before = None if check.before is None else told.earlier[check.before].values[ENERGY]
        if before is None or check.tolerance is None or before - energy >= check.tolerance * abs(before):
            return Conclusion({ENERGY: energy})
        skipped = tuple(range(check.number + 1, check.closing))
        return Conclusion({ENERGY: energy}, skipped=skipped, reader=check.closing)

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the numbers, or the energy and the number of steps where the operator stopped early."""
        if concluded is not None and self.refreshes:
            values = dict(concluded.values)
            return {"statistics": {"title": title, "position": self.positions[-1], "values": values}}
        if concluded is None or self.check is None:
            return {}
        at = {"position": self.check.position, "steps": self.check.steps}
        found = {"energies": {**at, "energy": concluded.values[ENERGY]}}
        return found if concluded.reader is None else {**found, "stopped": at}

    @property
    def last(self) -> bool:
        """True where the batch ends in a result."""
        return self.original is not None

    @functools.cached_property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        spacing = self.frames.spacing
        after = [statistic.radius(spacing) for statistic in self.statistics.values()]
        return self.frames.on_axes(chained([total_halo(self.legs, spacing), *after], len(spacing)))

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Evolve:
        """Return the work with statistics replaced by their values, in its operators and in those of its inputs."""
        pairs = zip(self.legs, self.positions, strict=True)
        legs = tuple(leg.bind(values.get(position, {})) for leg, position in pairs)
        return replace(self, legs=legs, inputs=self.inputs.bind(values))

    def window(self, region: Region) -> Window:
        """Return the window of a region of the target: the region with the halo of the batch."""
        inside = region if self.roi is None else shifted(region, self.roi)
        return replace(window_of(inside, self.image_shape, self.halo), write=region)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost."""
        stored = self.inputs.image.dtype
        working, ndim = working_dtype(stored).itemsize, len(self.frames.spatial)
        channels = self.inputs.image.channels
        carried = 0 if self.inputs.carried is None else self.inputs.carried.count
        guide = 0 if self.inputs.guide is None else self.inputs.guide.channels
        memory, spare = self._memory(grid)
        total = math.prod(grid.shape)
        steps = sum(leg.steps for leg in self.legs)
        ratio = shrinking_cells(grid, self.halo) / math.prod(grid.largest)
        paces = ((leg.steps, leg.operator.pace(ndim, channels)) for leg in self.legs)
        seconds = sum(total * ratio * count / pace for count, pace in paces)
        per_cell = stored.itemsize + working * (carried + guide) / max(1, channels)
        read = int(self.inputs.decoded_cells(self.frames, grid, self.halo) * per_cell)
        written = total * self.dtype.itemsize + len(grid) * self._kept_bytes(grid, working)
        return Cost(memory, read, written, total * steps, total * steps * ratio, seconds, spare)

    def _memory(self, grid: Grid) -> tuple[int, int]:
        """Return the largest memory of a task, and what its thread keeps for the next one."""
        _, frame = self.frames.split_cells(grid, self.halo)
        frames = len(list(self.frames.each(grid.largest)))
        kept = self._kept_bytes(grid, working_dtype(self.inputs.image.dtype).itemsize)
        done = math.prod(grid.largest) * self.dtype.itemsize + kept
        sides = grid.largest, grown_extent(grid, self.halo)
        rows, all_rows = (self.frames.spatial_part(some)[0] for some in sides)
        given = self._given_bytes(math.prod(grid.largest) // frames, rows)
        memory = self._batch_memory(all_rows)
        largest = memory.largest(frame, given, done, frames, self.keeps_window)
        return largest, memory.spare(frame, done, frames, self.keeps_window)

    @functools.cached_property
    def keeps_window(self) -> bool:
        """Whether the memory of pixels as read, or of the result before, is kept while a batch is computed.

        It is, where the largest memory of a task is another one anyway.
        """
        if self.inputs.carried is not None:
            return False
        cells, rows = 1 << 24, 1 << 12
        done = cells * self.inputs.image.channels * self.dtype.itemsize
        given, memory = self._given_bytes(cells, rows), self._batch_memory(rows)
        without, kept = (memory.largest(cells, given, done, 1, keeps) for keeps in (False, True))
        return kept == without

    def _batch_memory(self, rows: int) -> BatchMemory:
        """Return the numbers of a window of so many rows (planes of a volume)."""
        ndim, channels = len(self.frames.spatial), self.inputs.image.channels
        measured = max((s.extra_arrays(ndim, channels) for s in self.statistics.values()), default=0.0)
        mask = self.inputs.mask
        part = 1.0 if mask is None else mask.rows_at_once(self.frames, rows) / rows
        return BatchMemory(self.inputs, self.legs, ndim, self._result_in_place, measured, part)

    @property
    def _result_in_place(self) -> bool:
        """Whether the kept part of the block is written itself: nothing is converted, joined or turned round."""
        as_computed = self.dtype == working_dtype(self.inputs.image.dtype)
        return (
            as_computed
            and self.base is None
            and self.keeps is None
            and self.target.axes == self.target.canonical
        )

    def _given_bytes(self, cells: int, rows: int) -> int:
        """Return the bytes of what invalid cells of a frame get back: values of the source and of the first state."""
        given, channels = 0, self.inputs.image.channels
        if self.original is not None and self.inputs.may_have_walls:
            part = math.ceil(cells * self.original.rows_at_once(self.frames, rows) / rows)
            given += part * self.original.channels * self.original.stored_itemsize
            given += self.original.pixels.decoding_bytes
        if self.base is not None:
            # The state, which may be the result, with a part of the values of the beginning.
            working = working_dtype(self.inputs.image.dtype)
            part = math.ceil(cells * self.base.rows_at_once(self.frames, rows) / rows)
            given += part * self.base.channels * (self.base.dtype.itemsize + working.itemsize + 2)
            given += cells * ((self.dtype != working) * channels * working.itemsize + 2)
        return given

    def _kept_bytes(self, grid: Grid, working: int) -> int:
        """Return the bytes of the arrays that a tile carries to the next batch."""
        if self.keeps is None:
            return 0
        return math.prod(self.keeps.shape(grid.largest)) * working

    @property
    def kernels_bytes(self) -> int:
        """Memory of the kernels, where an operator has some, or the exact sums of a statistic are compiled."""
        compiled = bool(self.statistics) or any(leg.operator.compiles for leg in self.legs)
        return super().kernels_bytes if compiled else 0

    @property
    def compiled_for(self) -> frozenset[str]:
        """The operators that have kernels."""
        return frozenset(type(leg.operator).__name__ for leg in self.legs if leg.operator.compiles)

    @property
    def may_have_walls(self) -> bool:
        """Whether what it reads may have invalid pixels."""
        return self.inputs.may_have_walls

    def rehearse(self, walls: bool) -> None:
        """Let every operator take one cycle on a few cells, which compiles its kernels or loads them."""
        legs = [replace(leg.stand_in(), cycles=leg.cycles[:1], first=0) for leg in self.legs]
        block = advance(self.inputs.few_cells(self.frames, walls), legs)
        for statistic in replace(self, legs=tuple(legs)).statistics.values():
            statistic.measure(block, (slice(None),) * len(self.frames.spatial))

    def compute(self, window: Window) -> Done:
        """Return the tile after the batch; its frames are read and computed one by one."""
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
            assert done.values is not None
            values[index] = done.values.reshape(values[index].shape)
            if done.carried is None:
                self.keep_memory(done.values)
            merge_tallies(self.statistics, tallies, done.tallies)
            read_bytes += done.read_bytes
            if done.carried is not None:
                assert self.keeps is not None
                if carried is None:
                    carried = np.empty(self.keeps.shape(extent(window.write)), done.carried.dtype)
                part = (slice(None), *(index[axis] for axis in self.keeps.along))
                carried[part] = done.carried.reshape(carried[part].shape)
        return Done(values, tallies, read_bytes, carried)

    def _frame(self, window: Window) -> Done:
        """Return one frame of the tile after the batch."""
        block, read_bytes = self.inputs.block(self.frames, window, self.keeps_window)
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
        block.release(values)
        shape = extent(window.write)
        return Done(values.reshape(shape), tallies, read_bytes, self._shaped(carried, window))

    def keep_memory(self, values: NDArray[Any]) -> None:
        """Keep the memory of what is written: of the block, or of windows."""
        (keep_state if self._result_in_place else keep_window)(values)

    def _shaped(self, carried: NDArray[Any] | None, window: Window) -> NDArray[Any] | None:
        if carried is None or self.keeps is None:
            return None
        return carried.reshape(self.keeps.shape(extent(window.write)))

    def _given_back(self, block: Block, window: Window, keep: tuple[slice, ...]) -> NDArray[Any]:
        """Return the kept state; cells outside the step's mask get the values of `base`."""
        state = block.kept(keep, window_memory, self._result_in_place)
        if self.base is None or block.valid is None or block.valid[keep].all():
            return state
        walls = ~block.valid[keep]
        for rows, region in self.base.parts(self.frames, self._image_region(window)):
            if walls[rows].any():
                np.copyto(state[:, rows], self.base.floats(self.frames, region), where=walls[rows])
        return state

    def _finished(self, block: Block, window: Window, keep: tuple[slice, ...]) -> NDArray[Any]:
        """Return the kept part as the result's type, with the source's own pixels where walls are."""
        assert self.original is not None
        state, valid = block.u[(slice(None), *keep)], None if block.valid is None else block.valid[keep]
        nodata, in_place = self.original.nodata, self._result_in_place
        if self.base is not None and valid is not None and not valid.all():
            state, in_place = self._given_back(block, window, keep), True
            valid = valid_cells(state)
            if valid is not None:
                np.copyto(state, 0, where=~valid)
        image = cast_all(state, self.dtype, nodata, window_memory, in_place)
        if valid is not None and not valid.all():
            self._put_back(image, valid, window)
        return image

    def _put_back(self, image: NDArray[Any], valid: NDArray[np.bool_], window: Window) -> None:
        """Give invalid cells their values of the source, which is read again in parts, as few cells need it."""
        assert self.original is not None
        for rows, region in self.original.parts(self.frames, self._image_region(window)):
            if not valid[rows].all():
                before = self.original.fields(self.frames, region)
                give_back(image[:, rows], before, valid[rows], self.original.nodata)

    def _image_region(self, window: Window) -> Region:
        """Return the region of the tile in the image."""
        return window.write if self.roi is None else shifted(window.write, self.roi)
