"""Read a window of an operator's inputs as a block: image, guide, mask and carried arrays."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from diffusion_ops.blocks.block import Block, Bools, allocate, block_memory
from diffusion_ops.blocks.fields import make_block, valid_cells, working_dtype
from diffusion_ops.blocks.spare import keep_window, release_window, window_memory
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, decoded_cells, extent
from pipelines.tasks.pixels import ConstantPixels, Pixels, ZarrPixels
from pipelines.tasks.values import Carried
from pipelines.tasks.work import Work

PARTS = 8
"""Number of parts in which values are read that few cells need."""


@dataclass(frozen=True)
class Reading:
    """Pixels with their dtype, nodata value and number of channels.

    Attributes
    ----------
    pixels : Pixels
    dtype : numpy dtype
    nodata : float or None
        Value that marks invalid pixels, as in the source; NaN always does.
    channels : int
        Number of channels of a frame.
    """

    pixels: Pixels
    dtype: np.dtype[Any]
    nodata: float | None = None
    channels: int = 1

    @property
    def stored_itemsize(self) -> int:
        """Bytes of a value while it is held as stored; 0 for one value everywhere."""
        return 0 if isinstance(self.pixels, ConstantPixels) else self.dtype.itemsize

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Reading:
        """Return the reading with statistics replaced by their values in the operators that compute its pixels."""
        return replace(self, pixels=self.pixels.bind(values))

    @property
    def reads_into(self) -> bool:
        """Whether a frame can be read into the memory of a block: nothing is converted, or copied by the format."""
        return self.pixels.reads_into and self.dtype == working_dtype(self.dtype)

    def fields(
        self, frames: Frames, region: Region, empty: Callable[..., NDArray[Any]] = window_memory
    ) -> NDArray[Any]:
        """Return one frame as (channels, *spatial), as stored; all of its channels where they are joint.

        `empty` makes an uninitialised array from its shape and dtype, for pixels that are read into one.
        """
        joint = slice(0, self.channels)
        every = (
            joint if a == "c" and a in frames.together else s
            for a, s in zip(frames.axes, region, strict=True)
        )
        return frames.fields(self.pixels.read_with(tuple(every), empty))

    def rows_at_once(self, frames: Frames, rows: int) -> int:
        """Return of how many rows a part of a frame is: about one of `PARTS`, but of whole chunks, decoded once."""
        whole = self.pixels.whole_along(frames.spatial[0])
        return min(rows, math.ceil(rows / PARTS / whole) * whole)

    def parts(self, frames: Frames, region: Region) -> Iterator[tuple[slice, Region]]:
        """Yield parts of a frame, of some rows (planes of a volume): their rows in the region, and their region."""
        axis = frames.axes.index(frames.spatial[0])
        start, rows = region[axis].start, region[axis].stop - region[axis].start
        step = self.rows_at_once(frames, rows)
        for first in range(0, rows, step):
            stop = min(first + step, rows)
            along = (slice(start + first, start + stop),)
            yield slice(first, stop), region[:axis] + along + region[axis + 1 :]

    def floats(self, frames: Frames, region: Region) -> NDArray[Any]:
        """Return one frame as (channels, *spatial) in floats, NaN in every channel where one is invalid."""
        return self.as_floats(self.fields(frames, region))

    def as_floats(self, stored: NDArray[Any], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return stored values of a frame as `floats` does, or in a dtype that holds them better."""
        floats = stored.astype(dtype or working_dtype(stored.dtype))
        valid = valid_cells(stored, self.nodata)
        if valid is not None:
            np.copyto(floats, np.nan, where=~valid)
        return floats

    def passable(self, frames: Frames, region: Region) -> Bools:
        """Return where one frame, taken as a mask, is not 0 and has a value, in every channel; it is read in parts."""
        found = np.empty(extent(frames.spatial_part(region)), np.bool_)
        for rows, part in self.parts(frames, region):
            stored = self.fields(frames, part)
            (stored != 0).all(axis=0, out=found[rows])
            valid = valid_cells(stored, self.nodata)
            if valid is not None:
                found[rows] &= valid
        return found


