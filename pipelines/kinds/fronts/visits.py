"""What the worklists of a front have in common: arrays for even and odd visits, and who is visited next."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.kinds.fronts.land_work import LandWork
from pipelines.kinds.fronts.tiles import FRONT_RATE, VISITS, Latest
from pipelines.store.places import local_copy
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done, NewArray
from pipelines.tasks.work import Conclusion, File, Told


@dataclass(frozen=True)
class TileVisits(LandWork):
    """Visit tiles until no side of any tile says that the tile beside it has to be visited.

    A visit reads the tile as its last visit has left it and rows of cells of each neighbour, and writes the tile
    into the other one of two arrays: a visit that was killed has spoilt nothing.

    Attributes
    ----------
    latest : Latest
    dtype : numpy dtype
        Type of the times.
    position : int
        Position of the problem among the steps.
    merged : str
        File with the number of visits of each tile.
    first : tuple of int or None
        Tiles with markers; None where these are not known yet.
    seen : tuple of (int, int)
        The tile of this visit and those beside it, each with the number of its visits so far.
    grid : Grid or None
    """

    latest: Latest
    dtype: np.dtype[Any]
    position: int
    merged: str
    first: tuple[int, ...] | None = None
    seen: tuple[tuple[int, int], ...] = ()
    grid: Grid | None = None

    visits_again = True
    sections = ("fronts",)

    # ---- what it reads and writes

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The image, its mask, the markers, and the times so far."""
        return (*self.land.sources, *self.latest.pixels)

    @property
    def visits(self) -> int:
        """Number of visits of the tile so far."""
        return self.seen[0][1] if self.seen else 0

    @property
    def writes(self) -> ZarrPixels:
        """The times after this visit."""
        return self.latest.times[self.visits % 2]

    @property
    def carries(self) -> Carried | None:
        """The labels after this visit."""
        return None if self.latest.labels is None else self.latest.labels[self.visits % 2]

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return both arrays of times, and of labels."""
        made = [NewArray(pixels, grid.shape, grid.tile, self.dtype) for pixels in self.latest.times]
        for carried in self.latest.labels or ():
            shapes = carried.shape(grid.shape), carried.shape(grid.tile)
            made.append(NewArray(carried.pixels, *shapes, np.dtype(np.int32)))
        return tuple(made)

    # ---- numbers for the plan

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of the visits that are expected."""
        total, moved = math.prod(grid.shape), self.dtype.itemsize + 4 * self.land.labelled
        memory = self.land.memory(grid, self.margin)
        read = int(VISITS * total * self.land.cell_bytes)
        return Cost(memory, read, int(VISITS * total * moved), seconds=VISITS / 2 * total / FRONT_RATE)

    # ---- the worklist

    def first_visits(self, grid: Grid) -> Mapping[int, float]:
        """Return the tiles with markers."""
        return dict.fromkeys(range(len(grid)) if self.first is None else self.first, 0.0)

    def next_visits(self, grid: Grid, tile: int, tallies: Mapping[str, Tally]) -> Mapping[int, float]:
        """Return the tiles beside the sides that have changed; urgent where a change is early."""
        found, position = {}, grid.position(tile)
        changed = tallies["changed"]
        for key, bits in zip(changed.keys.tolist(), changed.counts, strict=True):
            axis, end = divmod(key, 2)
            there = list(position)
            there[axis] += 1 if end else -1
            earliest = float(bits.view(np.float64))
            if 0 <= there[axis] < grid.counts[axis] and earliest < self.land.problem.limit:
                found[int(np.ravel_multi_index(tuple(there), grid.counts))] = earliest
        return found

    def at_visit(self, grid: Grid, tile: int, visits: NDArray[np.uint32]) -> Self:
        """Return the work of one visit, which knows the visits of the tiles around."""
        around = grid.covering(window_of(grid.region(tile), grid.shape, self.halo).read)
        seen = [(tile, int(visits[tile])), *((t, int(visits[t])) for t in around if t != tile)]
        return replace(self, seen=tuple(seen), grid=grid, first=())

    def conclude(self, told: Told) -> Conclusion:
        """Return the number of visits, and write those of each tile into a file."""
        assert told.visits is not None
        visits = told.visits.astype(np.int64)
        most = {
            "visits": float(visits.sum()),
            "rounds": float(visits.max()),
            "tiles": float((visits > 0).sum()),
        }
        return Conclusion(most, files=(File(self.merged, visits),))

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return how many tiles were visited, how often in all, and how often one at most."""
        if concluded is None or "visits" not in concluded.values:
            return {}
        return {"fronts": {"title": title, **{k: int(v) for k, v in concluded.values.items()}}}

    def visits_around(self, grid: Grid, region: Region, halo: tuple[int, ...]) -> dict[int, int]:
        """Return the number of visits of a tile and of those around it, once the worklist is complete."""
        merged = np.load(local_copy(self.merged), mmap_mode="r")
        return {tile: int(merged[tile]) for tile in grid.covering(window_of(region, grid.shape, halo).read)}

    # ---- what a task does

    def compute(self, window: Window) -> Done:
        """Return the tile after the visit, and which of its sides have changed."""
        frames, shape = self.land.frames, extent(window.write)
        times = np.empty(shape, self.dtype)
        labels = None if self.carries is None else np.empty(self.carries.shape(shape), np.int32)
        changes: dict[int, float] = {}
        read_bytes = 0
        for index in frames.each(shape):
            found, names, more = self.visit(one_frame(window, index).write, changes)
            read_bytes += more
            times[index] = found.reshape(times[index].shape)
            if labels is not None and self.carries is not None and names is not None:
                part = (slice(None), *(index[axis] for axis in self.carries.along))
                labels[part] = names.reshape(labels[part].shape)
        keys = sorted(changes)
        earliest = np.array([changes[key] for key in keys], np.float64).view(np.int64)
        return Done(times, {"changed": Tally(np.array(keys, np.int64), earliest)}, read_bytes, labels)

    @abstractmethod
    def visit(
        self, region: Region, changes: dict[int, float]
    ) -> tuple[NDArray[Any], NDArray[Any] | None, int]:
        """Visit one frame of the tile, and note changes.

        Parameters
        ----------
        region : tuple of slice
        changes : dict
            Gets the sides beside which tiles are to be visited, 2 axis + end, each with the earliest changed time.

        Returns
        -------
        times, labels : ndarray
            After the visit, NaN at walls.
        read_bytes : int
        """

    def note(self, changes: dict[int, float], found: Mapping[int, float]) -> None:
        """Add the changed sides of one frame, by number among its spatial axes, to those of the tile."""
        frames = self.land.frames
        for side, earliest in found.items():
            axis, end = divmod(side, 2)
            key = 2 * frames.axes.index(frames.spatial[axis]) + end
            changes[key] = min(earliest, changes.get(key, math.inf))
