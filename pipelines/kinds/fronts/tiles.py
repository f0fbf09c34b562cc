"""Read what a front runs through, and the tiles as its visits have left them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.blocks.fields import valid_cells, working_dtype
from diffusion_ops.families.fronts.front import Front
from diffusion_ops.families.fronts.window import CELL_BYTES, FrontWindow
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, extent, window_of
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import ENCODING_BYTES, ZarrPixels
from pipelines.tasks.values import Carried

VISITS = 3.0
"""Visits of a tile that are expected: 2.2 where speeds are constant, 3 to 6 where they vary, more in mazes."""

FRONT_RATE = 1.5e7
"""Cells per second of one core."""

MARKED, WALLED = "markers", "markers_at_walls"
"""Names of what is found of markers."""


@dataclass(frozen=True)
class Land:
    """What a front runs through, and how a window of it is read.

    Attributes
    ----------
    problem : Front
    inputs : Inputs
        The image, and the mask.
    markers : Reading
    frames : Frames
    shape : tuple of int
        Shape of the image that is read.
    kind : numpy dtype
        Type of the times.
    labelled : bool
        True where the result is labels.
    """

    problem: Front
    inputs: Inputs
    markers: Reading
    frames: Frames
    shape: tuple[int, ...]
    kind: np.dtype[Any]
    labelled: bool

    @property
    def radius(self) -> tuple[int, ...]:
        """Cells of the image that are read around a tile, per axis of the image."""
        return self.frames.on_axes(self.problem.land_radius(self.frames.spacing))

    @property
    def cell_bytes(self) -> int:
        """Bytes per cell that a visit reads: the image, times, and labels."""
        image = self.inputs.image
        return image.channels * image.dtype.itemsize + self.kind.itemsize + 4 * self.labelled

    def read(self, region: Region) -> tuple[NDArray[Any], Bools | None, int]:
        """Return costs or speeds of one frame of a region, its valid cells, and the bytes read."""
        window = window_of(region, self.shape, self.radius)
        fields = self.inputs.image.fields(self.frames, window.read)
        valid = valid_cells(fields, self.inputs.image.nodata, self._masked(window.read))
        image, valid = self.problem.land(fields, valid, self.frames.spacing)
        keep = self.frames.spatial_part(window.keep)
        return image[keep], None if valid is None else valid[keep], fields.nbytes

    def marked(self, region: Region) -> NDArray[np.integer[Any]]:
        """Return the markers of one frame of a region."""
        markers: NDArray[Any] = self.markers.fields(self.frames, region)[0]
        if markers.dtype.kind == "f":
            # What a step has made; its walls are no markers.
            markers = np.where(np.isfinite(markers), markers, 0).astype(np.int32)
        return markers

    def _masked(self, region: Region) -> Bools | None:
        """Return where the mask lets a front through, None for everywhere."""
        if self.inputs.mask is None:
            return None
        values = self.inputs.mask.floats(self.frames, region)
        found: Bools = ((values != 0) & ~np.isnan(values)).all(axis=0)
        return found

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Land:
        """Return the land with statistics of its inputs replaced by their values."""
        return replace(self, inputs=self.inputs.bind(values), markers=self.markers.bind(values))

    def memory(self, grid: Grid) -> int:
        """Return the largest memory of a task: a window that a front runs through, the image, and the tile to write."""
        image, (_, cells) = self.inputs.image, self.frames.split_cells(grid, self.halo)
        stored = image.channels * image.stored_itemsize
        floats = working_dtype(image.dtype).itemsize
        state = self.kind.itemsize + 4 * self.labelled
        beside = self.markers.dtype.itemsize + 2 + 5 * (self.inputs.mask is not None)
        decoding = max(pixels.decoding_bytes for pixels in (*self.inputs.sources, self.markers.pixels))
        reading = cells * int(state + 1 + stored + floats + beside) + decoding
        running = cells * (state + floats + self.problem.land_arrays * floats + CELL_BYTES + 1)
        writing = cells * state + ENCODING_BYTES
        tile = math.prod(grid.largest) * state
        return int(max(reading, running, writing)) + tile

    @property
    def halo(self) -> tuple[int, ...]:
        """Cells read around a tile, per axis of the image."""
        one = self.frames.on_axes((1,) * len(self.frames.spatial))
        return tuple(max(a, b) for a, b in zip(one, self.radius, strict=True))


@dataclass(frozen=True)
class Latest:
    """What the visits so far have left: times, NaN at walls, and labels.

    Attributes
    ----------
    times : tuple of ZarrPixels
        Times after even and after odd visits.
    labels : tuple of Carried, or None
        Labels in the same way, where there are any.
    """

    times: tuple[ZarrPixels, ZarrPixels]
    labels: tuple[Carried, Carried] | None

    @classmethod
    def beside(cls, times: tuple[ZarrPixels, ZarrPixels], frames: Frames, labelled: bool) -> Latest:
        """Return the arrays of times, with those of labels beside them."""
        if not labelled:
            return cls(times, None)
        along = frames.carried_along
        axes = "k" + "".join(frames.axes[axis] for axis in along)
        even, odd = (Carried(ZarrPixels(t.root, f"{t.path}-beside", axes, axes), 1, along) for t in times)
        return cls(times, (even, odd))

    @property
    def pixels(self) -> tuple[ZarrPixels, ...]:
        """All arrays."""
        return (*self.times, *(carried.pixels for carried in self.labels or ()))

    def read(self, region: Region, visits: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return times and labels of a part of a tile that was visited so often."""
        times, labels = self.times[(visits - 1) % 2].read(region), None
        if self.labels is not None:
            carried = self.labels[(visits - 1) % 2]
            labels = carried.pixels.read(carried.region(region))
        return times, labels