def constant(value: float, nodata: float | None = None) -> Reading:
    """Return an image that has one value everywhere."""
    return Reading(ConstantPixels(value), np.dtype(np.float64), nodata)


@dataclass(frozen=True)
class Inputs:
    """All that an operator reads.

    Attributes
    ----------
    image : Reading
        Source, or a state.
    guide : Reading or None
        Image whose structure the operator follows.
    mask : Reading or None
        Image that makes walls where it is 0 or invalid.
    carried : Carried or None
        Arrays that the operator carries beside the state.
    """

    image: Reading
    guide: Reading | None = None
    mask: Reading | None = None
    carried: Carried | None = None

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """All pixels that are read."""
        readings = (self.image, self.guide, self.mask, None)
        found = tuple(reading.pixels for reading in readings if reading is not None)
        return found if self.carried is None else (*found, self.carried.pixels)

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Inputs:
        """Return the inputs with statistics replaced by their values in the operators that compute them."""
        bound = {name: r.bind(values) for name in ("image", "guide", "mask") if (r := getattr(self, name))}
        return replace(self, **bound)

    def moved(self, pixels: Pixels, carried: Carried | None) -> Inputs:
        """Return the inputs with the state read from other arrays."""
        return replace(self, image=replace(self.image, pixels=pixels), carried=carried)

    def passable(self, frames: Frames, region: Region) -> Bools | None:
        """Return where the mask of one frame of a region lets something through; None for everywhere."""
        return None if self.mask is None else self.mask.passable(frames, region)

    def few_cells(self, frames: Frames, walls: bool) -> Block:
        """Return a small block of zeros of the same types and channels, to compile kernels with; ones are carried."""
        dtype, spatial = working_dtype(self.image.dtype), (2,) * len(frames.spatial)
        image = np.zeros((self.image.channels, *spatial), dtype)
        guide = None if self.guide is None else np.zeros((self.guide.channels, *spatial), dtype)
        mask = np.arange(image[0].size).reshape(spatial) > 0 if walls else None
        block = make_block(image, frames.spacing, mask=mask, guide=guide)
        if self.carried is not None:
            block.carried = allocate(self.carried.count, block.spatial, dtype)
            block.carried[...] = 1
        return block

    @property
    def in_place(self) -> bool:
        """Whether the image is read into the block itself."""
        return self.carried is None and self.image.reads_into

    @property
    def may_have_walls(self) -> bool:
        """Whether cells may be invalid."""
        image = self.image
        beside = self.guide is not None or self.mask is not None
        return beside or image.dtype.kind == "f" or image.nodata is not None

    def decoded_cells(self, frames: Frames, grid: Grid, halo: tuple[int, ...]) -> int:
        """Return the cells of the image that are decoded for the windows of all tiles."""
        chunks = tuple(self.image.pixels.whole_along(axis) for axis in frames.axes)
        return decoded_cells(grid, halo, chunks)

    def block_bytes(self, cells: int) -> int:
        """Return the bytes of a block of `cells` per channel, with its guide, carried arrays and walls."""
        arrays = self.image.channels + (0 if self.guide is None else self.guide.channels)
        arrays += 0 if self.carried is None else self.carried.count
        return cells * (arrays * working_dtype(self.image.dtype).itemsize + self.may_have_walls)

    def reading_bytes(self, cells: int, part: float = 1.0) -> int:
        """Return the largest memory while a block of `cells` per channel is read and made; see `loading_bytes`."""
        image, working = self.image, working_dtype(self.image.dtype).itemsize
        held = 0 if self.in_place else image.channels * image.dtype.itemsize
        if self.carried is not None:
            held = (image.channels + self.carried.count) * working
        if self.guide is not None:
            held += self.guide.channels * working_dtype(self.guide.dtype).itemsize
        # Where cells are valid: the mask, and the image's and the guide's walls.
        masks = self.mask is not None or self.guide is not None
        walls = self.may_have_walls and (masks or not self.in_place)
        made = self.block_bytes(cells) + cells * (held + walls + (self.mask is not None))
        return max(made, self.loading_bytes(cells, part))

    def loading_bytes(self, cells: int, part: float = 1.0) -> int:
        """Return the largest memory while the image, the guide and the mask are read, before a block is made.

        `part` is how much of a frame of the mask is read at a time.
        """
        image, working = self.image, working_dtype(self.image.dtype).itemsize
        first = held = image.channels * image.dtype.itemsize
        if self.carried is not None:
            held = (image.channels + self.carried.count) * working
            first += self.carried.count * working + held
        most = first
        if self.guide is not None:
            floats = self.guide.channels * working_dtype(self.guide.dtype).itemsize
            most = max(most, held + self.guide.channels * (self.guide.dtype.itemsize + 3) + floats)
            held += floats
        if self.mask is not None:
            read = self.mask.channels * (self.mask.dtype.itemsize + 1) + 2
            most = max(most, held + 1 + math.ceil(part * read))
        decoding = max(pixels.decoding_bytes for pixels in self.sources)
        return cells * most + decoding

    def block(self, frames: Frames, window: Window, keep_memory: bool = False) -> tuple[Block, int]:
        """Return a window of one frame as a block, and the bytes read for it.

        With `keep_memory` the thread keeps the memory of the pixels as they were read, for what it reads next.
        """
        if self.in_place and not keep_memory:
            release_window()
        image = self.image.fields(frames, window.read, block_memory if self.in_place else window_memory)
        read_bytes, count = image.nbytes, 0
        if self.carried is not None:
            region = self.carried.region(window.read)
            beside = self.carried.pixels.read(region).reshape(self.carried.count, *image.shape[1:])
            read_bytes, count = read_bytes + beside.nbytes, len(beside)
            image = np.concatenate([image, beside])
            del beside
        guide = None if self.guide is None else self.guide.floats(frames, window.read)
        mask = self.passable(frames, window.read)
        read_bytes += sum(0 if other is None else other.nbytes for other in (guide, mask))
        sides = frames.spatial_part(window.open_sides)
        nodata, in_place = self.image.nodata, self.in_place
        block = make_block(image, frames.spacing, nodata, mask, sides, guide, count, in_place)
        block.origin = tuple(s.start for s in frames.spatial_part(window.read))
        block.frame = frames.number(window)
        if keep_memory and not self.in_place:
            keep_window(image)
        return block, read_bytes


