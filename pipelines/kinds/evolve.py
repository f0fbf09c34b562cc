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
from pipelines.pixels import Pixels, ZarrPixels
from pipelines.window import Grid, Region, Window, extent, grown_cells, shrinking_cells, window_of
from pipelines.work import Cost, Frames, Work


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
        region = tuple(slice(s.start + r.start, s.stop + r.start) for s, r in zip(inside, self.roi, strict=True))
        return replace(window_of(region, self.image_shape, self.halo), write=inside)

    def cost(self, grid: Grid) -> Cost:
        """Return the window as stored, the block with all that its operators hold, and the result."""
        cells = grown_cells(grid, self.halo)
        channels, frame = self.frames.split_cells(grid, self.halo)
        working = working_dtype(self.read_dtype).itemsize
        ndim = len(self.frames.spatial)
        extra = max(
            leg.operator.extra_arrays(ndim, any(c.inertial for c in leg.cycles), channels)
            + leg.operator.setup_arrays(ndim, channels)
            for leg in self.legs
        )
        kept = math.prod(grid.largest)
        memory = cells * self.read_dtype.itemsize + int(frame * (working * (channels + extra) + 2))
        memory += kept * (2 * self.dtype.itemsize + working)
        total = math.prod(grid.shape)
        steps = sum(cycle.steps for leg in self.legs for cycle in leg.cycles)
        ratio = shrinking_cells(grid, self.halo) / kept
        seconds = sum(
            total * ratio * sum(c.steps for c in leg.cycles) / leg.operator.pace(ndim, channels) for leg in self.legs
        )
        read = int(total * cells / kept) * self.read_dtype.itemsize
        return Cost(memory, read, total * self.dtype.itemsize, total * steps, total * steps * ratio, seconds)

    def compute(self, window: Window) -> tuple[NDArray[Any] | None, Mapping[str, Tally], int]:
        """Return the tile after the batch."""
        values = self.reads.read(window.read)
        result = np.empty(extent(window.write), self.dtype)
        for index in self.frames.each(values.shape):
            result[index] = self._frame(values[index], index, window)
        return result, {}, values.nbytes

    def _frame(self, frame: NDArray[Any], index: tuple[int | slice, ...], window: Window) -> NDArray[Any]:
        """Return the kept part of one frame after the batch."""
        keep = self.frames.spatial_part(window.keep)
        block = self.frames.block(frame, window, self.frames.nodata if self.first else None)
        if block.valid is None or block.valid.any():
            advance(block, self.legs)
        if self.last:
            fields = self._original(frame, index, window, block)
            done = finish_image(block, fields, self.dtype, self.frames.nodata, keep)
        else:
            done = np.ascontiguousarray(block.u[(slice(None), *keep)])
            if block.valid is not None:
                done[:, ~block.valid[keep]] = np.nan
        return done if "c" in self.frames.together else done[0]

    def _original(
        self, frame: NDArray[Any], index: tuple[int | slice, ...], window: Window, block: Block
    ) -> NDArray[Any]:
        """Return the source's own pixels of the kept part; they are read again only where some must be given back."""
        keep = self.frames.spatial_part(window.keep)
        if self.first or block.valid is None or block.valid[keep].all():
            return self.frames.fields(frame)[(slice(None), *keep)]
        return self.frames.fields(self.original.read(window.write)[index])
