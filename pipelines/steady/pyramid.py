"""The stages that fill by levels: levels of what is known, the coarsest filled in one task, and starts of the others.

The rounds on a level are those of an operator, so between these stages the passes of any evolution lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.blocks.window import doubling_window
from diffusion_ops.families.level_filling import HALVED_HALO, STARTED_HALO, FilledByLevels, Partial
from diffusion_ops.kernels.multigrid.couplings import KNOWN, UNKNOWN, WALL
from pipelines.image.frames import Frames
from pipelines.image.pyramid import reduced_shape
from pipelines.image.window import Grid, Region, Window, extent, grown_cells, window_of
from pipelines.steady.scene import Scene
from pipelines.steady.step import Step
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done, NewArray

HALVE_RATE, START_RATE, FILL_RATE = 2e7, 2e7, 1.5e5
"""Pixels per second of one core that are halved, interpolated, and filled with all rounds."""


@dataclass(frozen=True)
class Level:
    """What is known on a level: of the image itself, or means with a flag beside them.

    Attributes
    ----------
    scene : Scene
    number : int
        How many times the image is halved.
    shape : tuple of int
        Shape of the level, per axis of the image.
    values : ZarrPixels or None
        Means, 0 where none is known; None for the image itself.
    flags : Carried or None
        The kind of each cell: wall, unknown, known.
    """

    scene: Scene
    number: int
    shape: tuple[int, ...]
    values: ZarrPixels | None = None
    flags: Carried | None = None

    @property
    def frames(self) -> Frames:
        """Axes and spacing of the level."""
        return self.scene.frames.at(self.number)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return working_dtype(self.scene.image.dtype)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """All pixels that are read."""
        if self.values is None or self.flags is None:
            return self.scene.sources
        return self.values, self.flags.pixels

    @property
    def held_bytes(self) -> int:
        """Memory per cell of what is read."""
        return self.scene.image.channels * self.dtype.itemsize + 2

    @property
    def cell_bytes(self) -> int:
        """Memory per cell that reading takes beside what is read."""
        if self.values is None:
            image = self.scene.image
            return max(
                self.scene.reading_bytes(), image.channels * (image.dtype.itemsize + self.dtype.itemsize) + 2
            )
        return self.held_bytes + 1

    @property
    def walled(self) -> bool:
        """Whether there may be walls: what is invalid without a mask is unknown."""
        return "mask" in self.scene.beside

    @property
    def axes(self) -> list[bool]:
        """Which axes are halved."""
        return [a in self.frames.spatial for a in self.frames.axes]

    def read(self, region: Region) -> Partial:
        """Return a region."""
        if self.values is None or self.flags is None:
            setting = self.scene.setting(region)
            return Partial.of(setting, self.scene.problem.known(setting))
        fields = self.frames.fields(self.values.read(region))
        kind = self.flags.pixels.read(self.flags.region(region)).reshape(fields.shape[1:])
        return Partial(fields, kind == KNOWN, kind != WALL)

    def coarser(self, root: str, name: str) -> Level:
        """Return the next level, to be written into arrays of that name."""
        shape = reduced_shape(self.shape, tuple(1 + along for along in self.axes))
        values = ZarrPixels(root, f"{name}{self.number + 1}", self.frames.axes, self.frames.axes)
        return Level(self.scene, self.number + 1, shape, values, Carried.beside(values, 1, self.frames))


@dataclass(frozen=True)
class OnLevel(Step):
    """A stage that writes values of a level, and a number beside each pixel."""

    level: Level = field(kw_only=True)
    target: ZarrPixels = field(kw_only=True)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The level."""
        return self.level.sources

    @property
    def writes(self) -> ZarrPixels:
        """The values."""
        return self.target

    @property
    def carries(self) -> Carried | None:
        """The numbers beside them."""
        return Carried.beside(self.target, 1, self.scene.frames)

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return both arrays."""
        made = NewArray(self.target, grid.shape, grid.tile, self.level.dtype)
        if self.carries is None:
            return (made,)
        shapes = self.carries.shape(grid.shape), self.carries.shape(grid.tile)
        return made, NewArray(self.carries.pixels, *shapes, np.dtype(np.int8))

    def stored_bytes(self, cells: int) -> int:
        """Return the bytes of so many cells of all channels."""
        return cells * self.scene.image.channels * self.level.dtype.itemsize

    def done(self, window: Window, values: Any, numbers: Any, read_bytes: int) -> Done:
        """Return the values of a tile, (channels, *spatial), and the numbers beside them."""
        shape = extent(window.write)
        carried = None if self.carries is None else numbers.astype(np.int8).reshape(self.carries.shape(shape))
        return Done(values.reshape(shape), {}, read_bytes, carried)


@dataclass(frozen=True)
class Halve(OnLevel):
    """Make the next coarser level of what is known."""

    def window(self, region: Region) -> Window:
        """Return the cells of the finer level that a region stands for, and those around that its walls depend on."""
        fine = tuple(
            slice(2 * s.start, min(2 * s.stop, n)) if along else s
            for s, n, along in zip(region, self.level.shape, self.level.axes, strict=True)
        )
        return replace(window_of(fine, self.level.shape, self.halo), write=region)

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells of the finer level that are read around, per axis of the image."""
        return tuple(HALVED_HALO * along for along in self.level.axes)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the finer cells as they are read, or with what halving them takes."""
        sides = zip(grid.largest, self.level.axes, self.halo, strict=True)
        fine = math.prod(n * (1 + along) + 2 * halo for n, along, halo in sides)
        cells = fine // self.scene.image.channels
        total = math.prod(self.level.shape)
        channels, item = self.scene.image.channels, self.level.dtype.itemsize
        halved = Partial.halved_bytes(channels, item, self.level.walled)
        memory = math.ceil(cells * (self.level.held_bytes + max(self.level.cell_bytes, halved)))
        return Cost(
            memory + self.codec_bytes,
            self.stored_bytes(total),
            self.stored_bytes(math.prod(grid.shape)),
            seconds=total / HALVE_RATE,
        )

    def compute(self, window: Window) -> Done:
        """Return the means of a tile, and the kinds of its cells."""
        finer = self.level.read(window.read)
        inside = zip(window.write, window.read, self.level.axes, strict=True)
        starts = (r.start // 2 if along else r.start for _, r, along in inside)
        own = tuple(slice(w.start - s, w.stop - s) for w, s in zip(window.write, starts, strict=True))
        coarse = finer.halved().part(self.level.frames.spatial_part(own))
        kind = np.where(coarse.known, KNOWN, np.where(coarse.valid, UNKNOWN, WALL))
        return self.done(window, coarse.fields, kind, finer.fields.nbytes)


@dataclass(frozen=True)
class Start(OnLevel):
    """Start a level from the filled coarser one, and flag its unknown cells.

    Attributes
    ----------
    below : Reading
        The coarser level, NaN where it has no value.
    below_shape : tuple of int
    """

    below: Reading = field(kw_only=True)
    below_shape: tuple[int, ...] = field(kw_only=True)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The level, and the coarser one."""
        return (*super().sources, self.below.pixels)

    def window(self, region: Region) -> Window:
        """Return the cells of the coarser level around a region."""
        return replace(
            doubling_window(self._around(region).read, self.below_shape, self.level.axes), write=region
        )

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells of the level that are read around, per axis of the image."""
        return tuple(STARTED_HALO * along for along in self.level.axes)

    def _around(self, region: Region) -> Window:
        """Return the cells of the level that the start of a region depends on."""
        return window_of(region, self.level.shape, self.halo)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the level as it is read, or with the coarser one and what starting takes."""
        channels, total = self.scene.image.channels, math.prod(grid.shape)
        cells = grown_cells(grid, self.halo) // channels
        item = self.level.dtype.itemsize
        started = Partial.started_bytes(channels, item, self.level.walled) + channels * item / 2
        memory = math.ceil(cells * (self.level.held_bytes + max(self.level.cell_bytes, started)))
        memory += self.codec_bytes
        return Cost(
            memory, 2 * self.stored_bytes(total), self.stored_bytes(total), seconds=total / START_RATE
        )

    def compute(self, window: Window) -> Done:
        """Return the start of a tile, NaN where it has none, and its flags."""
        around, frames, problem = self._around(window.write), self.scene.frames, self.scene.problem
        assert isinstance(problem, FilledByLevels)
        level, below = self.level.read(around.read), self.below.fields(frames, window.read)
        parts = (frames.spatial_part(p) for p in (window.read, window.keep, around.read, window.open_sides))
        started = level.started(below, ~np.isnan(below[0]), Window(*parts))
        values, has = problem.begun(*started, level, self.parts, self.level.number)
        values[:, ~has] = np.nan
        own = frames.spatial_part(around.keep)
        flags = (has & ~level.known)[own]
        return self.done(window, values[(slice(None), *own)], flags, level.fields.nbytes + below.nbytes)


