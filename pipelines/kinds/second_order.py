"""Raise the order of a front's times: tiles are visited until every cell is known that the front has reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.families.fronts.second_order import SecondOrder
from pipelines.image.window import Region
from pipelines.kinds.fronts.tiles import begin_visit, load
from pipelines.kinds.fronts.visits import TileVisits
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.work import KINDS


@KINDS.register("second-order")
@dataclass(frozen=True)
class SecondVisits(TileVisits):
    """Visit tiles until the second-order times of all cells are known, each computed once.

    Attributes
    ----------
    front : TileVisits
        Work of the complete stage that has found the first-order times.
    """

    front: TileVisits = field(kw_only=True)

    @property
    def margin(self) -> int:
        """One more cell: differences of second order read two."""
        return 1

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """What the front has read and left, and the times so far."""
        return (*super().sources, *self.front.latest.pixels)

    def visit(
        self, region: Region, changes: dict[int, float]
    ) -> tuple[NDArray[Any], NDArray[Any] | None, int]:
        """Compute what can be computed of one frame of the tile."""
        land = self.land
        assert self.grid is not None
        visits = self.front.visits_around(self.grid, region, self.halo)
        window, read_bytes = load(self.front.latest, land, self.grid, region, visits, self.margin)
        ground, more = begin_visit(land, window, region, first=not visits[self.seen[0][0]])
        known, much = load(self.latest, land, self.grid, region, dict(self.seen), self.margin)
        before = known.times < np.inf
        second = SecondOrder.beginning(window, ground.starts, known.times)
        second.run(ground.image, land.problem.is_speed, land.frames.spacing)
        self.note(changes, second.gains(before))
        second.times[window.inner][window.walls] = np.nan
        return second.times[window.inner], None, read_bytes + more + much
