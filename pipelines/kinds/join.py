"""Keep weak edges that hang together with strong ones over the whole image: label tiles, join labels, keep."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import finish_image
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.containers.hysteresis import Sides, components, edges, kept_components, sides
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.work import Cost, Done, Frames, Work

JOIN_RATE = 3.0e7
"""Values per second of one core that are labelled."""

_BYTES = 40
"""Of a cell while a tile is labelled: classes, labels, the first cell of each."""


@dataclass(frozen=True)
class Components(Work):
    """Tell which components of edges touch the sides of a tile, and which of these are strong.

    The tally has, for every cell of such a component on a side, its number in the image as key and the component's as
    count; and for every strong one, its number below zero. A component's number is that of its first cell, plus 1.

    Attributes
    ----------
    reads : Reading
        Classes: 1 weak, 2 strong.
    frames : Frames
    kept : str
        File for the numbers of components to keep, once all tiles have told.
    """

    reads: Reading
    frames: Frames
    kept: str

    collects = True

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The classes."""
        return (self.reads.pixels,)

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the classes and what labelling holds beside them."""
        total = math.prod(grid.shape)
        memory = math.prod(grid.largest) * _BYTES
        return Cost(memory, total * self.reads.dtype.itemsize, 0, seconds=total / JOIN_RATE)

    def compute(self, window: Window) -> Done:
        """Return what touches the sides of the tile."""
        tally, read_bytes = Tally(), 0
        for part, classes, ids in _tile_components(self.reads, self.frames, window):
            told = sides(
                classes, ids, _origin(self.frames, part), self.frames.spatial_part(self.frames.shape)
            )
            keys = np.concatenate([-told.strong, told.cells + _before(self.frames, part)])
            counts = np.concatenate([np.ones(len(told.strong), np.int64), told.ids])
            tally = tally + Tally(keys, counts)
            read_bytes += classes.nbytes
        return Done(None, {"components": tally}, read_bytes)


@dataclass(frozen=True)
class Join(Work):
    """Keep a tile's strong edges and the weak ones that are connected with a strong one: 1 there, 0 elsewhere.

    Attributes
    ----------
    reads : Reading
    frames : Frames
    kept : str
        File with the numbers of components that touch sides of their tiles and are to be kept, in order.
    target : ZarrPixels
    dtype : numpy dtype
    original : Reading or None
        The source, where the target is a result.
    """

    reads: Reading
    frames: Frames
    kept: str
    target: ZarrPixels
    dtype: np.dtype[Any]
    original: Reading | None = None

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The classes, and the source."""
        original = () if self.original is None else (self.original.pixels,)
        return (self.reads.pixels, *original)

    @property
    def writes(self) -> ZarrPixels:
        """The edges."""
        return self.target

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return what labelling holds, and the result."""
        total, item = math.prod(grid.shape), self.dtype.itemsize
        memory = math.prod(grid.largest) * (_BYTES + 2 * item)
        return Cost(memory, total * self.reads.dtype.itemsize, total * item, seconds=total / JOIN_RATE)

    def compute(self, window: Window) -> Done:
        """Return the edges of the tile."""
        values, read_bytes = np.empty(extent(window.write), self.dtype), 0
        kept = _read_ids(self.kept, Path(self.kept).stat().st_mtime_ns)
        parts = _tile_components(self.reads, self.frames, window)
        for index, (part, classes, ids) in zip(self.frames.each(values.shape), parts, strict=True):
            done = self._finished(edges(classes, ids, kept), ~np.isnan(classes), part.write)
            values[index] = done.reshape(values[index].shape)
            read_bytes += classes.nbytes
        return Done(values, read_bytes=read_bytes)

    def _finished(self, found: NDArray[Any], valid: NDArray[Any], part: Region) -> NDArray[Any]:
        state = found[None].astype(self.reads.dtype)
        if self.original is None:
            state[:, ~valid] = np.nan
            return state
        block = Block.from_image(state, self.frames.spacing, valid)
        original = self.original.fields(self.frames, part)
        return finish_image(block, original, self.dtype, self.frames.nodata)


def write_kept(path: str, tallies: Sequence[Tally], frames: Frames) -> None:
    """Join what all tiles told, and write the numbers of components to keep."""
    loose = math.prod(n for a, n in zip(frames.axes, frames.shape, strict=True) if a not in frames.together)
    every = (2 * loose, *frames.spatial_part(frames.shape))
    keys = np.concatenate([tally.keys for tally in tallies])
    counts = np.concatenate([tally.counts for tally in tallies])
    outer = keys >= 0
    kept = kept_components([Sides(keys[outer], counts[outer], -keys[~outer])], every)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{path}.tmp.npy")
    np.save(temporary, kept)
    temporary.replace(path)


@functools.lru_cache(maxsize=4)
def _read_ids(path: str, _changed: int) -> NDArray[np.int64]:
    ids: NDArray[np.int64] = np.load(path, mmap_mode="r")
    return ids


def _tile_components(
    reads: Reading, frames: Frames, window: Window
) -> Iterator[tuple[Window, NDArray[Any], NDArray[np.int64]]]:
    """Yield every frame of a tile: its window, its classes, and its components."""
    for index in frames.each(extent(window.write)):
        part = one_frame(window, index)
        (classes,) = reads.fields(frames, part.write)
        ids = components(classes, _origin(frames, part), frames.spatial_part(frames.shape))
        yield part, classes, np.where(ids > 0, ids + _before(frames, part), 0)


def _origin(frames: Frames, part: Window) -> tuple[int, ...]:
    return tuple(s.start for s in frames.spatial_part(part.write))


def _before(frames: Frames, part: Window) -> int:
    """Return the number of the first cell of a frame; an empty one lies between any two, so that none touch."""
    cells: int = math.prod(frames.spatial_part(frames.shape))
    return 2 * frames.number(part) * cells
