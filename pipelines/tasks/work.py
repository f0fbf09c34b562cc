"""Define a kind of work: what a task does to one tile, its halo and cost, and what follows from a complete stage."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.spare import keep_window, release_spare
from diffusion_ops.blocks.statistic import Reduction, Tally
from diffusion_ops.registry import Registry
from pipelines.image.window import Grid, Region, Window
from pipelines.tasks.memory import KERNELS_BYTES, peak_memory
from pipelines.tasks.pixels import ENCODING_BYTES, Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done, NewArray, Outcome, checksum


@dataclass(frozen=True)
class Told:
    """All that the tiles of a complete stage have told.

    Attributes
    ----------
    tallies : mapping
        Sums of the tiles' tallies, per name.
    each : tuple of Tally
        Tallies one by one, where the kind of work collects them.
    earlier : mapping
        Conclusions of the stages before it, by number.
    visits : ndarray or None
        Number of visits of each tile of a worklist.
    """

    tallies: Mapping[str, Tally]
    each: tuple[Tally, ...] = ()
    earlier: Mapping[int, Conclusion] = field(default_factory=dict)
    visits: NDArray[np.uint32] | None = None


@dataclass(frozen=True)
class File:
    """A small array that tasks of later stages read.

    Attributes
    ----------
    path : str
        Path in the run's folder; the file is written once, complete or not at all.
    values : ndarray
    """

    path: str
    values: NDArray[np.int64]


@dataclass(frozen=True)
class Conclusion:
    """The consequences of a complete stage.

    Attributes
    ----------
    values : mapping
        Numbers for people, and for stages that conclude later.
    bound : mapping
        Values of an operator's statistics, per position of the operator.
    files : tuple of File
        Files that must be written before another stage continues.
    again : mapping
        Stages that are done for another round, by number, each with its new work.
    skipped : tuple of int
        Numbers of the stages that are not needed any more.
    reader : int or None
        Number of the stage that from now on reads the state that this stage has written.
    problem : str
        Reason why the run cannot continue, "" where it can: its result is not published.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    bound: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    again: Mapping[int, Work] = field(default_factory=dict)
    skipped: tuple[int, ...] = ()
    reader: int | None = None
    problem: str = ""


