"""Follow shortest paths over a map of times, with one part of it in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.families.fronts.paths import (
    MOST_POINTS,
    NO_MARKER,
    POINT_BYTES,
    PathProblem,
    Tracing,
    as_rows,
    unreached,
)
from diffusion_ops.kernels.fronts.descent import REACH
from pipelines.image.frames import Frames
from pipelines.image.sink import LINES
from pipelines.image.window import Grid, Region, Window, window_of
from pipelines.kinds.fronts.tiles import MARKED
from pipelines.plan.batches import request_after, request_inputs
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.store.places import local_copy
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, File, Told

PART_SIDES = {2: 512, 3: 64}
"""Largest sides of the part of a map that is held while paths run through it: they touch few of its cells."""


@KINDS.register("path")
@dataclass(frozen=True)
class Paths(ChainWork):
    """Follow all paths, in one task that reads the map part by part, only where a path runs.

    It is begun anew when it is killed: paths are lines, and take seconds where their map has taken hours.

    Attributes
    ----------
    problem : PathProblem
    inputs : Inputs
        The times, and the mask.
    frames : Frames
    shape : tuple of int
        Of the image.
    part : tuple of int
        Cells of the map in memory at a time, per spatial axis.
    position : int
        Position of the problem among the steps.
    ends : str
        File of the marked pixels.
    lines : str
        File of the points of all paths.
    tables : tuple of str
        Files for tables, with the number of axes before the points.
    """

    problem: PathProblem
    inputs: Inputs
    frames: Frames
    shape: tuple[int, ...]
    part: tuple[int, ...]
    position: int
    ends: str
    lines: str
    tables: tuple[str, ...] = ()
    dtype: np.dtype[Any] = field(default=np.dtype(np.uint8))

    collects = True
    sections = ("paths",)

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages that find the markers, follow the paths, and draw them.

        Raises
        ------
        ValueError
            For several channels, and several images in one.
        """
        request.refuse_part(
            "follows paths through the whole image, so a part alone cannot be computed. Run the spec, and verify it."
        )
        stages, begin, frames, name = request.stages, request.begin, request.frames, request.chain.name
        problem = request.chain.legs[-1].operator
        assert isinstance(problem, PathProblem)
        problem.require_channels(begin.reading.channels)
        shape = stages.with_channels(begin.shape, 1)
        if math.prod(shape) != math.prod(frames.spatial_part(shape)):
            raise ValueError(
                f"{name} takes one plane or volume, the image has {math.prod(shape):,} pixels in several. Give one."
            )
        grid, whole, after = stages.grid(shape), Grid(shape, shape), request_after(request)
        position, folder = request.chain.positions[-1], f"{stages.folder}/paths"
        ends, lines = f"{folder}/{name}-ends.npy", f"{folder}/{name}.npy"
        markers = request.beside["markers"]
        part = tuple(min(n, PART_SIDES[len(frames.spatial)]) for n in frames.spatial_part(grid.largest))
        paths = cls(problem, request_inputs(request), frames, begin.shape, part, position, ends, lines)
        find = KINDS["find-marked"].make(
            markers=markers.reading, frames=frames, shape=begin.shape, position=position, ends=ends
        )
        found = stages.add(f"find the markers of {name}", find, grid, markers.stages)
        needs = (found, *request.needs, *after)
        traced = stages.add(f"follow the paths of {name}", paths, whole, after, needs)
        wanted = request.final_dtype(problem.result_type(begin.reading.dtype, None))
        target = request.target(0, request.output)
        draw = KINDS["draw"].make(frames=frames, shape=shape, lines=lines, target=target, dtype=wanted)
        done = stages.add(f"draw {name}", draw, grid, (), (traced,))
        return Image(Reading(target, wanted, None, 1), shape, (done,), table=traced)

    def with_table(self, path: str) -> Self:
        """Return the work with one more table."""
        return replace(self, tables=(*self.tables, path))

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The times, and the mask."""
        return self.inputs.sources

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, self.shape, (0,) * len(region))

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Self:
        """Return the work with statistics of its inputs replaced by their values.

        Raises
        ------
        ValueError
            Where there is no marker.
        """
        if values.get(self.position, {}).get(MARKED) == 0:
            raise ValueError(NO_MARKER)
        return replace(self, inputs=self.inputs.bind(values))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of a part of the map, read once, and of as many points as there may be."""
        image, cells = self.inputs.image, math.prod(n + 2 * REACH for n in self.part)
        floats = working_dtype(image.dtype).itemsize
        held = cells * (image.stored_itemsize + 3 * floats + 2 + 6 * (self.inputs.mask is not None))
        memory = held + MOST_POINTS * POINT_BYTES + self.codec_bytes
        return Cost(memory, cells * image.dtype.itemsize, 0, seconds=1.0)

    @property
    def compiled_for(self) -> frozenset[str]:
        """The descent."""
        return frozenset({type(self.problem).__name__})

    def rehearse(self, walls: bool) -> None:
        """Follow a path through a few cells, which compiles the kernel or loads it."""
        shape = (3,) * len(self.frames.spatial)
        times = np.indices(shape, working_dtype(self.inputs.image.dtype)).sum(axis=0)
        Tracing(lambda _: times, shape, shape, self.frames.spacing, self.problem.step).trace(
            {(2,) * times.ndim: 1}
        )

    def compute(self, window: Window) -> Done:
        """Return the points of all paths, and the ends that none leads to."""
        shape, read_bytes = self.frames.spatial_part(self.shape), 0

        def read(part: Region) -> NDArray[Any]:
            nonlocal read_bytes
            places = dict(zip(self.frames.spatial, part, strict=True))
            sides = zip(self.frames.axes, window.write, strict=True)
            times = self._times(tuple(places.get(axis, side) for axis, side in sides))
            read_bytes += times.nbytes
            return times

        ends = _by_cell(np.load(local_copy(self.ends)), shape)
        tracing = Tracing(read, shape, self.part, self.frames.spacing, self.problem.step)
        paths = tracing.trace(ends)
        lost = tracing.lost(ends, paths)
        rows = as_rows(paths, len(shape))
        numbers = np.array([np.ravel_multi_index(cell, shape) for cell in lost], np.int64)
        tallies = {
            "points": Tally(np.arange(rows.size), rows.reshape(-1)),
            "lost": Tally(numbers, np.array(list(lost.values()), np.int64)),
        }
        return Done(None, tallies, read_bytes)

    def _times(self, region: Region) -> NDArray[Any]:
        """Return times of a region, NaN at walls."""
        times: NDArray[Any] = self.inputs.image.floats(self.frames, region)[0]
        passable = self.inputs.passable(self.frames, region)
        if passable is not None:
            times[~passable] = np.nan
        return times

    def conclude(self, told: Told) -> Conclusion:
        """Return the number of paths, the files of their points, and what is wrong where ends were not reached."""
        shape = self.frames.spatial_part(self.shape)
        points, missed = told.each
        rows = points.counts.reshape(-1, 3 + len(shape))
        lost = _by_cell(zip(missed.keys, missed.counts, strict=True), shape)
        found = {"paths": float(len(np.unique(rows[:, 0]))), "points": float(len(rows))}
        head = np.zeros((1, rows.shape[1]), np.int64)
        head[0, :2] = len(shape), LINES
        tables = (File(table, np.concatenate([head, rows])) for table in self.tables)
        problem = unreached(lost) if lost else ""
        return Conclusion(found, files=(File(self.lines, rows), *tables), problem=problem)

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return how many paths there are, of how many points."""
        if concluded is None:
            return {}
        return {"paths": {"title": title, **{k: int(v) for k, v in concluded.values.items()}}}


def _by_cell(marked: Iterable[tuple[int, int]], shape: tuple[int, ...]) -> dict[tuple[int, ...], int]:
    """Return labels by the indices of their pixels, from the numbers of these in the image."""
    return {tuple(int(at) for at in np.unravel_index(n, shape)): int(label) for n, label in marked}
