"""Fill unknown pixels over tiles: levels of a pyramid, each in rounds from the filled coarser one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.evolution.legs import total_halo
from diffusion_ops.families.level_filling import FilledByLevels
from pipelines.image.window import Grid, Window, extent
from pipelines.plan.batches import Batches, request_after
from pipelines.plan.plan import Geometry
from pipelines.plan.stages import ChainRequest, Image
from pipelines.steady.held import require_held_pixels
from pipelines.steady.preparation import Survey
from pipelines.steady.pyramid import FillWhole, Halve, Level, Start
from pipelines.steady.result import Result, scene_of
from pipelines.steady.scene import Scene
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Done
from pipelines.tasks.work import KINDS, Conclusion


@KINDS.register("fill-by-levels")
@dataclass(frozen=True)
class FillByLevels(Result):
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
    def scene_bytes(self) -> int:
        """What is read, and where it is known."""
        return self.scene.held_bytes() + 1

    @property
    def more_bytes(self) -> int:
        """The filled pixels, with the known ones among them, the result, and the original of invalid ones."""
        image, filled = self.scene.image.dtype, self.filled.dtype
        types = filled, np.result_type(image, filled), self.result_type, image
        return self.scene.image.channels * sum(one.itemsize for one in types) + 4

    def compute(self, window: Window) -> Done:
        """Return the result of a tile."""
        setting, problem = self.scene.setting(window.read), self.scene.problem
        assert isinstance(problem, FilledByLevels)
        filled = np.nan_to_num(self.filled.fields(self.scene.frames, window.read), nan=0.0)
        problem.settle(filled, self.parts)
        values = problem.result(filled, setting, np.ones(setting.spatial, bool))
        done = self.finished(values, setting, window)
        return Done(done.reshape(extent(window.write)), {}, filled.nbytes)

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return how many levels there were of more than one tile, and how many rounds on each."""
        problem = self.scene.problem
        assert isinstance(problem, FilledByLevels)
        if concluded is None:
            return {}
        return {"fillings": {"position": self.position, "levels": self.levels, "rounds": problem.rounds}}


@dataclass(frozen=True)
class _Layout:
    """Lays out the stages of one problem."""

    request: ChainRequest
    scene: Scene

    @property
    def common(self) -> dict[str, Any]:
        """What all stages have."""
        return {"scene": self.scene, "position": self.request.chain.positions[-1]}

    def lay_out(self) -> Image:
        """Add the stages, and return the result."""
        stages, levels = self.request.stages, self._levels()
        whole, needs = levels.pop()
        fill = FillWhole(**self.common, level=whole, target=self._state("filled", whole))
        title = f"fill level {whole.number} and the coarser ones"
        filled = self._image(fill, whole, stages.add(title, fill, stages.grid(whole.shape), needs=needs))
        for level, needs in reversed(levels):
            filled = self._rounds(level, self._start(level, filled, needs))
        parts: dict[str, Any] = {"filled": filled.reading, "levels": len(levels)}
        return FillByLevels.add(self.request, self.scene, filled.stages, **parts)

    def _levels(self) -> list[tuple[Level, tuple[int, ...]]]:
        """Add the stages that make the levels down to one of a single tile; return each with those that write it."""
        stages, scene, name = self.request.stages, self.scene, self.request.chain.name
        after = request_after(self.request)
        survey = stages.add(f"survey for {name}", Survey(**self.common), stages.grid(scene.shape), after)
        held = require_held_pixels(stages, scene, name, self.common["position"], after)
        # Nothing is written until it is certain that there is something to fill, and an answer.
        levels, needs = [(Level(scene, 0, scene.shape), (*after, survey, *held))], (survey, *held)
        while len(stages.grid(levels[-1][0].shape)) > 1:
            fine = levels[-1][0]
            coarse = fine.coarser(f"{stages.folder}/state", f"{name}@known")
            assert coarse.values is not None
            halve = Halve(**self.common, level=fine, target=coarse.values)
            title = f"halve to level {coarse.number}"
            number = stages.add(title, halve, stages.grid(coarse.shape), after, needs)
            after, needs = (number,), ()
            levels.append((coarse, after))
        return levels

    def _state(self, name: str, level: Level) -> ZarrPixels:
        return self.request.stages.array("state", f"{self.request.chain.name}@{name}{level.number}")

    def _start(self, level: Level, below: Image, needs: tuple[int, ...]) -> Image:
        """Add the stage that starts a level from the filled coarser one, and return what it writes."""
        stages, target = self.request.stages, self._state("start", level)
        parts: dict[str, Any] = {"below": below.reading, "below_shape": below.shape}
        start = Start(**self.common, level=level, target=target, **parts)
        title = f"start level {level.number}"
        number = stages.add(title, start, stages.grid(level.shape), below.stages, needs)
        return replace(
            self._image(start, level, number), carried=Carried.beside(target, 1, self.scene.frames)
        )

    def _image(self, work: Any, level: Level, stage: int) -> Image:
        reading = Reading(work.writes, level.dtype, None, self.scene.image.channels)
        return Image(reading, level.shape, (stage,))

    def _rounds(self, level: Level, started: Image) -> Image:
        """Add the passes with the rounds on a level, and return what they fill."""
        request, stages, problem = self.request, self.request.stages, self.scene.problem
        assert isinstance(problem, FilledByLevels)
        leg = problem.leg(level.number)
        halo = max(total_halo([replace(leg, cycles=leg.cycles[:1])], level.frames.spacing))
        grid: Grid = stages.grid(level.shape)
        shortest = min(level.frames.spatial_part(grid.largest))
        # An eighth of a tile for its halo: further rounds compute more than another pass would read and write.
        geometry = Geometry(stages.geometry.tile, max(1, shortest // (8 * halo)))
        name = f"{request.chain.name}@level{level.number}"
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
