"""Solve steady states over tiles: set-up, cycles until the tolerance, part by part, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.statistic import Statistic, Tally, make_statistic
from diffusion_ops.families.steady_state import TOLERANCE
from diffusion_ops.steady.couplings import CELL
from pipelines.image.window import Grid, Region, Window, extent, window_of
from pipelines.plan.batches import request_after
from pipelines.plan.stages import ChainRequest, Image
from pipelines.refusal import RefusedError
from pipelines.steady.collect import Collect, reached_cells
from pipelines.steady.cycle import Coarse, Down, Up
from pipelines.steady.preparation import SetUp, Survey
from pipelines.steady.result import Result, scene_of
from pipelines.steady.scene import Scene
from pipelines.steady.stacks import StackedPixels
from pipelines.steady.step import TOGETHER
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Done
from pipelines.tasks.work import KINDS, Conclusion, Told


@KINDS.register("steady-state")
@dataclass(frozen=True)
class Finish(Result):
    """Write the result of the collected answers.

    Attributes
    ----------
    labels, rows, held, collected : StackedPixels
        Rows are kept because they lie beside the labels, which a resumed run looks at.
    collector : int
        Number of the stage that collects the answers.
    """

    labels: StackedPixels = field(kw_only=True)
    rows: StackedPixels = field(kw_only=True)
    held: StackedPixels = field(kw_only=True)
    collected: StackedPixels = field(kw_only=True)
    collector: int = field(kw_only=True)

    level_bytes = 50
    sections = ("steady_states",)

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages of a problem."""
        refuse_unable(request.chain.legs[-1].operator, "c" in request.frames.together)
        return _Layout(request, scene_of(request), request.chain.positions[-1]).lay_out()

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The scene, the labels, and the collected answers."""
        return (*super().sources, self.labels, self.held, self.collected)

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The arrays that it reads, and the rows."""
        return (*super().stored, self.rows)

    @property
    def more_bytes(self) -> int:
        """The arrays, and the result in float64 and in its own type."""
        return 8 * (3 * self.collected.count + 2)

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """Numbers of pixels that are left open, and that nothing reaches."""
        return {"pixels": make_statistic("mean")}

    def moved(self, pixels: Pixels, carried: object) -> Finish:
        """Return the work that reads the answers from where they were collected last."""
        assert isinstance(pixels, StackedPixels)
        return replace(self, collected=pixels)

    def window(self, region: Region) -> Window:
        """Return the region in whole cells, with the next ones, and all channels."""
        read = []
        for axis, (s, n) in enumerate(zip(region, self.scene.shape, strict=True)):
            along = self.scene.frames.axes[axis] in self.scene.frames.spatial
            start = max(0, (s.start - 1) // CELL * CELL)
            read.append(slice(start, min(n, -(-(s.stop + 1) // CELL) * CELL)) if along else slice(0, n))
        whole = window_of(region, self.scene.shape, (0,) * len(region))
        keep = tuple(slice(s.start - r.start, s.stop - r.start) for s, r in zip(region, read, strict=True))
        return replace(whole, read=tuple(read), keep=keep)

    def compute(self, window: Window) -> Done:
        """Return the result of a tile."""
        setting, grid = self.scene.couplings(window.read)
        keep, problem = self.scene.frames.spatial_part(window.keep), self.scene.problem
        there = grid.image(reached_cells(self.scene, setting, grid, window.read, self.labels, self.held))
        arrays = self.collected.read(window.read)[(slice(None), *keep)]
        inside, bound = setting.part(keep), self._tolerance
        if problem.error_bound:
            arrays, bound = arrays[:-1], arrays[-1]
        values = problem.result(arrays, inside, there[keep])
        valid = inside.valid
        unknown = ~problem.known(inside) if valid is None else valid & ~problem.known(inside)
        open_ = problem.open_cells(arrays, bound)
        counts = [
            0 if open_ is None else np.count_nonzero(open_ & unknown),
            np.count_nonzero(unknown & ~there[keep]),
        ]
        tally = Tally(np.array([0, 1]), np.array(counts))
        done = self.finished(values, inside, window)
        return Done(done.reshape(extent(window.write)), {"pixels": tally}, arrays.nbytes)

    @property
    def _tolerance(self) -> float:
        return TOLERANCE if self.scene.tolerance is None else self.scene.tolerance

    def conclude(self, told: Told) -> Conclusion:
        """Return the numbers of cycles and pixels."""
        tally = told.tallies["pixels"]
        counts = dict(zip(tally.keys.tolist(), tally.counts.tolist(), strict=True))
        pixels = {"open": float(counts.get(0, 0)), "unreached": float(counts.get(1, 0))}
        return Conclusion({**told.earlier[self.collector].values, **pixels})

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return how many cycles there were, what they have left, and the pixels that are left open or unreached."""
        if concluded is None:
            return {}
        v = concluded.values
        numbers = {name: int(v[name]) for name in ("cycles", "open", "unreached")}
        found = {"position": self.position, "tolerance": self._tolerance, **numbers}
        if "bound" in v:
            found |= {"error_bound": v["bound"], "cycles_of_the_bound": int(v["cycles of the bound"])}
        return {"steady_states": {**found, "largest_correction": v["largest correction"]}}


@dataclass(frozen=True)
class _Layout:
    """Lays out the stages of one problem."""

    request: ChainRequest
    scene: Scene
    position: int

    def stack(self, name: str, count: int, kind: str = "pixels") -> StackedPixels:
        """Return an array of the problem."""
        root = f"{self.request.stages.folder}/state"
        return StackedPixels.of(self.scene.frames, root, f"{self.request.chain.name}-{name}", count, kind)

    def grid(self) -> Grid:
        """Return tiles in whole cells."""
        scene, tile = self.scene, self.request.stages.geometry.tile
        spatial = (a in scene.frames.spatial for a in scene.frames.axes)
        whole = tuple(
            -(-t // CELL) * CELL if along else n
            for t, n, along in zip(tile, scene.shape, spatial, strict=True)
        )
        return Grid(scene.shape, whole)

    def lay_out(self) -> Image:
        """Add the stages, and return the result."""
        stages, grid, scene = self.request.stages, self.grid(), self.scene
        labels, rows, held = (
            self.stack("labels", 1),
            self.stack("rows", 1, "rows"),
            self.stack("held", 1, "nodes"),
        )
        name = scene.problem.name
        common: dict[str, Any] = {"scene": scene, "position": self.position}
        survey = stages.add(f"survey for {name}", Survey(**common), grid, request_after(self.request))
        made = SetUp(**common, labels=labels, rows=rows)
        ready = stages.add(f"set up the levels for {name}", made, grid, needs=(survey,))
        arrays: dict[str, Any] = {
            "labels": labels,
            "state": self.stack("state@0.0", 2 * TOGETHER),
            "rest": self.stack("rest@0.0", TOGETHER, "nodes"),
            "correction": self.stack("correction@0.0", TOGETHER, "nodes"),
            "z": self.stack("z@0.0", TOGETHER),
        }
        down = Down(**common, **arrays)
        coarse = Coarse(**common, **arrays, rows=rows, held=held)
        first = stages.following
        up = Up(**common, **arrays, number=first, survey=survey, down=down, coarse=coarse)
        stages.add("go down to the fourth level", down, grid, needs=(ready,))
        stages.add("correct the fourth level", coarse, Grid(scene.shape, scene.shape), needs=(first,))
        stages.add("go up and decide", up, grid, needs=(first + 1,))
        parts = scene.problem.planned_parts(scene.image.channels)
        count = scene.problem.collected_arrays(parts) + bool(scene.problem.error_bound)
        target = self.stack("answers@0", count)
        collect = Collect(**common, state=arrays["state"], target=target, held=held, up=up)
        stages.add("collect the answers", collect, grid, needs=(first + 2,))
        return Finish.add(
            self.request,
            scene,
            (first + 3,),
            labels=labels,
            rows=rows,
            held=held,
            collected=collect.target,
            collector=first + 3,
        )


def refuse_unable(problem: Any, joint: bool) -> None:
    """Refuse a problem that is solved in memory only.

    Raises
    ------
    RefusedError
    """
    if not problem.is_linear:
        raise RefusedError(
            f"{problem.name}: this way is possible in memory only. Solve it with diffusion_ops.solve."
        )
    if problem.stacks and not problem.planned_parts(1):
        raise RefusedError(
            f"{problem.name}: over files the number of probabilities has to be known before the markers are read. "
            "Give labels, the number of different labels that they hold."
        )
    if problem.stacks and not joint:
        raise RefusedError(
            f"{problem.name}: probabilities are the channels of the result, so those of the image belong together. "
            "Give image.channels: joint."
        )
