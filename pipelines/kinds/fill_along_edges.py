"""Fill unknown pixels along edges over tiles: levels of a pyramid, each in rounds from the filled coarser one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.evolution.legs import total_halo
from diffusion_ops.families.edge_filling import FilledAlongEdges
from pipelines.image.window import Grid, Window, extent
from pipelines.plan.batches import Batches, request_after
from pipelines.plan.plan import Geometry
from pipelines.plan.stages import ChainRequest, Image
from pipelines.steady.held import require_held_pixels
from pipelines.steady.preparation import Survey
from pipelines.steady.pyramid import FillWhole, Halve, Level, Start, beside
from pipelines.steady.result import Result, scene_of
from pipelines.steady.scene import Scene
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Done
from pipelines.tasks.work import KINDS, Conclusion


@KINDS.register("fill-along-edges")
@dataclass(frozen=True)
class FillAlongEdges(Result):
    """Write the filled image, with known pixels as they are.

    Attributes
    ----------
    filled : Reading
        NaN at walls.
    levels : int
        Number of levels that are cut into tiles.
    """

    filled: Reading = field(kw_only=True)
    levels: int = field(kw_only=True)

    level_bytes = 0
    sections = ("fillings",)

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages of a problem."""
        return _Layout(request, scene_of(request)).lay_out()

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The scene, and the filled image."""
        return (*super().sources, self.filled.pixels)

    @property
    def more_bytes(self) -> int:
        """The filled pixels, what they are beside the known ones, and the result in float64."""
        return self.scene.image.channels * (2 * self.filled.dtype.itemsize + 16) + 4

    def compute(self, window: Window) -> Done:
        """Return the result of a tile."""
        setting = self.scene.setting(window.read)
        filled = self.filled.fields(self.scene.frames, window.read)
        values = self.scene.problem.result(
            np.nan_to_num(filled, nan=0.0), setting, np.ones(setting.spatial, bool)
        )
        done = self.finished(values, setting, window)
        return Done(done.reshape(extent(window.write)), {}, filled.nbytes)

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return how many levels there were of more than one tile, and how many rounds on each."""
        problem = self.scene.problem
        assert isinstance(problem, FilledAlongEdges)
        if concluded is None:
            return {}
        return {"fillings": {"position": self.position, "levels": self.levels, "rounds": problem.rounds}}


@dataclass(frozen=True)
class _Layout:
    """Lays out the stages of one problem."""

    request: ChainRequest
    scene: Scene

    def lay_out(self) -> Image:
        """Add the stages, and return the result."""
        request, stages, scene = self.request, self.request.stages, self.scene
        common: dict[str, Any] = {"scene": scene, "position": request.chain.positions[-1]}
        name, after = request.chain.name, request_after(request)
        survey = stages.add(f"survey for {name}", Survey(**common), stages.grid(scene.shape), after)
        held = require_held_pixels(stages, scene, name, common["position"], after)
        levels, made = [Level(scene, 0, scene.shape)], [(*after, survey, *held)]
        while len(stages.grid(levels[-1].shape)) > 1:
            coarse = levels[-1].coarser(f"{stages.folder}/state", f"{name}-known")
            assert coarse.values is not None
            halve = Halve(**common, level=levels[-1], target=coarse.values)
            grid, title = stages.grid(coarse.shape), f"halve to level {coarse.number}"
            # Until the survey is complete, nothing is known to be filled at all.
            before = (made[-1], ()) if len(levels) > 1 else (after, made[0])
            made.append((stages.add(title, halve, grid, *before),))
            levels.append(coarse)
        whole = levels.pop()
        target = stages.array("state", f"{name}-filled@{whole.number}")
        fill = FillWhole(**common, level=whole, target=target)
        title = f"fill level {whole.number} and the coarser ones" if whole.number else f"fill {name}"
        number = stages.add(title, fill, stages.grid(whole.shape), needs=made.pop())
        below = self._image(fill, whole, number)
        for level in reversed(levels):
            target = stages.array("state", f"{name}-start@{level.number}")
            start = Start(**common, level=level, target=target, below=below.reading, below_shape=below.shape)
            title = f"start level {level.number}"
            number = stages.add(title, start, stages.grid(level.shape), below.stages, needs=made.pop())
            started = replace(self._image(start, level, number), carried=beside(target, scene.frames))
            below = self._rounds(level, started)
        return FillAlongEdges.add(request, scene, below.stages, filled=below.reading, levels=len(levels))

    def _image(self, work: Any, level: Level, stage: int) -> Image:
        reading = Reading(work.writes, level.dtype, None, self.scene.image.channels)
        return Image(reading, level.shape, (stage,))

    def _rounds(self, level: Level, started: Image) -> Image:
        """Add the passes with the rounds on a level, and return what they fill."""
        request, stages, problem = self.request, self.request.stages, self.scene.problem
        assert isinstance(problem, FilledAlongEdges)
        leg = problem.leg(level.number)
        halo = max(total_halo([replace(leg, cycles=leg.cycles[:1])], level.frames.spacing))
        grid: Grid = stages.grid(level.shape)
        shortest = min(level.frames.spatial_part(grid.largest))
        # An eighth of a tile for its halo: further rounds compute more than another pass would read and write.
        geometry = Geometry(stages.geometry.tile, max(1, shortest // (8 * halo)))
        name = f"{request.chain.name}-level{level.number}"
        chain = replace(request.chain, name=name, legs=(leg,), beside={}, tolerance=None)
        inner = replace(
            request,
            stages=replace(stages, geometry=geometry),
            chain=chain,
            frames=level.frames,
            begin=started,
            beside={},
            output=None,
        )
        return Batches(inner, KINDS["evolve"].make).lay_out()
