"""Read what a front runs through, and the tiles as its visits have left them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.fields import valid_cells, working_dtype
from diffusion_ops.families.fronts.front import Front
from diffusion_ops.families.fronts.land import Ground
from diffusion_ops.families.fronts.patches import PATCH_BYTES, run_through
from diffusion_ops.families.fronts.second_order import SECOND_BYTES, SecondOrder
from diffusion_ops.families.fronts.window import ROOM_BYTES, FrontWindow
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, extent, window_of, within
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import ENCODING_BYTES, Pixels, ZarrPixels
from pipelines.tasks.values import Carried

VISITS = 3.0
"""Visits of a tile that are expected: 2.2 where speeds are constant, 3 to 6 where they vary, more in mazes."""

FRONT_RATE = 1.5e7
"""Cells per second of one core."""

MARKED, WALLED = "markers", "markers_at_walls"
"""Names of what is found of markers."""

UNFIT, LEAST = "unfit", "least_unfit"
"""Names of how many values no front can run through, and the least of them."""


@dataclass(frozen=True)
class Land:
    """What a front runs through, and how a window of it is read.

    Attributes
    ----------
    problem : Front
    inputs : Inputs
        The image, and the mask.
    markers : Reading or None
        None where fronts start by themselves.
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
    markers: Reading | None
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

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The image, its mask, and the markers."""
        return (*self.inputs.sources, *(() if self.markers is None else (self.markers.pixels,)))

    def read(self, region: Region) -> tuple[Ground, int]:
        """Return what the front runs through in one frame of a region, and the bytes read."""
        window = window_of(region, self.shape, self.radius)
        fields = self.inputs.image.fields(self.frames, window.read)
        valid = valid_cells(fields, self.inputs.image.nodata, self.inputs.passable(self.frames, window.read))
        ground = self.problem.land(fields, valid, self.frames.spacing)
        return ground.part(self.frames.spatial_part(window.keep)), fields.nbytes

    def marked(self, region: Region) -> Iterator[tuple[slice, NDArray[np.integer[Any]]]]:
        """Yield the markers of one frame of a region, some rows at a time; none where there are no markers at all."""
        if self.markers is None:
            return
        for rows, part in self.markers.parts(self.frames, region):
            yield rows, whole_labels(self.markers.fields(self.frames, part)[0])

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Land:
        """Return the land with statistics of its inputs replaced by their values."""
        markers = None if self.markers is None else self.markers.bind(values)
        return replace(self, inputs=self.inputs.bind(values), markers=markers)

    def memory(self, grid: Grid, margin: int = 0, left: int | None = None) -> int:
        """Return the largest memory of a task: a window that a front runs through, the image, and what it leaves.

        Parameters
        ----------
        grid : Grid
        margin : int
            With a margin there are second-order times beside it.
        left : int, optional
            Bytes per cell of what is left of a window; those of its times and labels by default.
        """
        image, (_, cells) = self.inputs.image, self.frames.split_cells(grid, self.halo(margin))
        floats, own = working_dtype(image.dtype).itemsize, self.kind.itemsize + 4 * self.labelled
        left = own if left is None else left
        # The window and its flags, what the front runs through, and where.
        held: int = own + (self.kind.itemsize + SECOND_BYTES) * margin + floats + 2
        # Costs and speeds in floats are taken as they are read.
        as_read = image.dtype.itemsize == floats and not self.problem.land_arrays
        stored = 0 if as_read else image.channels * image.stored_itemsize
        reading = cells * (held + stored + 5 * (self.inputs.mask is not None))
        reading += max(pixels.decoding_bytes for pixels in self.sources)
        running = cells * (held + self.problem.land_arrays * floats) + max(cells * ROOM_BYTES, PATCH_BYTES)
        frame: int = math.prod(self.frames.spatial_part(grid.largest))
        tile = math.prod(grid.largest)
        leaving = max(cells * held, ENCODING_BYTES) + frame * left
        marking = cells * held + frame * self._marker_bytes(grid)
        return int(max(reading, marking, running, leaving)) + (tile - frame) * left

    def _marker_bytes(self, grid: Grid) -> float:
        """Return the bytes per cell of a tile that its markers take: some rows are read at a time."""
        if self.markers is None:
            return 0
        rows = grid.largest[self.frames.axes.index(self.frames.spatial[0])]
        return self.markers.dtype.itemsize * self.markers.rows_at_once(self.frames, rows) / rows

    def halo(self, margin: int = 0) -> tuple[int, ...]:
        """Return the cells read around a tile with a margin, per axis of the image."""
        times, image = (self.frames.on_axes((n,) * len(self.frames.spatial)) for n in (1 + margin, margin))
        return tuple(max(t, i + r) for t, i, r in zip(times, image, self.radius, strict=True))


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
        even, odd = (Carried.beside(t, 1, frames) for t in times)
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


def around(land: Land, grid: Grid, region: Region, depth: int) -> Iterator[tuple[int, Region, Region]]:
    """Yield one frame of a tile, and each plane of cells up to `depth` beyond its sides: its tile, region, and place.

    The place is counted from the start of the tile, along the spatial axes.
    """
    frames = land.frames
    (own,) = set(grid.covering(region))
    inside = tuple(slice(0, n) for n in extent(frames.spatial_part(region)))
    yield own, region, inside
    for axis, letter in enumerate(frames.spatial):
        at = frames.axes.index(letter)
        for cell in (c for d in range(depth) for c in (region[at].start - 1 - d, region[at].stop + d)):
            if 0 <= cell < grid.shape[at]:
                face = (*region[:at], slice(cell, cell + 1), *region[at + 1 :])
                (tile,) = grid.covering(face)
                there = cell - region[at].start
                yield tile, face, (*inside[:axis], slice(there, there + 1), *inside[axis + 1 :])


def load(
    latest: Latest, land: Land, grid: Grid, region: Region, visits: Mapping[int, int], margin: int = 0
) -> tuple[FrontWindow, int]:
    """Return a tile, and the cells around it, as the visits so far have left them, and the bytes read.

    Parameters
    ----------
    region : tuple of slice
        One frame of a tile.
    visits : mapping
        Number of visits of the tile and of those beside it.
    margin : int
        Cells around it besides one.
    """
    spatial = extent(land.frames.spatial_part(region))
    window = FrontWindow.empty(spatial, land.kind, land.labelled, margin)
    read_bytes = 0
    for part in around(land, grid, region, 1 + margin):
        read_bytes += _fill(window, latest, part, visits)
    return window, read_bytes


def _fill(
    window: FrontWindow, latest: Latest, part: tuple[int, Region, Region], visits: Mapping[int, int]
) -> int:
    """Put a part of a tile into a window, and return the bytes read."""
    tile, region, inside = part
    if not visits.get(tile):
        return 0
    place = window.place(inside)
    times, labels = latest.read(region, visits[tile])
    times = times.reshape(window.times[place].shape)
    walls = np.isnan(times)
    window.times[place] = np.where(walls, np.inf, times)
    if all(s.start == 0 for s in inside) and times.shape == window.spatial:
        window.wall(~walls)
    if labels is None or window.labels is None:
        return times.nbytes
    window.labels[place] = labels.reshape(times.shape)
    return times.nbytes + labels.nbytes


def begin_visit(land: Land, window: FrontWindow, region: Region, *, first: bool) -> tuple[Ground, int]:
    """Let fronts start in a tile, or come in from around it; return what they run through, in the shape of `body`."""
    ground, read_bytes = _read_with_margin(land, window, region)
    own = ground.part(window.own)
    if first:
        window.wall(own.valid)
        for rows, markers in land.marked(region):
            read_bytes += markers.nbytes
            window.start(markers, rows)
    if own.starts is not None:
        window.hold(own.starts, begin=first)
    elif not first:
        window.fix_seeds()
    window.enter()
    return ground, read_bytes


def _read_with_margin(land: Land, window: FrontWindow, region: Region) -> tuple[Ground, int]:
    """Return what a front runs through in a tile and its margin, walls beyond the image, and the bytes read."""
    if not window.margin:
        return land.read(region)
    margin = land.frames.on_axes((window.margin,) * len(window.spatial))
    read = window_of(region, land.shape, margin).read
    ground, read_bytes = land.read(read)
    there = land.frames.spatial_part(within(read, region))
    place = tuple(slice(s.start + window.margin, s.stop + window.margin) for s in there)
    return ground.within(window.times[window.body].shape, place), read_bytes


def whole_labels(markers: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """Return markers as whole numbers; walls of what a step has made are no markers."""
    if markers.dtype.kind != "f":
        return markers
    found: NDArray[np.integer[Any]] = np.where(np.isfinite(markers), markers, 0).astype(np.int32)
    return found


def no_start(land: Land, at_walls: int) -> str:
    """Return what is wrong where no front can start."""
    if at_walls:
        return f"All {at_walls:,} marked pixels are walls: masked, nodata or NaN. Mark valid pixels."
    return land.problem.lacks_start


def rehearse(land: Land, walls: bool) -> None:
    """Run a front through a few cells, which compiles its kernels or loads them."""
    ndim, image = len(land.frames.spatial), land.inputs.image
    fields = np.ones((image.channels, *(3,) * ndim), image.dtype)
    valid = np.arange(3**ndim).reshape(fields.shape[1:]) > 0 if walls else None
    floats = land.problem.land(fields, valid, land.frames.spacing).image
    window = FrontWindow.empty(floats.shape, land.kind, land.labelled)
    window.start(np.eye(27, dtype=np.int64)[13 if ndim == 3 else 4, : floats.size].reshape(floats.shape))
    run_through(window, floats, land.problem.is_speed, land.frames.spacing, math.inf)
    window.violations(floats, land.problem.is_speed, land.frames.spacing, math.inf)
    if land.problem.accuracy == 2:
        second = SecondOrder.beginning(window)
        second.run(floats, land.problem.is_speed, land.frames.spacing)
        second.violations(floats, land.problem.is_speed, land.frames.spacing)
