"""Find unknown pixels that walls part from all known ones, before anything is filled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Statistic, Tally, make_statistic
from diffusion_ops.families.inpainting import require_held
from diffusion_ops.families.segmentation.hysteresis import STRONG, WEAK, Hysteresis
from diffusion_ops.families.steady_state import valid_cells_of
from pipelines.image.window import Grid, Region, Window, extent
from pipelines.plan.stages import Stages
from pipelines.steady.scene import Scene
from pipelines.steady.step import REFUSED, Step
from pipelines.store.places import local_copy
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told

ALONG_AXES = Hysteresis(framed=True, connectivity=1)
"""No flux goes along diagonals."""


@dataclass(frozen=True)
class Passable(Pixels):
    """1 at valid pixels, 2 at those that are known, 0 at walls."""

    scene: Scene

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The arrays that the scene reads."""
        return tuple(array for pixels in self.scene.sources for array in pixels.stored)

    @property
    def decoding_bytes(self) -> int:
        """What the scene's pixels take, one after another."""
        return max(pixels.decoding_bytes for pixels in self.scene.sources)

    @property
    def cell_bytes(self) -> int:
        """A window of the scene."""
        return self.scene.bytes_per_cell()

    def read(self, region: Region) -> NDArray[Any]:
        """Return a region, of one channel."""
        setting = self.scene.setting(region)
        known = self.scene.problem.known(setting)
        classes = np.where(valid_cells_of(setting), np.where(known, STRONG, WEAK), 0).astype(np.int8)
        joint = self.scene.frames.together
        pairs = zip(self.scene.frames.axes, extent(region), strict=True)
        return classes.reshape([1 if a == "c" and a in joint else n for a, n in pairs])


@dataclass(frozen=True)
class RequireHeld(Step):
    """Refuse unknown pixels that no known one holds.

    Attributes
    ----------
    merged : str
        File of the pieces of the image that reach over tiles and hold a known pixel.
    """

    merged: str = field(kw_only=True)

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """The number of pixels that are not held."""
        return {"pixels": make_statistic("mean")}

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the scene, and the labels of a tile."""
        cells = math.prod(self.scene.frames.spatial_part(grid.largest))
        # The classes of the cells are of one byte.
        memory = cells * (self.scene.bytes_per_cell() + 1 + ALONG_AXES.cell_bytes) + self.codec_bytes
        return Cost(memory, math.prod(grid.shape) * self.scene.image.dtype.itemsize, 0)

    def rehearse(self, walls: bool) -> None:
        """Join a few cells, which compiles the kernels of that or loads them."""
        ALONG_AXES.rehearse(np.dtype(np.int8), 1 + len(self.scene.frames.spatial))

    def compute(self, window: Window) -> Done:
        """Return how many pixels of a tile are not held."""
        frames = self.scene.frames
        origin = tuple(s.start for s in frames.spatial_part(window.read))
        tile = frames.fields(Passable(self.scene).read(window.read))
        merged = np.load(local_copy(self.merged), mmap_mode="r")
        held = ALONG_AXES.complete(tile, (0, *origin), (2, *self.scene.spatial), merged)
        lost = np.array([np.count_nonzero((tile == WEAK) & ~held)])
        return Done(None, {"pixels": Tally(np.zeros(1, np.int64), lost)}, tile.nbytes)

    def conclude(self, told: Told) -> Conclusion:
        """Refuse them."""
        try:
            require_held(int(told.tallies["pixels"].counts.sum()))
        except ValueError as error:
            return Conclusion(bound={-1 - self.position: {f"{REFUSED}{error}": 0.0}})
        return Conclusion()


def require_held_pixels(
    stages: Stages, scene: Scene, name: str, position: int, after: tuple[int, ...]
) -> tuple[int, ...]:
    """Add the stages that refuse pixels without an answer, where a mask makes walls; return the last one's number."""
    if "mask" not in scene.beside:
        return ()
    merged, grid = f"{stages.folder}/merged/{name}.npy", stages.grid(scene.shape)
    classes = Reading(Passable(scene), np.dtype(np.int8))
    tell = KINDS["tell"].make(reads=classes, frames=scene.frames, completion=ALONG_AXES, merged=merged)
    told = stages.add("find what walls part: tell", tell, grid, after)
    check = RequireHeld(scene=scene, position=position, merged=merged)
    return (stages.add("find what walls part", check, grid, after, needs=(told,)),)
