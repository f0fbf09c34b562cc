"""Count the markers of every tile, so that a front starts where there are some."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.statistic import Tally
from pipelines.image.window import Grid, Window, extent, one_frame
from pipelines.kinds.fronts.land_work import LandWork
from pipelines.kinds.fronts.tiles import MARKED, WALLED
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, Work


@KINDS.register("seek")
@dataclass(frozen=True)
class Seek(LandWork):
    """Count the markers of every tile, and those at walls.

    Attributes
    ----------
    grid : Grid
    front : Work
        Work of the stage that runs the front; its attribute `first` gets the tiles with markers.
    number : int
        Number of that stage.
    position : int
        Position of the problem among the steps.
    """

    grid: Grid
    front: Work
    number: int
    position: int
    dtype: np.dtype[Any] = field(default=np.dtype(np.uint8))

    collects = True

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The markers, and where there are some the image and its mask."""
        return (*self.land.inputs.sources, self.land.markers.pixels)

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        return self.land.radius

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of reading the markers."""
        size = math.prod(grid.shape) * self.land.markers.dtype.itemsize
        return Cost(self.land.memory(grid), size, 0, seconds=size / 1e9)

    def compute(self, window: Window) -> Done:
        """Return the number of markers, and of those at walls, of this tile."""
        land, counts, read_bytes = self.land, [0, 0], 0
        (tile,) = set(self.grid.covering(window.write))
        for index in land.frames.each(extent(window.write)):
            region = one_frame(window, index).write
            marked = land.marked(region) > 0
            if marked.any():
                _, valid, more = land.read(region)
                walls = np.zeros(marked.shape, bool) if valid is None else ~valid
                counts[0] += int((marked & ~walls).sum())
                counts[1] += int((marked & walls).sum())
                read_bytes += more
        keys = np.array([2 * tile, 2 * tile + 1], np.int64)
        return Done(None, {"markers": Tally(keys, np.array(counts, np.int64))}, read_bytes)

    def conclude(self, told: Told) -> Conclusion:
        """Return the number of markers, and begin the front in the tiles that have some."""
        keys = np.concatenate([tally.keys for tally in told.each])
        counts = np.concatenate([tally.counts for tally in told.each])
        good = keys % 2 == 0
        tiles = np.sort(keys[good & (counts > 0)] // 2).tolist()
        found = {MARKED: float(counts[good].sum()), WALLED: float(counts[~good].sum())}
        again = {self.number: _starting(self.front, tuple(tiles))} if tiles else {}
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
