"""Run a front through an image: tiles are visited until no side of any tile changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.families.fronts.front import Front, times_type
from diffusion_ops.families.fronts.land import LandError
from diffusion_ops.families.fronts.patches import run_through
from pipelines.image.window import Region
from pipelines.kinds.fronts.tiles import (
    LEAST,
    MARKED,
    UNFIT,
    WALLED,
    Land,
    Latest,
    begin_visit,
    load,
    no_start,
)
from pipelines.kinds.fronts.visits import TileVisits
from pipelines.plan.batches import request_after, request_inputs
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.tasks.inputs import Reading
from pipelines.tasks.work import KINDS


@KINDS.register("front")
@dataclass(frozen=True)
class FrontVisits(TileVisits, ChainWork):
    """Visit tiles until no side of any tile changes."""

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages that find the markers, run the front, and write the result."""
        request.refuse_part(
            "runs through the whole image, so a part alone cannot be computed. Run the spec, and verify it."
        )
        stages, begin, frames, name = request.stages, request.begin, request.frames, request.chain.name
        problem = request.chain.legs[-1].operator
        assert isinstance(problem, Front)
        problem.require_channels(begin.reading.channels)
        shape = stages.with_channels(begin.shape, problem.result_channels(begin.reading.channels))
        wanted = request.final_dtype(problem.result_type(begin.reading.dtype, None))
        kind = times_type(frames.spatial_part(shape), wanted)
        inputs, beside = request_inputs(request), request.beside.get("markers")
        markers = None if beside is None else beside.reading
        land = Land(problem, inputs, markers, frames, begin.shape, kind, problem.gives_labels)
        grid, after = stages.grid(shape), request_after(request)
        targets = request.target(0, None), request.target(1, None)
        position, latest = request.chain.positions[-1], Latest.beside(targets, frames, land.labelled)
        visits: TileVisits = cls(land, latest, kind, position, f"{stages.folder}/visits/{name}.npy")
        runs = [visits]
        if problem.accuracy == 2:
            latest = Latest((request.target(3, None), request.target(4, None)), None)
            merged = f"{stages.folder}/visits/{name}-second.npy"
            second: Any = KINDS["second-order"].make(
                land=land, latest=latest, dtype=kind, position=position, merged=merged, front=visits
            )
            runs.append(second)
        starts = tuple(enumerate(runs, start=stages.following + 1))
        seek = KINDS["seek"].make(land=land, grid=grid, starts=starts, position=position)
        needs = [stages.add(f"find where {name} starts", seek, grid, after)]
        for title, run in zip(("run the front of", "raise the order of"), runs, strict=False):
            needs.append(stages.add(f"{title} {name}", run, grid, after, (*needs, *request.needs)))
        target = request.target(2, request.output)
        fill = problem.fill_value(wanted, frames.nodata) if request.output is not None else None
        settle = KINDS["settle"].make(
            land=land, runs=tuple(runs), grid=grid, target=target, dtype=wanted, fill=fill
        )
        done = stages.add(f"write {name}", settle, grid, after, tuple(needs))
        return Image(Reading(target, wanted, None, 1), shape, (done,))

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> FrontVisits:
        """Return the work with statistics of its inputs replaced by their values.

        Raises
        ------
        ValueError
            For values that no front can run through, and where there is no marker that one can start from.
        """
        found = values.get(self.position, {})
        if found.get(UNFIT):
            raise LandError(found[LEAST], int(found[UNFIT]), self.land.problem.is_speed)
        if found.get(MARKED) == 0:
            raise ValueError(no_start(self.land, int(found[WALLED])))
        return super().bind(values)

    # ---- what a task does

    def visit(
        self, region: Region, changes: dict[int, float]
    ) -> tuple[NDArray[Any], NDArray[Any] | None, int]:
        """Let the front run through one frame of the tile."""
        land = self.land
        assert self.grid is not None
        window, read_bytes = load(self.latest, land, self.grid, region, dict(self.seen))
        before = window.sides()
        ground, more = begin_visit(land, window, region, first=not self.visits)
        run_through(window, ground.image, land.problem.is_speed, land.frames.spacing, land.problem.limit)
        self.note(changes, window.changes(before))
        window.times[window.inner][window.walls] = np.nan
        labels = None if window.labels is None else window.labels[window.inner]
        return window.times[window.inner], labels, read_bytes + more
