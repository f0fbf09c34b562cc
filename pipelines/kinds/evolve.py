"""Carry tiles through a batch of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.advance import Leg, advance, total_halo
from diffusion_ops.fields import finish_image, working_dtype
from diffusion_ops.statistic import Tally
from pipelines.image import CANONICAL
from pipelines.pixels import Pixels, ZarrPixels
from pipelines.window import (
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
from pipelines.work import Cost, Frames, Work

_NOTHING_BEYOND = Window((), (), (), ((False, False),) * len(CANONICAL))


@dataclass(frozen=True)
class Evolve(Work):
    """Carry a tile through a batch of steps.

    Between batches the state is kept as floats, invalid pixels as NaN; the last batch gives them back what the source
    holds and casts to the result's type.

    Attributes
    ----------
    reads, target : Pixels, ZarrPixels
    read_dtype : numpy dtype
        Of what is read.
    frames : Frames
    legs : tuple of Leg
        Of this batch; without statistics left in them when a task performs it.
    original : Pixels
        The source.
    first, last : bool
        Whether the batch starts from the source, ends in the result.
    dtype : numpy dtype
        Of what is written.
    roi : tuple of slice or None
        Part of the image that the target holds; tiles then are tiles of that part, and read beyond it.
    image_shape : tuple of int
        Of the whole image, where there is such a part.
    """

    reads: Pixels
    read_dtype: np.dtype[Any]
    target: ZarrPixels
    frames: Frames
    legs: tuple[Leg, ...]
    original: Pixels
    first: bool
    last: bool
    dtype: np.dtype[Any]
    roi: Region | None = None
    image_shape: tuple[int, ...] = ()

    @property
    def writes(self) -> ZarrPixels:
        """The next state, or the result."""
        return self.target

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        return self.frames.on_axes(total_halo(self.legs, self.frames.spacing))

    def window(self, grid: Grid, tile: int) -> Window:
        """Return the tile with the halo of the batch."""
        if self.roi is None:
            return grid.window(tile, self.halo)
        inside = grid.region(tile)
        region = shifted(inside, self.roi)
        return replace(window_of(region, self.image_shape, self.halo), write=inside)

    def cost(self, grid: Grid) -> Cost:
        """Return the largest of the moments of a task: reading, stepping, finishing, writing."""
        cells = grown_cells(grid, self.halo)
        channels, frame = self.frames.split_cells(grid, self.halo)
        working = working_dtype(self.read_dtype).itemsize
        ndim = len(self.frames.spatial)
        extra = (
            max(
                leg.operator.extra_arrays(ndim, any(c.inertial for c in leg.cycles), channels)
                + leg.operator.setup_arrays(ndim, channels)
                for leg in self.legs
            )
            if self.legs
            else 0
        )
        kept = math.prod(grid.largest)
        block = frame * channels * working
        reading = frame * channels * self.read_dtype.itemsize + block + 2 * frame
        done = kept * self.dtype.itemsize
        several = done if len(list(self.frames.each(grid.largest))) > 1 else 0
        memory = (
            int(max(reading, block + frame * (extra * working + 1), block + done + kept, 2 * done)) + several
        )
        total = math.prod(grid.shape)
        steps = sum(cycle.steps for leg in self.legs for cycle in leg.cycles)
        ratio = shrinking_cells(grid, self.halo) / kept
        seconds = sum(
            total * ratio * sum(c.steps for c in leg.cycles) / leg.operator.pace(ndim, channels)
            for leg in self.legs
        )
        read = int(total * cells / kept) * self.read_dtype.itemsize
        return Cost(memory, read, total * self.dtype.itemsize, total * steps, total * steps * ratio, seconds)

    def rehearse(self) -> None:
        """Let every operator take one cycle on a few cells, which compiles its kernels or loads them."""
        if any(leg.operator.statistics() for leg in self.legs):
            return
        dtype = working_dtype(self.read_dtype)
        few = np.zeros((1,) + (2,) * len(self.frames.spatial), dtype)
        legs = [Leg(leg.operator, leg.cycles[:1]) for leg in self.legs]
        advance(self.frames.block(few, _NOTHING_BEYOND, None), legs)

    def compute(self, window: Window) -> tuple[NDArray[Any] | None, Mapping[str, Tally], int]:
        """Return the tile after the batch; frames are read one by one, and given up as soon as they are a block."""
        frames = list(self.frames.each(extent(window.write)))
        if len(frames) == 1:
            done, read_bytes = self._frame(window)
            return done.reshape(extent(window.write)), {}, read_bytes
        result, read_bytes = np.empty(extent(window.write), self.dtype), 0
        for index in frames:
            result[index], more = self._frame(one_frame(window, index))
            read_bytes += more
        return result, {}, read_bytes

    def _frame(self, window: Window) -> tuple[NDArray[Any], int]:
        """Return one frame of the tile after the batch, and the bytes read for it."""
        values = self.frames.fields(self.reads.read(window.read))
        read_bytes = values.nbytes
        block = self.frames.block(values, window, self.frames.nodata if self.first else None)
        del values
        if block.valid is None or block.valid.any():
            advance(block, self.legs)
        keep = self.frames.spatial_part(window.keep)
        walls = block.valid is not None and not block.valid[keep].all()
        if self.last:
            original = self._original(window) if walls else block.u
            done = finish_image(block, original, self.dtype, self.frames.nodata, keep)
        else:
            done = np.ascontiguousarray(block.u[(slice(None), *keep)])
            if block.valid is not None:
                done[:, ~block.valid[keep]] = np.nan
        block.give_up(done)
        return done if "c" in self.frames.together else done[0], read_bytes

    def _original(self, window: Window) -> NDArray[Any]:
        """Return the source's own pixels of the tile, to give invalid ones back; read again, as few tiles need it."""
        region = window.write if self.roi is None else shifted(window.write, self.roi)
        return self.frames.fields(self.original.read(region))