@dataclass(frozen=True)
class FloatPixels(Pixels):
    """Pixels as floats with NaN for walls, whatever their stored dtype."""

    reading: Reading
    frames: Frames

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The arrays that the pixels are read from."""
        return self.reading.pixels.stored

    @property
    def decoding_bytes(self) -> int:
        """What the stored pixels take."""
        return self.reading.pixels.decoding_bytes

    def read(self, region: Region) -> NDArray[Any]:
        """Return a region in floats."""
        shape = list(extent(region))
        if "c" in self.frames.together:
            shape[self.frames.axes.index("c")] = self.reading.channels
        values = np.empty(shape, working_dtype(self.reading.dtype))
        for index in self.frames.each(tuple(shape)):
            part = tuple(
                s if isinstance(i, slice) else slice(s.start + i, s.start + i + 1)
                for s, i in zip(region, index, strict=True)
            )
            values[index] = self.reading.floats(self.frames, part).reshape(values[index].shape)
        return values

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> FloatPixels:
        """Return the pixels with statistics replaced by their values."""
        return replace(self, reading=self.reading.bind(values))


@dataclass(frozen=True)
class ComputedPixels(Pixels):
    """Pixels that are computed when they are read: a step's result, or another level's."""

    work: Work

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The arrays that the work reads."""
        return self.work.stored

    @property
    def decoding_bytes(self) -> int:
        """What the work's own sources take, one after another."""
        return max((pixels.decoding_bytes for pixels in self.work.sources), default=0)

    def whole_along(self, axis: str) -> int:
        """Return more than any length where cells around a part would be computed for it once more."""
        return sys.maxsize if any(self.work.halo or ()) else 1

    def read(self, region: Region) -> NDArray[Any]:
        """Return a region of what the work would write."""
        values = self.work.compute(self.work.window(region)).values
        assert values is not None
        return values

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> ComputedPixels:
        """Return the pixels with statistics replaced by their values in the work."""
        return ComputedPixels(self.work.bind(values))