def load(
    latest: Latest, land: Land, grid: Grid, region: Region, visits: Mapping[int, int]
) -> tuple[FrontWindow, int]:
    """Return a tile, and one cell around it, as the visits so far have left them, and the bytes read.

    Parameters
    ----------
    region : tuple of slice
        One frame of a tile.
    visits : mapping
        Number of visits of the tile and of those beside it.
    """
    frames = land.frames
    window = FrontWindow.empty(extent(frames.spatial_part(region)), land.kind, land.labelled)
    (own,) = set(grid.covering(region))
    parts = [(own, region, window.inner)] if visits.get(own) else []
    for axis, letter in enumerate(frames.spatial):
        at = frames.axes.index(letter)
        for end, cell in enumerate((region[at].start - 1, region[at].stop)):
            if 0 <= cell < grid.shape[at]:
                face = (*region[:at], slice(cell, cell + 1), *region[at + 1 :])
                (tile,) = grid.covering(face)
                parts += [(tile, face, window.face(axis, end, outside=True))] if visits.get(tile) else []
    read_bytes = 0
    for tile, part, place in parts:
        times, labels = latest.read(part, visits[tile])
        times = times.reshape(window.times[place].shape)
        walls = np.isnan(times)
        window.times[place] = np.where(walls, np.inf, times)
        read_bytes += times.nbytes
        if tile == own:
            window.wall(~walls)
        if labels is not None and window.labels is not None:
            window.labels[place] = labels.reshape(times.shape)
            read_bytes += labels.nbytes
    return window, read_bytes


def begin_visit(land: Land, window: FrontWindow, region: Region, *, first: bool) -> tuple[NDArray[Any], int]:
    """Let fronts start from the markers of a tile, or come in from around it; return what they run through."""
    image, valid, read_bytes = land.read(region)
    if first:
        markers = land.marked(region)
        read_bytes += markers.nbytes
        window.wall(valid)
        window.wall(None if (markers >= 0).all() else markers >= 0)
        window.start(markers)
    else:
        window.fix_seeds()
    window.enter()
    return image, read_bytes


def no_markers(at_walls: int) -> str:
    """Return what is wrong where no front can start."""
    if at_walls:
        return f"All {at_walls:,} marked pixels are walls: masked, nodata or NaN. Mark valid pixels."
    return "There is no marker: all are 0. Give markers with whole numbers > 0 where the front starts."


def rehearse(land: Land) -> None:
    """Run a front through a few cells, which compiles its kernels or loads them."""
    ndim, image = len(land.frames.spatial), land.inputs.image
    fields = np.ones((image.channels, *(3,) * ndim), image.dtype)
    floats, _ = land.problem.land(fields, None, land.frames.spacing)
    window = FrontWindow.empty(floats.shape, land.kind, land.labelled)
    window.start(np.eye(27, dtype=np.int64)[13 if ndim == 3 else 4, : floats.size].reshape(floats.shape))
    window.run(floats, land.problem.is_speed, land.frames.spacing, math.inf)
    window.violations(floats, land.problem.is_speed, land.frames.spacing, math.inf)
