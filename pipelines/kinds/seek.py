"""Count where fronts start in every tile, so that only tiles with such cells are visited first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.statistic import Tally
from pipelines.image.window import Grid, Region, Window, extent, one_frame
from pipelines.kinds.fronts.land_work import LandWork
from pipelines.kinds.fronts.tiles import MARKED, WALLED
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, Work


@KINDS.register("seek")
@dataclass(frozen=True)
class Seek(LandWork):
    """Count the cells of every tile that fronts start from, and the markers at walls.

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
        """The markers, and where there are some the image and its mask."""
        return self.land.sources

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        return self.land.radius

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of reading the markers."""
        read = self.land.markers or self.land.inputs.image
        size = math.prod(grid.shape) * read.dtype.itemsize
        return Cost(self.land.memory(grid), size, 0, seconds=size / 1e9)

    def compute(self, window: Window) -> Done:
        """Return the number of markers, and of those at walls, of this tile."""
        counts, read_bytes = [0, 0], 0
        (tile,) = set(self.grid.covering(window.write))
        for index in self.land.frames.each(extent(window.write)):
            region = one_frame(window, index).write
            read_bytes += self._count(region, counts)
        keys = np.array([2 * tile, 2 * tile + 1], np.int64)
        return Done(None, {"markers": Tally(keys, np.array(counts, np.int64))}, read_bytes)

    def _count(self, region: Region, counts: list[int]) -> int:
        """Add where fronts start in one frame, and where they would at walls; return the bytes read."""
        if self.land.markers is None:
            ground, read_bytes = self.land.read(region)
            counts[0] += 0 if ground.starts is None else int((ground.starts < np.inf).sum())
            return read_bytes
        marked = self.land.marked(region) > 0
        if not marked.any():
            return 0
        ground, read_bytes = self.land.read(region)
        walls = np.zeros(marked.shape, bool) if ground.valid is None else ~ground.valid
        counts[0] += int((marked & ~walls).sum())
        counts[1] += int((marked & walls).sum())
        return read_bytes

    def conclude(self, told: Told) -> Conclusion:
        """Return the number of markers, and begin the front in the tiles that have some."""
        keys = np.concatenate([tally.keys for tally in told.each])
        counts = np.concatenate([tally.counts for tally in told.each])
        good = keys % 2 == 0
        tiles = np.sort(keys[good & (counts > 0)] // 2).tolist()
        found = {MARKED: float(counts[good].sum()), WALLED: float(counts[~good].sum())}
        again = {number: _starting(work, tuple(tiles)) for number, work in self.starts if tiles}
        return Conclusion(found, bound={self.position: found}, again=again)

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the numbers of markers."""
        if concluded is None:
            return {}
        return {"fronts": {"title": title, **{k: int(v) for k, v in concluded.values.items()}}}


def _starting(front: Any, tiles: tuple[int, ...]) -> Work:
    """Return the work of a front that starts in some tiles."""
    found: Work = replace(front, first=tiles)
    return found
