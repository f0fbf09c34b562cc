"""Plain values around a task: what it costs, what it makes of a window, what it tells the driver."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally
from pipelines.image.window import Region
from pipelines.tasks.pixels import ZarrPixels


@dataclass(frozen=True)
class Outcome:
    """What a task tells the driver; the pixels stay in the stores.

    Attributes
    ----------
    crc : int
        CRC-32 of the tile that was written, in canonical order; 0 where nothing was.
    tallies : mapping
        What a measured tile contributes, per parameter.
    read_bytes, written_bytes : int
    seconds : float
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
    """What a stage takes, predicted from numbers alone.

    Attributes
    ----------
    memory_bytes : int
        Of one task at its peak.
    read_bytes, written_bytes : int
        Of all tasks, uncompressed.
    cell_steps : int
        Values times steps that are kept.
    computed : float
        Values times steps that are computed, halos included.
    seconds : float
        Of computing on one core.
    """

    memory_bytes: int
    read_bytes: int
    written_bytes: int
    cell_steps: int = 0
    computed: float = 0.0
    seconds: float = 0.0


def checksum(values: NDArray[Any], before: int = 0) -> int:
    """Return the CRC-32 of pixels in canonical order, native bytes, after what came before."""
    return zlib.crc32(np.ascontiguousarray(values).data.cast("B"), before)


@dataclass(frozen=True)
class Carried:
    """Where what an operator carries beside the state lies between batches: arrays along a first axis of their own.

    Attributes
    ----------
    pixels : ZarrPixels
        Its first axis counts the arrays; the others are the image's, without channels that are joint.
    count : int
    along : tuple of int
        Which axes of the image the arrays have.
    """

    pixels: ZarrPixels
    count: int
    along: tuple[int, ...]

    def region(self, region: Region) -> Region:
        """Return the part of the arrays that belongs to a region of the image."""
        return (slice(0, self.count), *(region[axis] for axis in self.along))

    def shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the arrays for an image, or a tile of it."""
        return (self.count, *(image[axis] for axis in self.along))


@dataclass(frozen=True)
class NewArray:
    """An array to be laid out, with chunks that divide a tile.

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
    """What a task made of a window.

    Attributes
    ----------
    values : ndarray or None
        Pixels to write.
    tallies : mapping
        What it contributes to statistics.
    read_bytes : int
    carried : ndarray or None
        What goes on beside the pixels.
    """

    values: NDArray[Any] | None
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    read_bytes: int = 0
    carried: NDArray[Any] | None = None
