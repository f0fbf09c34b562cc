"""Fill unknown pixels over tiles: find boxes around them, and fill each box whole within a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import row_bands
from diffusion_ops.evolution.problems.problem import Setting
from pipelines.image.window import Grid, Region, Window, extent, within
from pipelines.plan.batches import request_after
from pipelines.plan.stages import ChainRequest, Image
from pipelines.steady.held import require_held_pixels
from pipelines.steady.holes import FindHoles, Holes
from pipelines.steady.preparation import Survey
from pipelines.steady.result import Result, scene_of
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told


@KINDS.register("fill-by-boxes")
@dataclass(frozen=True)
class FillByBoxes(Result):
    """Fill the boxes that touch a tile, and write the result, with known pixels as they are.

    A box that several tiles touch is filled in each of them, with the same bits.

    Attributes
    ----------
    holes : Holes
    finder : int
        Number of the stage that finds the boxes.
    """

    holes: Holes = field(kw_only=True)
    finder: int = field(kw_only=True)

    level_bytes = 0
    sections = ("fillings",)

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages of a problem."""
        stages, scene, name = request.stages, scene_of(request), request.chain.name
        position, after, grid = request.chain.positions[-1], request_after(request), stages.grid(scene.shape)
        common: dict[str, Any] = {"scene": scene, "position": position}
        survey = stages.add(f"survey for {name}", Survey(**common), grid, after)
        held = require_held_pixels(stages, scene, name, position, after)
        holes = Holes.with_room(scene, grid, f"{stages.folder}/merged/{name}-boxes.npy")
        title = f"find holes of up to about {holes.most_cells:,} pixels in a box"
        found = stages.add(title, FindHoles(**common, holes=holes), grid, after, (survey, *held))
        return cls.add(request, scene, (found,), holes=holes, finder=found)

    @property
    def halo(self) -> tuple[int, ...]:
        """The margin, so that boxes inside a tile are not read again."""
        return self.scene.frames.on_axes(self.holes.margin)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: what is read, the result, and a box, or the original of invalid pixels before."""
        scene, cells = self.scene, math.prod(self.scene.frames.spatial_part(grid.largest))
        channels, read = scene.frames.split_cells(grid, self.halo)
        held = read * (scene.held_bytes() + 1) + cells * channels * self.result_type.itemsize
        original = cells * channels * (scene.image.dtype.itemsize + 1)
        memory = max(read * scene.reading_bytes(), held + max(self.holes.room, original))
        memory += self.codec_bytes + (2 << 20)
        return replace(super().cost(grid), memory_bytes=memory)

    def compute(self, window: Window) -> Done:
        """Return the result of a tile."""
        frames, problem = self.scene.frames, self.holes.problem
        own, tile = self.scene.setting(window.read), frames.spatial_part(window.write)
        setting = own.part(frames.spatial_part(window.keep))
        result, known = np.empty((len(own.fields), *extent(tile)), self.result_type), problem.known(setting)
        for band in row_bands(setting.spatial):
            # In float64, as the whole image in memory is.
            result[:, band] = self.converted(np.where(known[band], setting.fields[:, band], np.float64(0)))
        self.finish(result, setting, window)
        for box in self.holes.touching(tile):
            around = self.holes.window(box)
            answer = problem.fill_box(self._around(around.read, own, window.read), self.parts)
            both = _overlap(around.write, tile)
            here, there = within(both, tile), within(both, around.read)
            filled = self.converted(answer[(slice(None), *there)])
            np.copyto(result[(slice(None), *here)], filled, where=problem.unknown(setting.part(here)))
        return Done(result.reshape(extent(window.write)), {}, own.fields.nbytes)

    def _around(self, region: Region, own: Setting, read: Region) -> Setting:
        """Return what lies around a box: a part of what is read for the tile, or read for it alone."""
        inside = self.scene.frames.spatial_part(read)
        if all(o.start <= s.start and s.stop <= o.stop for s, o in zip(region, inside, strict=True)):
            return own.part(within(region, inside))
        frames, spatial = self.scene.frames, iter(region)
        axes = zip(frames.axes, read, strict=True)
        return self.scene.setting(tuple(next(spatial) if a in frames.spatial else r for a, r in axes))

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return how many boxes there were, and how many pixels the largest has."""
        if concluded is None:
            return {}
        return {"fillings": {"position": self.position, **{k: int(v) for k, v in concluded.values.items()}}}

    def conclude(self, told: Told) -> Conclusion:
        """Return what was found of the boxes."""
        return Conclusion(told.earlier[self.finder].values)


def _overlap(one: Region, other: Region) -> Region:
    """Return what two regions share."""
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
