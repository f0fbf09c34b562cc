"""The kinds of work: what a task does to one tile, as a pure function of the stores."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Statistic, Tally
from diffusion_ops.registry import Registry
from pipelines.image.window import Grid, Region, Window
from pipelines.tasks.memory import peak_memory
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done, NewArray, Outcome, checksum


@dataclass(frozen=True)
class Told:
    """What a complete stage has told.

    Attributes
    ----------
    tallies : mapping
        What its tiles contributed, added up, per name.
    each : tuple of Tally
        What they contributed one by one, where the kind of work collects.
    earlier : mapping
        What stages concluded before it, by number.
    visits : ndarray or None
        How often each tile of a worklist was visited.
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
        In the run's folder; it is written once, whole or not at all.
    values : ndarray
    """

    path: str
    values: NDArray[np.int64]


@dataclass(frozen=True)
class Conclusion:
    """What follows from a complete stage.

    Attributes
    ----------
    values : mapping
        Numbers for people, and for stages that conclude later.
    bound : mapping
        Numbers that take the place of an operator's statistics, per position of the operator.
    files : tuple of File
        What has to be written before another stage goes on.
    again : mapping
        Stages that are done once more, by number, each with its new work.
    skipped : tuple of int
        Stages that nobody needs any more.
    reader : int or None
        Stage that from now on reads the state that this one has written.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    bound: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    again: Mapping[int, Work] = field(default_factory=dict)
    skipped: tuple[int, ...] = ()
    reader: int | None = None


class Work(ABC):
    """One kind of work on one tile; may be done again at any time, and gives the same bytes.

    A kind is one file in `pipelines/kinds`, registered under its name, or a module that another package names as an
    entry point. An instance is what one stage of a plan does to each of its tiles, as plain values that travel to any
    worker. The engine knows no kind: whatever differs between kinds is a method here.
    """

    dtype: np.dtype[Any]
    """Of what is written."""
    is_pass: ClassVar[bool] = False
    """Whether it carries the image through steps, so that a stage of it is one pass over the data."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Lists of the report that its stages add to."""
    collects: ClassVar[bool] = False
    """Whether what its tiles tell is kept apart until all have told it, instead of added up."""
    visits_again: ClassVar[bool] = False
    """Whether its tiles are visited until none has a reason to be visited again: a worklist."""

    @classmethod
    def make(cls, **parts: Any) -> Work:
        """Return the work of a stage from its attributes by name, for those who know the kind by its name alone."""
        return cls(**parts)

    # ---- what it reads and writes

    @property
    @abstractmethod
    def sources(self) -> tuple[Pixels, ...]:
        """All that it reads."""

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The arrays among what it reads."""
        return tuple(array for pixels in self.sources for array in pixels.stored)

    @property
    def writes(self) -> ZarrPixels | None:
        """Where the tile goes; None for work whose result is a tally."""
        return None

    @property
    def carries(self) -> Carried | None:
        """Where what goes on beside the tile goes."""
        return None

    @property
    def is_state(self) -> bool:
        """Whether what it writes lies on disk only until the passes after it have read it."""
        return False

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return the arrays that have to be there before its first tile."""
        made = () if self.writes is None else (NewArray(self.writes, grid.shape, grid.tile, self.dtype),)
        if self.carries is None:
            return made
        shapes = (self.carries.shape(grid.shape), self.carries.shape(grid.tile))
        return (*made, NewArray(self.carries.pixels, *shapes, self.dtype))

    def moved(self, pixels: Pixels, carried: Carried | None) -> Work:
        """Return the work with the state read from elsewhere."""
        raise TypeError(f"{type(self).__name__} does not read a state that could lie elsewhere.")

    # ---- numbers for the plan

    @property
    def halo(self) -> tuple[int, ...] | None:
        """Cells read around a tile, per axis of the image; None where it is not a matter of a halo."""
        return None

    @abstractmethod
    def cost(self, grid: Grid) -> Cost:
        """Return what the work takes over a grid."""

    @abstractmethod
    def window(self, region: Region) -> Window:
        """Return what a region of the target reads, in the coordinates of what it reads from, and writes."""

    # ---- what depends on the whole image

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """What its tiles contribute to."""
        return {}

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Work:
        """Return the work with numbers in the place of statistics, per position of an operator.

        Raises
        ------
        ValueError
            For a number that an operator cannot take.
        """
        return self

    def conclude(self, told: Told) -> Conclusion:
        """Return what follows from a complete stage; a pure function, which a resumed run asks again."""
        return Conclusion()

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return what a stage says in the report, by section; `concluded` is None while tiles of it are left."""
        return {}

    # ---- worklists

    def first_visits(self, grid: Grid) -> Mapping[int, float]:
        """Return the tiles of a worklist to begin with, and how urgent each is: the smallest number goes first."""
        return dict.fromkeys(range(len(grid)), 0.0)

    def next_visits(self, grid: Grid, tile: int, tallies: Mapping[str, Tally]) -> Mapping[int, float]:
        """Return the tiles that have to be visited again for what a visit of a tile told, and how urgent each is."""
        return {}

    def at_visit(self, grid: Grid, tile: int, visits: NDArray[np.uint32]) -> Work:
        """Return the work of one visit, which may depend on how often its tile and those around were visited."""
        return self

    # ---- what a task does

    def rehearse(self, walls: bool) -> None:  # noqa: B027 (most kinds compile nothing)
        """Load or compile what its tasks will need, where pixels are invalid or where none is."""

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


KINDS: Registry[type[Work]] = Registry("kind of work", "pipelines.kinds", "diffuse.kinds")


def merge_tallies(
    statistics: Mapping[str, Statistic], tallies: dict[str, Tally], more: Mapping[str, Tally]
) -> None:
    """Add what a part contributes to what is there."""
    for name, tally in more.items():
        tallies[name] = statistics[name].merge(tallies[name], tally) if name in tallies else tally
