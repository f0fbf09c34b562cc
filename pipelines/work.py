"""The kinds of work: what a task does to one tile, as a pure function of the stores."""

from __future__ import annotations

import math
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.block import Block
from diffusion_ops.fields import make_block
from diffusion_ops.statistic import Tally
from pipelines.memory import peak_memory
from pipelines.pixels import Pixels, ZarrPixels
from pipelines.window import Grid, Window, grown_extent


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


def checksum(values: NDArray[Any]) -> int:
    """Return the CRC-32 of pixels in canonical order, native bytes."""
    return zlib.crc32(np.ascontiguousarray(values).data.cast("B"))


@dataclass(frozen=True)
class Frames:
    """How a window of the image becomes blocks: which axes diffuse together, and how far apart cells are.

    Attributes
    ----------
    axes : str
        Canonical axes of the image.
    spatial : str
        Those that diffuse together, "yx" or "zyx".
    spacing : tuple of float
        Per spatial axis.
    joint : bool
        Whether channels are one block with a shared conductance.
    nodata : float or None
        As in the source.
    """

    axes: str
    spatial: str
    spacing: tuple[float, ...]
    joint: bool = True
    nodata: float | None = None

    @property
    def together(self) -> str:
        """Axes of one block, in canonical order."""
        return "".join(a for a in self.axes if a in self.spatial or (a == "c" and self.joint))

    def each(self, shape: tuple[int, ...]) -> Iterator[tuple[int | slice, ...]]:
        """Yield the index of every frame of a window: all of the axes that belong together, one of the others."""
        loose = [a for a in self.axes if a not in self.together]
        for place in np.ndindex(*(shape[self.axes.index(a)] for a in loose)):
            yield tuple(slice(None) if a in self.together else place[loose.index(a)] for a in self.axes)

    def fields(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return a window that holds one frame as (channels, *spatial)."""
        size = dict(zip(self.axes, frame.shape, strict=True))
        return frame.reshape(-1, *(size[a] for a in self.spatial))

    def spatial_part(self, region: Any) -> Any:
        """Return the entries of the spatial axes of something per axis."""
        return tuple(region[self.axes.index(a)] for a in self.spatial)

    def on_axes(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Return something per spatial axis as per axis of the image, 0 along the others."""
        return tuple(spatial[self.spatial.index(a)] if a in self.spatial else 0 for a in self.axes)

    def split_cells(self, grid: Grid, halo: tuple[int, ...]) -> tuple[int, int]:
        """Return (channels, cells per channel) of one block of the largest window."""
        size = dict(zip(self.axes, grown_extent(grid, halo), strict=True))
        channels = size["c"] if "c" in self.together else 1
        return channels, math.prod(size[a] for a in self.spatial)

    def block(self, frame: NDArray[Any], window: Window, nodata: float | None) -> Block:
        """Return a frame of a window, as (channels, *spatial), as a block."""
        sides = self.spatial_part(window.open_sides)
        return make_block(frame, self.spacing, nodata, open_sides=sides)


class Work(ABC):
    """One kind of work on one tile; may be done again at any time, and gives the same bytes."""

    reads: Pixels
    read_dtype: np.dtype[Any]

    @property
    def writes(self) -> ZarrPixels | None:
        """Where the tile goes; None for work whose result is a tally."""
        return None

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Return what the work takes over a grid."""

    @abstractmethod
    def window(self, grid: Grid, tile: int) -> Window:
        """Return what a tile reads, in the coordinates of what it reads from, and writes."""

    @abstractmethod
    def compute(self, window: Window) -> tuple[NDArray[Any] | None, Mapping[str, Tally], int]:
        """Return the pixels to write, the tallies, and the bytes read."""

    def perform(self, grid: Grid, tile: int) -> Outcome:
        """Do a tile: read, compute, write whole chunks."""
        start = time.perf_counter()
        window = self.window(grid, tile)
        values, tallies, read_bytes = self.compute(window)
        crc, written = 0, 0
        if values is not None and self.writes is not None:
            self.writes.write(window.write, values)
            crc, written = checksum(values), values.nbytes
        memory, process = peak_memory()
        return Outcome(crc, tallies, read_bytes, written, time.perf_counter() - start, memory, process)
