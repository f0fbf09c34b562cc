"""Count where fronts start in every tile, and what none can run through, before any tile is visited."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.statistic import Tally, ordered_key, value_of_key
from diffusion_ops.families.fronts.land import LandError
from pipelines.image.window import Grid, Region, Window, extent, one_frame
from pipelines.kinds.fronts.land_work import LandWork
from pipelines.kinds.fronts.tiles import LEAST, MARKED, UNFIT, WALLED
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, Work


@KINDS.register("seek")
@dataclass(frozen=True)
class Seek(LandWork):
    """Count the cells of every tile that fronts start from, the markers at walls, and values that are refused.

    Attributes
    ----------
    grid : Grid
    starts : tuple of (int, Work)
        Number and work of the stages that begin where fronts start; their attribute `first` gets these tiles.
    position : int
        Position of the problem among the steps.
    """

    grid: Grid
    starts: tuple[tuple[int, Work], ...]
    position: int
    dtype: np.dtype[Any] = field(default=np.dtype(np.uint8))

    collects = True

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The markers, and the image and its mask: all of it, or where there are markers."""
        return self.land.sources

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        return self.land.radius

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of reading the markers, and the image where it is looked through."""
        land, size = self.land, 0
        if land.markers is not None:
            size += math.prod(grid.shape) * land.markers.dtype.itemsize
        if land.markers is None or land.problem.refuses_values:
            size += math.prod(grid.shape) * land.inputs.image.dtype.itemsize
        return Cost(self.land.memory(grid), size, 0, seconds=size / 1e9)

    def compute(self, window: Window) -> Done:
        """Return the counts of this tile, and the key of the least value that is refused."""
        counts, read_bytes = [0, 0, 0, ordered_key(math.inf)], 0
        (tile,) = set(self.grid.covering(window.write))
        for index in self.land.frames.each(extent(window.write)):
            region = one_frame(window, index).write
            read_bytes += self._count(region, counts)
        keys = len(counts) * tile + np.arange(len(counts), dtype=np.int64)
        return Done(None, {"markers": Tally(keys, np.array(counts, np.int64))}, read_bytes)

    def _count(self, region: Region, counts: list[int]) -> int:
        """Add what there is in one frame of a tile, and return the bytes read."""
        marked = None
        if self.land.markers is not None:
            marked = np.empty(extent(self.land.frames.spatial_part(region)), bool)
            for rows, markers in self.land.marked(region):
                marked[rows] = markers > 0
        if marked is not None and not marked.any() and not self.land.problem.refuses_values:
            return 0
        try:
            ground, read_bytes = self.land.read(region)
        except LandError as error:
            counts[2] += error.count
            counts[3] = min(counts[3], ordered_key(error.least))
            return 0
        if marked is None:
            counts[0] += 0 if ground.starts is None else int((ground.starts < np.inf).sum())
            return read_bytes
        walls = np.zeros(marked.shape, bool) if ground.valid is None else ~ground.valid
        counts[0] += int((marked & ~walls).sum())
        counts[1] += int((marked & walls).sum())
        return read_bytes

    def conclude(self, told: Told) -> Conclusion:
        """Return the number of markers, and begin the front in the tiles that have some."""
        tiles = np.array([tally.keys[0] // len(tally.keys) for tally in told.each])
        marked, walled, unfit, least = np.stack([tally.counts for tally in told.each], axis=1)
        starting = tuple(np.sort(tiles[marked > 0]).tolist())
        found = {MARKED: float(marked.sum()), WALLED: float(walled.sum())}
        refused = {UNFIT: float(unfit.sum()), LEAST: value_of_key(int(least.min()))}
        again = {number: _starting(work, starting) for number, work in self.starts if starting}
        return Conclusion(found, bound={self.position: {**found, **refused}}, again=again)

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the numbers of markers."""
        if concluded is None:
            return {}
        return {"fronts": {"title": title, **{k: int(v) for k, v in concluded.values.items()}}}


def _starting(front: Any, tiles: tuple[int, ...]) -> Work:
    """Return the work of a front that starts in some tiles."""
    found: Work = replace(front, first=tiles)
    return found