class Work(ABC):
    """One kind of work on one tile, which may be done again at any time and gives the same bytes.

    A kind is one file in `pipelines/kinds`, registered under its name, or a module that another package names as an
    entry point. An instance describes what one stage of a plan does to each of its tiles, in plain values that can be
    sent to any worker. The engine knows no kind: whatever differs between kinds is a method here.
    """

    dtype: np.dtype[Any]
    """Type of the written pixels."""
    is_pass: ClassVar[bool] = False
    """True where it takes time steps, so that a stage of it is one pass over the data."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Names of the lists in the report that its stages add to."""
    collects: ClassVar[bool] = False
    """True where tallies are kept one by one until the stage is complete, instead of added up."""
    merging: ClassVar[int] = 6
    """Memory of merging tallies and concluding from them, as a multiple of the tallies; 3 to 6 were measured."""
    keeps_memory: ClassVar[bool] = False
    """True where a task leaves the memory of its state and of what it wrote to the next task of its thread, which then
    asks for none."""
    visits_again: ClassVar[bool] = False
    """True for a worklist: its tiles are visited until none has to be visited again."""

    @classmethod
    def make(cls, **parts: Any) -> Work:
        """Return the work of a stage from its attributes by name, for callers that know only the name of the kind."""
        return cls(**parts)

    # ---- what it reads and writes

    @property
    @abstractmethod
    def sources(self) -> tuple[Pixels, ...]:
        """The pixels that it reads."""

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The Zarr arrays that it reads."""
        return tuple(array for pixels in self.sources for array in pixels.stored)

    @property
    def writes(self) -> ZarrPixels | None:
        """The array that the tile is written to; None for work whose result is a tally."""
        return None

    @property
    def carries(self) -> Carried | None:
        """The arrays that are carried to the next batch beside the tile, None without."""
        return None

    @property
    def is_state(self) -> bool:
        """True where it writes a state, which is removed once the passes after it have read it."""
        return False

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return the arrays that must exist before its first tile."""
        made = () if self.writes is None else (NewArray(self.writes, grid.shape, grid.tile, self.dtype),)
        if self.carries is None:
            return made
        shapes = (self.carries.shape(grid.shape), self.carries.shape(grid.tile))
        return (*made, NewArray(self.carries.pixels, *shapes, self.dtype))

    def moved(self, pixels: Pixels, carried: Carried | None) -> Work:
        """Return the work with the state read from other arrays."""
        raise TypeError(f"{type(self).__name__} does not read a state that could lie elsewhere.")

    def with_table(self, path: str) -> Work:
        """Return the work that also writes the table of what it finds."""
        raise TypeError(f"{type(self).__name__} makes no table.")

    # ---- numbers for the plan

    @property
    def codec_bytes(self) -> int:
        """Memory that decoding its sources, or encoding what it writes, takes beside the pixels."""
        encoding = 0 if self.writes is None else ENCODING_BYTES
        return max([encoding, *(pixels.decoding_bytes for pixels in self.sources)])

    @property
    def halo(self) -> tuple[int, ...] | None:
        """Cells read around a tile, per axis of the image; None for work without a halo."""
        return None

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Return the predicted cost of the work over a grid."""

    def told_bytes(self, grid: Grid) -> int:
        """Return how many bytes of tallies the driver is expected to hold at the end; 0 for next to nothing."""
        return 0

    @abstractmethod
    def window(self, region: Region) -> Window:
        """Return the window of a region of the target; what it reads is in the coordinates of the source pixels."""

    # ---- what depends on the whole image

    @property
    def statistics(self) -> Mapping[str, Reduction]:
        """The statistics that its tiles contribute to, by name."""
        return {}

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Work:
        """Return the work with statistics replaced by their values, given per position of an operator.

        Raises
        ------
        ValueError
            For a value that an operator refuses.
        """
        return self

    def conclude(self, told: Told) -> Conclusion:
        """Return the consequences of a complete stage; a pure function, because a resumed run calls it again."""
        return Conclusion()

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the entries of a stage in the report, by section; `concluded` is None while tiles of it are left."""
        return {}

    # ---- worklists

    def first_visits(self, grid: Grid) -> Mapping[int, float]:
        """Return the tiles that a worklist begins with, each with its urgency: the smallest number goes first."""
        return dict.fromkeys(range(len(grid)), 0.0)

    def next_visits(self, grid: Grid, tile: int, tallies: Mapping[str, Tally]) -> Mapping[int, float]:
        """Return the tiles that the tallies of a visit require to be visited again, each with its urgency."""
        return {}

    def at_visit(self, grid: Grid, tile: int, visits: NDArray[np.uint32]) -> Work:
        """Return the work of one visit, which may depend on how often its tile and the tiles around it were visited."""
        return self

    # ---- what a task does

    def rehearse(self, walls: bool) -> None:  # noqa: B027 (most kinds compile nothing)
        """Load or compile what its tasks will need, where pixels are invalid or where none is."""

    @property
    def may_have_walls(self) -> bool:
        """Whether there may be invalid pixels, which some kernels are compiled for once more."""
        return False

    @property
    def kernels_bytes(self) -> int:
        """Memory of its compiled kernels: the usual, where they are rehearsed, unless a kind knows better."""
        return 0 if type(self).rehearse is Work.rehearse else KERNELS_BYTES

    @property
    def compiled_for(self) -> frozenset[str]:
        """Names of operators that have kernels of their own among these: a process holds those of all stages."""
        return frozenset()

    @abstractmethod
    def compute(self, window: Window) -> Done:
        """Return the pixels to write, the tallies, and the bytes read."""

    def perform(self, grid: Grid, tile: int) -> Outcome:
        """Do a tile: read, compute, write whole chunks."""
        start = time.perf_counter()
        if not self.keeps_memory:
            release_spare()
        window = self.window(grid.region(tile))
        done = self.compute(window)
        crc, written = 0, 0
        if done.values is not None and self.writes is not None:
            self.writes.write(window.write, done.values)
            crc, written = checksum(done.values), done.values.nbytes
        if done.carried is not None and self.carries is not None:
            self.carries.pixels.write(self.carries.region(window.write), done.carried)
            crc, written = checksum(done.carried, crc), written + done.carried.nbytes
        if done.values is not None and self.keeps_memory:
            self.keep_memory(done.values)
        memory, process = peak_memory()
        return Outcome(
            crc, done.tallies, done.read_bytes, written, time.perf_counter() - start, memory, process
        )

    def keep_memory(self, values: NDArray[Any]) -> None:
        """Keep the memory of what is written for the next task of the thread."""
        keep_window(values)

    def stored_checksum(self, region: Region) -> int:
        """Return the checksum of a tile as it is stored, 0 for work that writes nothing."""
        if self.writes is None:
            return 0
        crc = checksum(self.writes.read(region))
        return checksum(self.carries.pixels.read(self.carries.region(region)), crc) if self.carries else crc


KINDS: Registry[type[Work]] = Registry("kind of work", "pipelines.kinds", "diffuse.kinds")


def merge_tallies(
    statistics: Mapping[str, Reduction], tallies: dict[str, Tally], more: Mapping[str, Tally]
) -> None:
    """Add tallies to those that are there, in place."""
    for name, tally in more.items():
        tallies[name] = statistics[name].merge(tallies[name], tally) if name in tallies else tally
