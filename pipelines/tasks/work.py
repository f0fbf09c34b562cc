"""The kinds of work: what a task does to one tile, as a pure function of the stores."""

from __future__ import annotations

import math
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Statistic, Tally
from pipelines.image.window import Grid, Region, Window, grown_extent
from pipelines.tasks.memory import peak_memory
from pipelines.tasks.pixels import Pixels, ZarrPixels


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
    shape : tuple of int
        Of the image, per axis.
    """

    axes: str
    spatial: str
    spacing: tuple[float, ...]
    joint: bool = True
    nodata: float | None = None
    shape: tuple[int, ...] = ()

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

    def at(self, level: int) -> Frames:
        """Return the frames of a coarser level of the image: each halves all axes that diffuse together."""
        return replace(self, spacing=tuple(h * 2**level for h in self.spacing))

    def number(self, window: Window) -> int:
        """Return which frame of the image a window of one frame is of."""
        number = 0
        for a, s, n in zip(self.axes, window.read, self.shape, strict=True):
            number = number if a in self.together else number * n + s.start
        return number

    @property
    def carried_along(self) -> tuple[int, ...]:
        """The axes that arrays carried beside the state have: all but that of joint channels."""
        own = (a for a in self.axes if a in self.spatial or a not in self.together)
        return tuple(self.axes.index(a) for a in own)


class Work(ABC):
    """One kind of work on one tile; may be done again at any time, and gives the same bytes."""

    dtype: np.dtype[Any]
    """Of what is written."""
    collects: ClassVar[bool] = False
    """Whether what its tiles tell is kept apart until all have told it, instead of added up."""

    @property
    @abstractmethod
    def sources(self) -> tuple[Pixels, ...]:
        """All that it reads."""

    @property
    def writes(self) -> ZarrPixels | None:
        """Where the tile goes; None for work whose result is a tally."""
        return None

    @property
    def carries(self) -> Carried | None:
        """Where what goes on beside the tile goes."""
        return None

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """What its tiles contribute to."""
        return {}

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Work:
        """Return the work with numbers in the place of statistics, per position of an operator."""
        return self

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Return what the work takes over a grid."""

    @abstractmethod
    def window(self, region: Region) -> Window:
        """Return what a region of the target reads, in the coordinates of what it reads from, and writes."""

    @abstractmethod
    def compute(self, window: Window) -> Done:
        """Return the pixels to write, the tallies, and the bytes read."""

    def perform(self, grid: Grid, tile: int) -> Outcome:
        """Do a tile: read, compute, write whole chunks."""
        start = time.perf_counter()
        window = self.window(grid.region(tile))
        done = self.compute(window)
        crc, written = 0, 0
        if done.values is not None and self.writes is not None:
            self.writes.write(window.write, done.values)
            crc, written = checksum(done.values), done.values.nbytes
        if done.carried is not None and self.carries is not None:
            self.carries.pixels.write(self.carries.region(window.write), done.carried)
            crc, written = checksum(done.carried, crc), written + done.carried.nbytes
        memory, process = peak_memory()
        return Outcome(
            crc, done.tallies, done.read_bytes, written, time.perf_counter() - start, memory, process
        )

    def stored_checksum(self, region: Region) -> int:
        """Return the checksum of a tile as it lies in the stores, 0 for work that writes nothing."""
        if self.writes is None:
            return 0
        crc = checksum(self.writes.read(region))
        return checksum(self.carries.pixels.read(self.carries.region(region)), crc) if self.carries else crc


def merge_tallies(
    statistics: Mapping[str, Statistic], tallies: dict[str, Tally], more: Mapping[str, Tally]
) -> None:
    """Add what a part contributes to what is there."""
    for name, tally in more.items():
        tallies[name] = statistics[name].merge(tallies[name], tally) if name in tallies else tally
