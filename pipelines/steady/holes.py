"""Find boxes around unknown pixels, before any is filled, and refuse those that no task has memory for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.boxes import Boxes, grid_side, join_boxes, region_of, sizes_of, smallest_boxes
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.blocks.window import window_of
from diffusion_ops.families.box_filling import FilledByBoxes
from pipelines.image.window import Grid, Region, Window
from pipelines.steady.scene import Scene
from pipelines.steady.step import REFUSED, Step
from pipelines.store.places import local_copy
from pipelines.tasks.values import Done
from pipelines.tasks.work import Conclusion, File, Told

LEAST_CELLS = 1 << 16
"""Cells of a box that there is always memory for."""

OCCUPIED = 1 / 128
"""Part of the coarse grid that is expected to hold unknown pixels: a plan cannot know it."""


@dataclass(frozen=True)
class Holes:
    """What the stages know of boxes around unknown pixels.

    Attributes
    ----------
    scene : Scene
    room : int
        Bytes that one task has for filling a box.
    path : str
        File of the boxes.
    """

    scene: Scene
    room: int
    path: str

    @classmethod
    def with_room(cls, scene: Scene, grid: Grid, path: str) -> Holes:
        """Return them with as much memory for a box as a tile takes in bytes, or as boxes of `LEAST_CELLS` do."""
        tile = scene.image.channels * math.prod(scene.frames.spatial_part(grid.largest))
        return cls(scene, max(tile, LEAST_CELLS * cls(scene, 0, path).cell_bytes), path)

    @property
    def problem(self) -> FilledByBoxes:
        """The problem."""
        assert isinstance(self.scene.problem, FilledByBoxes)
        return self.scene.problem

    @property
    def margin(self) -> tuple[int, ...]:
        """Cells that are read around a box."""
        return self.problem.box_margin(self.scene.frames.spacing)

    @property
    def side(self) -> int:
        """Side of the coarse grid's cells."""
        return grid_side(max(self.margin))

    @property
    def cell_bytes(self) -> int:
        """Memory per cell of a large box, margin included, with what is read of the scene."""
        whole = (32,) * len(self.scene.spatial)
        filling = self.problem.box_bytes(whole, self.scene.image.channels) // math.prod(whole)
        return filling + self.scene.reading_bytes()

    @property
    def most_cells(self) -> int:
        """About how many cells a box may have, margin included."""
        return self.room // self.cell_bytes

    def window(self, box: NDArray[np.int64]) -> Window:
        """Return what is read for a box, along the spatial axes."""
        return window_of(region_of(box), self.scene.spatial, self.margin)

    def needed(self, box: tuple[int, ...]) -> int:
        """Return the memory of filling a box of these sides."""
        limits = zip(box, self.margin, self.scene.spatial, strict=True)
        sides = tuple([min(side + 2 * more, n) for side, more, n in limits])
        filling = self.problem.box_bytes(sides, self.scene.image.channels)
        return filling + math.prod(sides) * self.scene.reading_bytes()

    def touching(self, region: Region) -> Boxes:
        """Return the boxes of the file that touch a region."""
        boxes = np.load(local_copy(self.path), mmap_mode="r")
        starts, stops = np.split(boxes, 2, axis=1)
        here = (starts < [s.stop for s in region]) & (stops > [s.start for s in region])
        found: Boxes = boxes[here.all(axis=1)]
        return found

    def refusal(self, boxes: Boxes) -> str:
        """Return why boxes cannot be filled, "" where they can."""
        if not len(boxes):
            return ""
        starts, stops = np.split(boxes, 2, axis=1)
        box = max(map(tuple, np.unique(stops - starts, axis=0).tolist()), key=self.needed)
        needed = self.needed(box)
        if needed <= self.room:
            return ""
        sides = " x ".join(f"{n:,}" for n in box)
        return (
            f"The largest hole, with those near it, lies in a box of {sides} pixels, or more. "
            f"{self.problem.name} fills it whole in one task, which takes {needed:,} bytes; allowed are {self.room:,} "
            f"with these tiles. Give tiles of {math.ceil(needed / self.room)} times as many pixels (run.tile) "
            f"and their memory (run.memory). {self.problem.for_large_holes}"
        )


@dataclass(frozen=True)
class FindHoles(Step):
    """Tell the smallest box of the unknown pixels in every cell of a coarse grid, and join these boxes."""

    holes: Holes = field(kw_only=True)

    title = "survey"
    level_bytes = 2
    collects = True

    @property
    def scene_bytes(self) -> int:
        """What is read."""
        return self.scene.reading_bytes()

    def told_bytes(self, grid: Grid) -> int:
        """Return the bytes of all tallies where few cells of the coarse grid are occupied."""
        cells = [math.ceil(n / self.holes.side) for n in self.scene.spatial]
        return int(math.prod(cells) * OCCUPIED * 4 * len(cells) * 8) + 1

    def compute(self, window: Window) -> Done:
        """Return the boxes of a tile: keys are numbers of the coarse grid's cells and of the ends of their boxes."""
        setting = self.scene.setting(window.read)
        origin, side = tuple(s.start for s in self.scene.frames.spatial_part(window.read)), self.holes.side
        boxes = smallest_boxes(self.holes.problem.unknown(setting), side, origin)
        ends = boxes.shape[1]
        counts = [math.ceil(n / side) for n in self.scene.spatial]
        cells = np.ravel_multi_index(tuple((boxes[:, : ends // 2] // side).T), counts)
        keys = (cells[:, None] * ends + np.arange(ends)).reshape(-1)
        return Done(None, {"boxes": Tally(keys, boxes.reshape(-1))}, setting.fields.nbytes)

    def conclude(self, told: Told) -> Conclusion:
        """Return the file of the boxes, or refuse them."""
        ends = 2 * len(self.scene.spatial)
        boxes = np.concatenate([np.zeros(0, np.int64), *(tally.counts for tally in told.each)])
        try:
            boxes = join_boxes(boxes.reshape(-1, ends), self.holes.side, self.holes.most_cells)
            refusal = self.holes.refusal(boxes)
        except ValueError as error:
            refusal = f"{error} {self.holes.problem.for_large_holes}"
        if refusal:
            return Conclusion(bound={-1 - self.position: {f"{REFUSED}{refusal}": 0.0}})
        found = {"boxes": float(len(boxes)), "largest": float(sizes_of(boxes).max(initial=0))}
        return Conclusion(found, files=(File(self.holes.path, boxes),))
