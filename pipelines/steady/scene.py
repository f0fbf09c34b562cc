"""Read a window of what a steady state is solved on: image, markers, known pixels and mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.evolution.problems.solve_request import SolveRequest
from diffusion_ops.families.steady_state import SteadyState, couplings_of
from diffusion_ops.steady.couplings import CELL, Couplings, padded_shape
from diffusion_ops.steady.cycle import Fine
from pipelines.image.frames import Frames
from pipelines.image.window import Region
from pipelines.steady.stacks import StackedPixels
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels


@dataclass(frozen=True)
class Scene:
    """What all stages of a steady state read.

    Attributes
    ----------
    problem : SteadyState
    image : Reading
    beside : mapping
        Readings by "markers", "known" and "mask".
    frames : Frames
    shape : tuple of int
        Shape of the image, per axis.
    tolerance : float or None
    """

    problem: SteadyState
    image: Reading
    beside: dict[str, Reading]
    frames: Frames
    shape: tuple[int, ...]
    tolerance: float | None

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """All pixels that are read."""
        return (self.image.pixels, *(reading.pixels for reading in self.beside.values()))

    @property
    def spatial(self) -> tuple[int, ...]:
        """Shape of the image along the axes that belong together."""
        found: tuple[int, ...] = self.frames.spatial_part(self.shape)
        return found

    def bound(self, values: dict[str, float]) -> Scene:
        """Return the scene of the problem with statistics replaced by their values."""
        pending = self.problem.statistics()
        if not pending.keys() & values.keys():
            return self
        problem = self.problem.bind({name: values[name] for name in pending if name in values})
        assert isinstance(problem, SteadyState)
        return replace(self, problem=problem)

    def setting(self, region: Region) -> Setting:
        """Return a window as what is solved in memory."""
        fields = self.image.fields(self.frames, region)
        request = SolveRequest(
            self.problem, fields.dtype, None, self.frames.spacing, self.image.nodata, self.tolerance
        )
        mask = self._flags("mask", region)
        found: dict[str, Any] = {}
        if "markers" in self.beside:
            found["markers"] = self.beside["markers"].fields(self.frames, region)[0]
        if (known := self._flags("known", region)) is not None:
            found["known"] = known
        return request.setting(fields, mask, found)

    def _flags(self, word: str, region: Region) -> NDArray[np.bool_] | None:
        return self.beside[word].passable(self.frames, region) if word in self.beside else None

    def couplings(self, region: Region) -> tuple[Setting, Couplings]:
        """Return a window and the operator on it."""
        setting = self.setting(region)
        return setting, couplings_of(self.problem, setting)

    def fine(self, region: Region, labels: StackedPixels) -> tuple[Setting, Fine]:
        """Return a window, and the two finest levels on it."""
        setting, grid = self.couplings(region)
        return setting, Fine(grid, read_labels(region, labels, setting.spatial))

    @property
    def may_have_walls(self) -> bool:
        """Whether there may be invalid pixels."""
        return "mask" in self.beside or self.image.dtype.kind == "f" or self.image.nodata is not None

    def rehearse(self, walls: bool) -> None:
        """Solve a problem like this one on a few cells."""
        spatial = (2 * CELL,) * len(self.frames.spatial)
        markers = np.zeros(spatial, np.int64)
        markers.flat[:: markers.size // 7] = np.arange(1, 1 + len(markers.flat[:: markers.size // 7]))
        # What is known differs: where all of it is equal, nothing is left to solve.
        cells = np.arange(markers.size).reshape(spatial)
        fields = np.repeat(cells[None] % 7, self.image.channels, axis=0).astype(self.image.dtype)
        mask = cells != 1 if walls else None
        known = markers > 0 if self.problem.rehearsed_sparse else cells % 7 < 4
        found = {"markers": markers, "known": known}
        request = SolveRequest(self.problem, fields.dtype, None, self.frames.spacing, None, self.tolerance)
        self.problem.solve(request.setting(fields, mask, found))

    def bytes_per_cell(self) -> int:
        """Return the memory per cell of a window of the image, and of what is read beside it."""
        readings = (self.image, *self.beside.values())
        return sum(r.channels * (r.dtype.itemsize + 12) for r in readings)

    def window_bytes(self) -> int:
        """Return the memory per cell of a window that is worked on, and of what was read beside it."""
        return self.held_bytes() + sum(reading.dtype.itemsize for reading in self.beside.values())

    def reading_bytes(self) -> int:
        """Return the memory per cell while a window is read: as much as was measured, and 12 bytes more for markers."""
        beside = sum(reading.dtype.itemsize + 2 for reading in self.beside.values())
        return 2 * self.held_bytes() + beside + 12 * ("markers" in self.beside)

    def held_bytes(self) -> int:
        """Return the memory per cell of a window that is read."""
        return self.image.channels * self.image.dtype.itemsize + 1


def read_labels(region: Region, labels: StackedPixels, spatial: tuple[int, ...]) -> NDArray[np.uint32]:
    """Return the labels of a window in whole cells."""
    shape = padded_shape(spatial)
    values = np.zeros(shape, np.uint32)
    there = tuple(slice(0, n) for n in spatial)
    (values if len(spatial) == 3 else values[0])[there] = labels.read(region)[0]
    return values.reshape(-1)
