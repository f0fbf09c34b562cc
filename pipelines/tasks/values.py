"""Define the plain values around a task: its cost, its result for a window, its message to the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally
from pipelines.image.frames import Frames
from pipelines.image.window import Region
from pipelines.tasks.pixels import ZarrPixels

CHECKED_BYTES = 1 << 20
"""Bytes of rows that are copied at a time to be checked."""


@dataclass(frozen=True)
class Outcome:
    """The message of a task to the driver; the pixels stay in the stores.

    Attributes
    ----------
    crc : int
        CRC-32 of the written tile, in canonical order; 0 where nothing was written.
    tallies : mapping
        Contributions of the tile to statistics, per parameter.
    read_bytes, written_bytes : int
    seconds : float
        Time that the task took.
    memory_bytes : int
        Peak resident memory of the worker's process so far.
    process : int
    """

    crc: int = 0
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    read_bytes: int = 0
    written_bytes: int = 0
    seconds: float = 0.0
    memory_bytes: int = 0
    process: int = 0


@dataclass(frozen=True)
class Cost:
    """The cost of a stage, predicted from numbers alone.

    Attributes
    ----------
    memory_bytes : int
        Largest memory of one task, beside what its thread keeps from the task before.
    read_bytes, written_bytes : int
        Uncompressed bytes of all tasks.
    cell_steps : int
        Number of kept values times steps.
    computed : float
        Number of computed values times steps, halos included.
    seconds : float
        Time of computing on one core.
    kept_bytes : int
        Memory that the thread keeps for its next task; a part of `memory_bytes`.
    """

    memory_bytes: int
    read_bytes: int
    written_bytes: int
    cell_steps: int = 0
    computed: float = 0.0
    seconds: float = 0.0
    kept_bytes: int = 0


def checksum(values: NDArray[Any], before: int = 0) -> int:
    """Return the CRC-32 of pixels in canonical order, native bytes, which continues the CRC-32 `before`."""
    if values.ndim > 1 and not values.flags.c_contiguous:
        # Of a part of a larger array no copy is made but of some rows at a time.
        rows = max(1, CHECKED_BYTES * len(values) // values.nbytes) if values.nbytes else 1
        for start in range(0, len(values), rows):
            some = values[start : start + rows]
            some = some[0] if len(some) == 1 else np.ascontiguousarray(some)
            before = checksum(some, before)
        return before
    pixels: Any = np.ascontiguousarray(values).data.cast("B")
    # The same number as zlib's, 5 times as fast.
    return int(imagecodecs.deflate_crc32(pixels, before))


@dataclass(frozen=True)
class Carried:
    """Arrays that an operator carries from batch to batch beside the state, stacked along a first axis.

    Attributes
    ----------
    pixels : ZarrPixels
        Zarr array; the first axis counts the arrays, the others are the image's without joint channels.
    count : int
        Number of arrays.
    along : tuple of int
        Axes of the image that the arrays have.
    """

    pixels: ZarrPixels
    count: int
    along: tuple[int, ...]

    @classmethod
    def beside(cls, pixels: ZarrPixels, count: int, frames: Frames) -> Carried:
        """Return arrays, each of one number per pixel, beside an array of the image's channels."""
        along = frames.carried_along
        axes = "k" + "".join(frames.axes[axis] for axis in along)
        return cls(ZarrPixels(pixels.root, f"{pixels.path}-beside", axes, axes), count, along)

    def region(self, region: Region) -> Region:
        """Return the part of the arrays that belongs to a region of the image."""
        return (slice(0, self.count), *(region[axis] for axis in self.along))

    def shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the arrays for an image, or a tile of it."""
        return (self.count, *(image[axis] for axis in self.along))


@dataclass(frozen=True)
class NewArray:
    """An array to be created, with chunks that divide a tile.

    Attributes
    ----------
    pixels : ZarrPixels
    shape, tile : tuple of int
    dtype : numpy dtype
    """

    pixels: ZarrPixels
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Done:
    """The result of a task for a window.

    Attributes
    ----------
    values : ndarray or None
        Pixels to write.
    tallies : mapping
        Contributions to statistics.
    read_bytes : int
    carried : ndarray or None
        Arrays that are carried to the next batch.
    """

    values: NDArray[Any] | None
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    read_bytes: int = 0
    carried: NDArray[Any] | None = None
