"""What the stages of a steady state share: the scene, the parts, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from diffusion_ops.blocks.statistic import Tally, ordered_key
from diffusion_ops.families.steady_state import Part
from pipelines.image.window import Grid, Region, Window, window_of
from pipelines.steady.scene import Scene
from pipelines.tasks.pixels import Pixels
from pipelines.tasks.values import Cost
from pipelines.tasks.work import Work

TOGETHER = 2
"""Parts that are solved together, which share the couplings of a window."""

RATE = {"survey": 5e7, "set up": 1.5e6, "down": 5e6, "up": 3.5e6, "collect": 5e7, "write": 2e7}
"""Pixels per second of one core."""

REFUSED = "!"
"""What a value begins with that says why there is no answer; the rest of it is for people."""


def as_numbers(parts: list[Part]) -> dict[str, float]:
    """Return parts as values of a conclusion."""
    found: dict[str, float] = {}
    for part in parts:
        pairs = {"number": part.number, "low": part.low, "span": part.span, "rest": part.rest}
        found.update({f"{name} {part.index}": float(value) for name, value in pairs.items()})
    return found


def as_parts(numbers: Mapping[str, float]) -> tuple[Part, ...]:
    """Return the parts from values of a conclusion."""
    return tuple(
        Part(
            i,
            int(numbers[f"number {i}"]),
            numbers[f"low {i}"],
            numbers[f"span {i}"],
            bool(numbers[f"rest {i}"]),
        )
        for i in range(len(numbers) // 4)
    )


def tally_of_largest(value: float) -> Tally:
    """Return a tile's largest value as a tally of the statistic "maximum"."""
    return Tally(np.array([ordered_key(value)]), np.ones(1, np.int64))


@dataclass(frozen=True)
class Step(Work):
    """What the stages share.

    Attributes
    ----------
    scene : Scene
    position : int
        Position of the problem among the steps of the spec.
    parts : tuple of Part
        All parts, once the survey is complete.
    first : int
        Index of the first part that is solved now.
    """

    scene: Scene
    position: int
    parts: tuple[Part, ...] = ()
    first: int = 0

    title: ClassVar[str]
    level_bytes: ClassVar[int]
    """Memory per pixel of a window for the operator and its levels, in the plane; measured, and a twentieth more."""
    reach: ClassVar[int] = 0
    dtype = np.dtype(np.float64)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The image and what lies beside it."""
        return self.scene.sources

    @property
    def is_state(self) -> bool:
        """True: its arrays are removed when nothing reads them any more."""
        return True

    @property
    def halo(self) -> tuple[int, ...]:
        """Pixels that are read around a tile, per axis of the image."""
        return self.scene.frames.on_axes((self.reach,) * len(self.scene.frames.spatial))

    @property
    def now(self) -> tuple[Part, ...]:
        """The parts that are solved now."""
        return tuple(p for p in self.parts[self.first : self.first + TOGETHER] if not p.rest)

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Work:
        """Return the work with the statistics' values and the parts.

        Raises
        ------
        ValueError
            Where a stage has found that there is no answer.
        """
        for some in values.values():
            for word in some:
                if word.startswith(REFUSED):
                    raise ValueError(word.removeprefix(REFUSED))
        parts = values.get(-1 - self.position)
        bound = self.scene.bound(dict(values.get(self.position, {})))
        return replace(self, scene=bound, parts=as_parts(parts) if parts else ())

    def window(self, region: Region) -> Window:
        """Return the region with the halo, and whole channels of the image."""
        return window_of(region, self.scene.shape, self.halo)

    @property
    def may_have_walls(self) -> bool:
        """Whether what it reads may have invalid pixels."""
        return self.scene.may_have_walls

    def rehearse(self, walls: bool) -> None:
        """Solve a problem on a few cells, which compiles all kernels or loads them."""
        self.scene.rehearse(walls)

    @property
    def kernels_bytes(self) -> int:
        """Memory of the kernels of all stages."""
        return self.scene.problem.kernels_bytes

    @property
    def compiled_for(self) -> frozenset[str]:
        """The problem."""
        return frozenset({type(self.scene.problem).__name__})

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the levels of a window, and its arrays."""
        # All channels are read together, and most of the memory does not depend on their number.
        _, cells = self.scene.frames.split_cells(grid, self.halo)
        tile, total = (math.prod(self.scene.frames.spatial_part(s)) for s in (grid.largest, grid.shape))
        levels = self.level_bytes * (9 if len(self.scene.frames.spatial) == 3 else 5) // 5
        memory = cells * (self.scene_bytes + levels + self.more_bytes) + self.codec_bytes + (2 << 20)
        ratio = cells / tile
        read = int(total * ratio * (self.scene.image.channels * self.scene.image.dtype.itemsize + 8))
        return Cost(memory, read, 8 * total, seconds=total * ratio / RATE[self.title])

    @property
    def scene_bytes(self) -> int:
        """Memory per pixel of a window of the scene."""
        return self.scene.window_bytes()

    @property
    def more_bytes(self) -> int:
        """Memory per pixel of a window beside its levels."""
        return 0
