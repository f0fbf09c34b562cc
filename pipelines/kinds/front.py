"""Run a front through an image: tiles are visited until no side of any tile changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.families.fronts.front import Front, times_type
from diffusion_ops.families.fronts.window import FrontWindow
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.kinds.fronts.land_work import LandWork
from pipelines.kinds.fronts.tiles import (
    FRONT_RATE,
    MARKED,
    VISITS,
    WALLED,
    Land,
    Latest,
    begin_visit,
    load,
    no_markers,
    rehearse,
)
from pipelines.plan.batches import request_after, request_inputs
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done, NewArray
from pipelines.tasks.work import KINDS, Conclusion, File, Told


@KINDS.register("front")
@dataclass(frozen=True)
class FrontVisits(LandWork, ChainWork):
    """Visit tiles until no side of any tile changes.

    A visit reads the tile as its last visit has left it and one row of cells of each neighbour, and writes the tile
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

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages that find the markers, run the front, and write the result."""
        request.refuse_part(
            "runs through the whole image, so a part alone cannot be computed. Run the spec, and verify it."
        )
        stages, begin, frames, name = request.stages, request.begin, request.frames, request.chain.name
        problem = request.chain.legs[-1].operator
        assert isinstance(problem, Front)
        problem.require_channels(begin.reading.channels)
        shape = stages.with_channels(begin.shape, problem.result_channels(begin.reading.channels))
        wanted = request.final_dtype(problem.result_type(begin.reading.dtype, None))
        kind = times_type(frames.spatial_part(shape), wanted)
        inputs, markers = request_inputs(request), request.beside["markers"].reading
        land = Land(problem, inputs, markers, frames, begin.shape, kind, problem.gives_labels)
        grid, after = stages.grid(shape), request_after(request)
        targets = request.target(0, None), request.target(1, None)
        latest, position = Latest.beside(targets, frames, land.labelled), request.chain.positions[-1]
        visits = cls(land, latest, kind, position, f"{stages.folder}/visits/{name}.npy")
        seek = KINDS["seek"].make(
            land=land, grid=grid, front=visits, number=stages.following + 1, position=position
        )
        sought = stages.add(f"find the markers of {name}", seek, grid, after)
        run = stages.add(f"run the front of {name}", visits, grid, after, (sought, *request.needs))
        target = request.target(2, request.output)
        fill = problem.fill_value(wanted, frames.nodata) if request.output is not None else None
        settle = KINDS["settle"].make(
            land=land, latest=latest, grid=grid, merged=visits.merged, target=target, dtype=wanted, fill=fill
        )
        done = stages.add(f"write {name}", settle, grid, after, (sought, run))
        return Image(Reading(target, wanted, None, 1), shape, (done,))

    # ---- what it reads and writes

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The image, its mask, the markers, and the times so far."""
        return (*self.land.inputs.sources, self.land.markers.pixels, *self.latest.pixels)

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

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> FrontVisits:
        """Return the work with statistics of its inputs replaced by their values.

        Raises
        ------
        ValueError
            Where there is no marker that a front can start from.
        """
        found = values.get(self.position, {})
        if found.get(MARKED) == 0:
            raise ValueError(no_markers(int(found[WALLED])))
        return super().bind(values)

    # ---- numbers for the plan

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of the visits that are expected."""
        total, moved = math.prod(grid.shape), self.dtype.itemsize + 4 * self.land.labelled
        memory = self.land.memory(grid)
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

    def at_visit(self, grid: Grid, tile: int, visits: NDArray[np.uint32]) -> FrontVisits:
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

    # ---- what a task does

    def rehearse(self, walls: bool) -> None:
        """Run a front through a few cells, which compiles its kernels or loads them."""
        rehearse(self.land)

    def compute(self, window: Window) -> Done:
        """Return the tile after the visit, and which of its sides have changed."""
        frames, shape = self.land.frames, extent(window.write)
        times = np.empty(shape, self.dtype)
        labels = None if self.carries is None else np.empty(self.carries.shape(shape), np.int32)
        changes: dict[int, float] = {}
        read_bytes = 0
        for index in frames.each(shape):
            found, more = self._visit(one_frame(window, index).write, changes)
            read_bytes += more
            times[index] = found.times[found.inner].reshape(times[index].shape)
            if labels is not None and self.carries is not None and found.labels is not None:
                part = (slice(None), *(index[axis] for axis in self.carries.along))
                labels[part] = found.labels[found.inner].reshape(labels[part].shape)
        keys = sorted(changes)
        earliest = np.array([changes[key] for key in keys], np.float64).view(np.int64)
        return Done(times, {"changed": Tally(np.array(keys, np.int64), earliest)}, read_bytes, labels)

    def _visit(self, region: Region, changes: dict[int, float]) -> tuple[FrontWindow, int]:
        """Return one frame of the tile after the visit, NaN at walls; note the earliest change at each side."""
        land = self.land
        assert self.grid is not None
        window, read_bytes = load(self.latest, land, self.grid, region, dict(self.seen))
        before = window.sides()
        image, more = begin_visit(land, window, region, first=not self.visits)
        window.run(image, land.problem.is_speed, land.frames.spacing, land.problem.limit)
        for side, earliest in window.changes(before).items():
            axis, end = divmod(side, 2)
            key = 2 * land.frames.axes.index(land.frames.spatial[axis]) + end
            changes[key] = min(earliest, changes.get(key, math.inf))
        window.times[window.inner][window.walls] = np.nan
        return window, read_bytes + more
