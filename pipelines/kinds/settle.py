"""Check what a front has left, cell by cell, and write it as the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import row_bands
from diffusion_ops.blocks.fields import cast
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.families.fronts.front import until
from diffusion_ops.families.fronts.second_order import SecondOrder
from pipelines.image.window import Grid, Region, Window, extent, one_frame
from pipelines.kinds.fronts.land_work import LandWork
from pipelines.kinds.fronts.tiles import FRONT_RATE, begin_visit, load
from pipelines.kinds.fronts.visits import TileVisits
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told


@KINDS.register("settle")
@dataclass(frozen=True)
class Settle(LandWork):
    """Check that every cell of a tile fulfils its equation, and write the result.

    Attributes
    ----------
    runs : tuple of TileVisits
        Work of the complete stages that have found the times, and those of second order.
    grid : Grid
    target : ZarrPixels
    dtype : numpy dtype
    fill : float or None
        What walls get in a result; None leaves NaN in a state.
    """

    runs: tuple[TileVisits, ...]
    grid: Grid
    target: ZarrPixels
    dtype: np.dtype[Any]
    fill: float | None

    collects = True

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """What the front has read and left."""
        return (*self.land.sources, *(pixels for run in self.runs for pixels in run.latest.pixels))

    @property
    def margin(self) -> int:
        """The cells that differences of second order read besides one."""
        return len(self.runs) - 1

    @property
    def writes(self) -> ZarrPixels:
        """The result."""
        return self.target

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of one check of every cell."""
        total, itemsize = math.prod(grid.shape), self.dtype.itemsize
        memory = self.land.memory(grid, self.margin, itemsize)
        return Cost(memory, total * self.land.cell_bytes, total * itemsize, seconds=total / FRONT_RATE / 2)

    def compute(self, window: Window) -> Done:
        """Return the result of a tile, and how many cells were reached and not."""
        land, shape = self.land, extent(window.write)
        values, counts, read_bytes = np.empty(shape, self.dtype), np.zeros(2, np.int64), 0
        for index in land.frames.each(shape):
            part = values[index]
            region = one_frame(window, index).write
            spatial = extent(land.frames.spatial_part(region))
            read_bytes += self._settle(region, part.reshape(spatial), counts)
        return Done(values, {"cells": Tally(np.arange(2), counts)}, read_bytes)

    def _settle(self, region: Region, result: NDArray[Any], counts: NDArray[np.int64]) -> int:
        """Put one frame of the tile into its result, add to the counts, and return the bytes read."""
        land, run, spacing = self.land, self.runs[0], self.land.frames.spacing
        (own,) = set(self.grid.covering(region))
        visits = run.visits_around(self.grid, region, self.halo)
        window, read_bytes = load(run.latest, land, self.grid, region, visits, self.margin)
        ground, more = begin_visit(land, window, region, first=not visits[own])
        wrong = window.violations(ground.image, land.problem.is_speed, spacing, land.problem.limit)
        times = window.times[window.inner]
        for run in self.runs[1:]:
            visits = run.visits_around(self.grid, region, self.halo)
            known, much = load(run.latest, land, self.grid, region, visits, self.margin)
            second = SecondOrder.beginning(window, ground.starts, known.times)
            wrong += second.violations(ground.image, land.problem.is_speed, spacing)
            times, more = until(second.times[window.inner], land.problem.limit), more + much
        if wrong:
            raise RuntimeError(
                f"{wrong:,} cells do not fulfil their equation: what lies on the disk has changed since the front ran "
                "through it. Run the same command again."
            )
        walls = window.walls
        found = times if window.labels is None else window.labels[window.inner]
        # What another step reads has NaN at walls: no time has to give way there.
        nodata = None if land.labelled or self.fill is None else land.frames.nodata
        fill = self.dtype.type(math.nan if self.fill is None and not land.labelled else self.fill or 0)
        for band in row_bands(window.spatial):
            reached = times[band] < np.inf
            if ground.negative is not None:
                np.negative(times[band], out=times[band], where=ground.negative[window.own][band])
            counts += int(reached.sum()), int((~reached & ~walls[band]).sum())
            with np.errstate(over="ignore"):
                result[band] = cast(np.ascontiguousarray(found[band]), self.dtype, nodata)
            result[band][walls[band]] = fill
        return read_bytes + more

    def conclude(self, told: Told) -> Conclusion:
        """Return how many cells were reached, and not."""
        counts = np.sum([tally.counts for tally in told.each], axis=0)
        return Conclusion({"reached": float(counts[0]), "unreachable": float(counts[1]), "residual": 0.0})

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return how many cells were reached, and that all of them fulfil their equation."""
        if concluded is None:
            return {}
        return {"fronts": {"title": title, **{k: int(v) for k, v in concluded.values.items()}}}