@dataclass(frozen=True)
class FillWhole(OnLevel):
    """Fill a level that is no larger than a tile, with all that are coarser, in one task."""

    @property
    def carries(self) -> Carried | None:
        """None: nothing is left to do there."""
        return None

    def window(self, region: Region) -> Window:
        """Return the whole level."""
        return window_of(region, self.level.shape, (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the levels from here on, and the rounds on the finest of them."""
        channels, total = self.scene.image.channels, math.prod(self.level.shape)
        cells, item = grown_cells(grid, (0,) * len(grid.shape)) // channels, self.level.dtype.itemsize
        problem = self.scene.problem
        assert isinstance(problem, FilledByLevels)
        rounds, ndim = problem.leg(0, 1.0).operator, len(self.scene.frames.spatial)
        arrays = rounds.extra_arrays(ndim, False, channels) + rounds.setup_arrays(ndim, channels)
        # Of all levels what is known, and of the finest its start, or a block with its coefficients; then the result.
        started = Partial.started_bytes(channels, item, self.level.walled)
        held = 2.5 * channels * item + 3 + max(self.level.cell_bytes, started, (arrays + 2) * item + 4)
        return Cost(
            math.ceil(cells * held) + self.codec_bytes + (8 << 20),
            self.stored_bytes(total),
            self.stored_bytes(total),
            seconds=problem.rounds / 32 * total / FILL_RATE,
        )

    def compute(self, window: Window) -> Done:
        """Return the filled level, NaN where it has no value."""
        problem, frames = self.scene.problem, self.level.frames
        assert isinstance(problem, FilledByLevels)
        image = self.level.read(window.read)
        filled, has = problem.fill(image, frames.spacing, self.parts, self.level.number)
        values = filled.copy()
        values[:, ~has] = np.nan
        return self.done(window, values, None, image.fields.nbytes)
