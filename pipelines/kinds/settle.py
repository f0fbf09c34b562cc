"""Check what a front has left, cell by cell, and write it as the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import row_bands
from diffusion_ops.blocks.fields import cast
from diffusion_ops.blocks.statistic import Tally
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.kinds.fronts.land_work import LandWork
from pipelines.kinds.fronts.tiles import FRONT_RATE, Latest, begin_visit, load
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told


@KINDS.register("settle")
@dataclass(frozen=True)
class Settle(LandWork):
    """Check that every cell of a tile fulfils its equation, and write the result.

    Attributes
    ----------
    latest : Latest
    grid : Grid
    merged : str
        File with the number of visits of each tile.
    target : ZarrPixels
    dtype : numpy dtype
    fill : float or None
        What walls get in a result; None leaves NaN in a state.
    """

    latest: Latest
    grid: Grid
    merged: str
    target: ZarrPixels
    dtype: np.dtype[Any]
    fill: float | None

    collects = True

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """What the front has read and left."""
        return (*self.land.inputs.sources, self.land.markers.pixels, *self.latest.pixels)

    @property
    def writes(self) -> ZarrPixels:
        """The result."""
        return self.target

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of one check of every cell."""
        total, itemsize = math.prod(grid.shape), self.dtype.itemsize
        memory = self.land.memory(grid) + math.prod(grid.largest) * itemsize
        return Cost(memory, total * self.land.cell_bytes, total * itemsize, seconds=total / FRONT_RATE / 2)

    def compute(self, window: Window) -> Done:
        """Return the result of a tile, and how many cells were reached and not."""
        land, shape = self.land, extent(window.write)
        values, counts, read_bytes = np.empty(shape, self.dtype), np.zeros(2, np.int64), 0
        around = self.grid.covering(window_of(window.write, self.grid.shape, self.halo).read)
        merged = np.load(Path(self.merged), mmap_mode="r")
        visits = {tile: int(merged[tile]) for tile in around}
        for index in land.frames.each(shape):
            part = values[index]
            region = one_frame(window, index).write
            read_bytes += self._settle(
                region, visits, part.reshape(extent(land.frames.spatial_part(region))), counts
            )
        return Done(values, {"cells": Tally(np.arange(2), counts)}, read_bytes)

    def _settle(
        self, region: Region, visits: Mapping[int, int], result: NDArray[Any], counts: NDArray[np.int64]
    ) -> int:
        """Put one frame of the tile into its result, add to the counts, and return the bytes read."""
        land = self.land
        window, read_bytes = load(self.latest, land, self.grid, region, visits)
        (own,) = set(self.grid.covering(region))
        image, more = begin_visit(land, window, region, first=not visits[own])
        wrong = window.violations(image, land.problem.is_speed, land.frames.spacing, land.problem.limit)
        if wrong:
            raise RuntimeError(
                f"{wrong:,} cells do not fulfil their equation: what lies on the disk has changed since the front ran "
                "through it. Run the same command again."
            )
        walls, times = window.walls, window.times[window.inner]
        found = times if window.labels is None else window.labels[window.inner]
        nodata = None if land.labelled else land.frames.nodata
        fill = self.dtype.type(math.nan if self.fill is None and not land.labelled else self.fill or 0)
        for band in row_bands(window.spatial):
            reached = times[band] < np.inf
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
