"""Collect the stages of a run, and name the arrays that they write."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipelines.image.window import Grid, Region
from pipelines.plan.plan import Geometry, Output, Stage
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import NoPixels, ZarrPixels
from pipelines.tasks.work import Frames, Work


@dataclass(frozen=True)
class Image:
    """The result of a step, or the source, on one level.

    Attributes
    ----------
    reading : Reading
    shape : tuple of int
        Per canonical axis.
    stages : tuple of int
        That write it.
    """

    reading: Reading
    shape: tuple[int, ...]
    stages: tuple[int, ...] = ()


@dataclass
class StageList:
    """Stages one after another, and what all of them share.

    Attributes
    ----------
    frames : Frames
    workdir : str
    geometry : Geometry
    roi : tuple of slice or None
        Part of the image that the result holds: then all before the last batch is computed as it is read.
    stages : list of Stage
    states : list of int
        Stages that write a state between batches.
    """

    frames: Frames
    workdir: str
    geometry: Geometry
    roi: Region | None = None
    stages: list[Stage] = field(default_factory=list)
    states: list[int] = field(default_factory=list)

    def add(
        self,
        title: str,
        work: Work,
        grid: Grid,
        after: tuple[int, ...] = (),
        needs: tuple[int, ...] = (),
    ) -> int:
        """Append a stage and return its number."""
        self.stages.append(Stage(title, work, grid, after, needs))
        return len(self.stages) - 1

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """Return the tiles of an image."""
        return Grid(shape, self.geometry.tile)

    def array(self, name: str, path: str) -> ZarrPixels:
        """Return an array of the run's folder."""
        return ZarrPixels(f"{self.workdir}/{name}", path, self.frames.axes, self.frames.axes)

    def level(self, output: Output, number: int) -> ZarrPixels:
        """Return an array of a result."""
        level = output.levels[number]
        return ZarrPixels(f"{self.workdir}/{output.folder}", level.path, level.info.axes, self.frames.axes)

    def with_channels(self, shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
        """Return a shape with another number of channels, where they are joint."""
        joint = "c" in self.frames.together
        pairs = zip(self.frames.axes, shape, strict=True)
        return tuple(channels if joint and a == "c" else n for a, n in pairs)

    @staticmethod
    def original(output: Output, source: Reading) -> Reading:
        """Return what invalid pixels of a result get back."""
        if output.blank is None:
            return source
        return Reading(NoPixels(output.blank), np.dtype(np.float64), None, 1)
