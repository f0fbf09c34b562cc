"""A kind of work as another package would bring it: a front that runs through the image until nothing changes.

The operator gives every cell its distance in steps along the axes to the nearest cell that is at least as large as a
threshold; walls are gone around. A visit of a tile reads the distances around it, finds those inside, and tells which
of its sides have changed, so that the neighbours there are visited again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import Number, parameter
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, window_of
from pipelines.plan.batches import request_after
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import Cost, Done, NewArray
from pipelines.tasks.work import KINDS, Conclusion, File, Told, Work


@register("steps-to-seeds")
class StepsToSeeds(Map):
    """Distance in steps along the axes to the nearest cell of at least `threshold`."""

    threshold: float = parameter(Number(unit="image units"), default=1.0)

    equation = "|∇d|₁ = 1, d = 0 where u >= threshold"
    reference = "Dijkstra 1959"
    new_quantity = True
    work_kind = "front-like"

    def reach(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        raise NotImplementedError("the whole image")

    def apply(self, block: Block) -> None:
        raise NotImplementedError("the whole image")


@KINDS.register("front-like")
@dataclass(frozen=True)
class Front(ChainWork):
    """Visit tiles until no side of any tile changes."""

    image: Reading
    frames: Frames
    threshold: float
    latest: tuple[ZarrPixels, ZarrPixels]
    """A visit reads what the visits before have left in one of two arrays, and writes the other: a visit that was
    killed has spoilt nothing."""
    dtype: np.dtype[Any]
    merged: str
    seen: tuple[tuple[int, int], ...] = ()
    grid: Grid | None = None

    visits_again = True
    sections = ("fronts",)

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        request.refuse_part("runs through the whole image, so a part alone cannot be computed.")
        stages, begin, dtype = request.stages, request.begin, np.dtype(np.float32)
        operator = request.chain.legs[-1].operator
        latest = (request.target(0, None), request.target(1, None))
        path = f"{stages.folder}/merged/{request.chain.name}.npy"
        grid = stages.grid(begin.shape)
        front = cls(begin.reading, request.frames, operator.threshold, latest, dtype, path)
        visited = stages.add("run the front", front, grid, needs=request_after(request))
        final = request.final_dtype(dtype)
        collect = Collect(latest, path, grid, request.target(2, request.output), final)
        stage = stages.add("collect", collect, grid, (visited,), (visited,))
        return Image(Reading(collect.target, final, None, 1), begin.shape, (stage,))

    @property
    def sources(self) -> tuple[Any, ...]:
        return (self.image.pixels, *self.latest)

    @property
    def writes(self) -> ZarrPixels:
        return self.latest[self.seen[0][1] % 2 if self.seen else 0]

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        return tuple(NewArray(pixels, grid.shape, grid.tile, self.dtype) for pixels in self.latest)

    def cost(self, grid: Grid) -> Cost:
        cells = int(np.prod(grid.largest))
        size = int(np.prod(grid.shape)) * 4
        return Cost(20 * cells, 2 * size, size, seconds=size / 1e8)

    def window(self, region: Region) -> Window:
        ones = self.frames.on_axes((1,) * len(self.frames.spatial))
        return window_of(region, self.frames.shape, ones)

    def at_visit(self, grid: Grid, tile: int, visits: Any) -> Work:
        around = grid.covering(self.window(grid.region(tile)).read)
        seen = [(tile, int(visits[tile]))] + [(t, int(visits[t])) for t in around if t != tile]
        return replace(self, seen=tuple(seen), grid=grid)

    def next_visits(self, grid: Grid, tile: int, tallies: Mapping[str, Tally]) -> Mapping[int, float]:
        found, position = {}, np.array(grid.position(tile))
        changed = tallies["changed"]
        for key, urgency in zip(changed.keys.tolist(), changed.counts.tolist(), strict=True):
            there = position.copy()
            there[key // 2] += 1 if key % 2 else -1
            if (there >= 0).all() and (there < np.array(grid.counts)).all():
                found[int(np.ravel_multi_index(tuple(there), grid.counts))] = float(urgency)
        return found

    def conclude(self, told: Told) -> Conclusion:
        visits = told.visits.astype(np.int64)
        return Conclusion({"visits": float(visits.sum())}, files=(File(self.merged, visits),))

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Any]:
        return {} if concluded is None else {"fronts": {"visits": concluded.values["visits"]}}

    def compute(self, window: Window) -> Done:
        image = self.image.pixels.read(window.read)
        before = np.full(image.shape, np.inf, self.dtype)
        for tile, visits in self.seen:
            region = self.grid.region(tile)
            inside = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(region, window.read, strict=True)
            )
            if visits and all(s.start < s.stop for s in inside):
                there = tuple(
                    slice(s.start - r.start, s.stop - r.start)
                    for s, r in zip(inside, window.read, strict=True)
                )
                before[there] = self.latest[(visits - 1) % 2].read(inside)
        open_cells = ~np.isnan(image)
        distance = np.where(open_cells & (image >= self.threshold), 0, before).astype(self.dtype)
        while True:
            near = distance.copy()
            for axis in range(distance.ndim):
                a, b = np.moveaxis(near, axis, 0), np.moveaxis(distance, axis, 0)
                a[1:] = np.minimum(a[1:], b[:-1] + 1)
                a[:-1] = np.minimum(a[:-1], b[1:] + 1)
            near = np.where(open_cells, near, np.inf).astype(self.dtype)
            if np.array_equal(near, distance):
                break
            distance = near
        return self._told(distance[window.keep], before[window.keep], image.nbytes)

    def _told(self, now: Any, before: Any, read_bytes: int) -> Done:
        sides, smallest = [], []
        for axis in range(now.ndim):
            for k, end in enumerate((0, -1)):
                new, old = np.take(now, end, axis), np.take(before, end, axis)
                if (new < old).any():
                    sides.append(2 * axis + k)
                    smallest.append(1 + int(new[new < old].min()))
        tally = Tally(np.array(sides, np.int64), np.array(smallest, np.int64))
        return Done(now.copy(), {"changed": tally}, read_bytes)


@dataclass(frozen=True)
class Collect(Work):
    """Write what the last visit of each tile has left."""

    latest: tuple[ZarrPixels, ZarrPixels]
    visits: str
    grid: Grid
    target: ZarrPixels
    dtype: np.dtype[Any]

    @property
    def sources(self) -> tuple[Any, ...]:
        return self.latest

    @property
    def writes(self) -> ZarrPixels:
        return self.target

    def cost(self, grid: Grid) -> Cost:
        size = int(np.prod(grid.shape)) * 4
        return Cost(12 * int(np.prod(grid.largest)), size, size, seconds=size / 1e9)

    def window(self, region: Region) -> Window:
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def compute(self, window: Window) -> Done:
        (tile,) = self.grid.covering(window.write)
        visits = int(np.load(Path(self.visits))[tile])
        values = self.latest[(visits - 1) % 2].read(window.write)
        assert values.shape == extent(window.write)
        return Done(np.where(np.isinf(values), np.nan, values).astype(self.dtype), read_bytes=values.nbytes)
