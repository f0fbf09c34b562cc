"""What the kinds of work of a front have in common: tiles of a land, read with the cells around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from pipelines.image.window import Region, Window, window_of
from pipelines.kinds.fronts.tiles import Land, rehearse
from pipelines.tasks.work import Work


@dataclass(frozen=True)
class LandWork(Work):
    """Work on tiles of a land.

    Attributes
    ----------
    land : Land
    """

    land: Land

    @property
    def margin(self) -> int:
        """Cells around a tile, besides one, whose times are read."""
        return 0

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        return self.land.halo(self.margin)

    def window(self, region: Region) -> Window:
        """Return the tile with the cells around it."""
        return window_of(region, self.land.shape, self.halo)

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Self:
        """Return the work with statistics of its inputs replaced by their values."""
        return replace(self, land=self.land.bind(values))

    def rehearse(self, walls: bool) -> None:
        """Run a front through a few cells, which compiles its kernels or loads them."""
        rehearse(self.land, walls)

    @property
    def may_have_walls(self) -> bool:
        """Whether what it reads may have invalid pixels."""
        return self.land.inputs.may_have_walls

    @property
    def kernels_bytes(self) -> int:
        """Memory of the kernels of all stages."""
        return self.land.problem.kernels_bytes

    @property
    def compiled_for(self) -> frozenset[str]:
        """The front."""
        return frozenset({type(self.land.problem).__name__})
