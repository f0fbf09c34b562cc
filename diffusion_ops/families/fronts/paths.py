"""Trace paths on a map of times, with one window of it in memory at a time, and draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.evolution.problems.problem import Problem
from diffusion_ops.kernels.fronts.descent import ARRIVED, FULL, REACH, STUCK, build_descent

MOST_POINTS = 250_000
"""Points of all paths together: they are held in memory."""

POINT_BYTES = 250
"""Bytes of a point while paths are traced, told and written."""

NO_MARKER = "There is no marker: all are 0. Give a whole number > 0 where a path ends."

Region = tuple[slice, ...]


class PathProblem(Problem):
    """A problem whose answer are paths down a map of times."""

    gives_labels = True
    gives_lines = True
    reads = ("markers",)
    requires = ("markers",)
    step: float
    """Length of a step, in units of the smallest spacing."""

    @property
    def work_kind(self) -> str:
        """The kind of work that follows paths from tile to tile."""
        return "path"

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    @property
    def channels(self) -> int:
        """1: the times."""
        return 1


@dataclass
class Path:
    """A path from an end to where times begin.

    Attributes
    ----------
    label : int
        Marker at its end.
    points : float64 ndarray of shape (points, 1 + axes)
        Time, and position in cells from the centre of the first one, from the end to where times begin.
    """

    label: int
    points: NDArray[np.float64]


@dataclass
class Tracing:
    """Paths that are followed from window to window.

    Attributes
    ----------
    read : function
        Returns the times of a region of the image, infinite or NaN at walls.
    shape, tile : tuple of int
        Of the image, and of the part of it whose paths are followed at a time.
    spacing : tuple of float
    step : float
        Length of a step, in units of the smallest spacing.
    """

    read: Callable[[Region], NDArray[Any]]
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    spacing: tuple[float, ...]
    step: float
    waiting: dict[tuple[int, ...], list[Path]] = field(default_factory=dict)

    def trace(self, ends: Mapping[tuple[int, ...], int]) -> list[Path]:
        """Return the paths from cells, each with its label; from cells without a time there are none.

        Raises
        ------
        ValueError
            For more points than memory is counted for, and times that are not those of a front.
        """
        paths = [Path(label, np.array([[np.nan, *cell]], np.float64)) for cell, label in ends.items()]
        for path in paths:
            self._wait(path)
        while self.waiting:
            tile = min(self.waiting)
            self._follow(tile, self.waiting.pop(tile))
            if sum(len(path.points) for path in paths) > MOST_POINTS:
                raise ValueError(
                    f"The paths have more than {MOST_POINTS:,} points. Give fewer markers, or a larger step."
                )
        return [path for path in paths if np.isfinite(path.points[0, 0])]

    @staticmethod
    def lost(ends: Mapping[tuple[int, ...], int], paths: Iterable[Path]) -> dict[tuple[int, ...], int]:
        """Return the cells that there are no paths from, with their labels."""
        begun = {tuple(int(at) for at in path.points[0, 1:]) for path in paths}
        return {cell: label for cell, label in ends.items() if cell not in begun}

    def _wait(self, path: Path) -> None:
        last = path.points[-1, 1:]
        tile = tuple(int(at // side) for at, side in zip(last, self.tile, strict=True))
        self.waiting.setdefault(tile, []).append(path)

    def _follow(self, tile: tuple[int, ...], paths: list[Path]) -> None:
        """Go on with the paths that are in a tile until they leave it, or end."""
        extents = list(zip(tile, self.tile, self.shape, strict=True))
        first = np.array([i * side for i, side, _ in extents])
        last = np.array([min((i + 1) * side, n) for i, side, n in extents])
        low = np.maximum(first - REACH, 0)
        high = np.minimum(last + REACH, self.shape)
        times = self.read(tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)))
        window = np.ascontiguousarray(times).reshape(-1), low, high - low, first, last
        for path in paths:
            if np.isnan(path.points[0, 0]):
                here = tuple(path.points[0, 1:].astype(int) - low)
                path.points[0, 0] = times[here] if np.isfinite(times[here]) else np.inf
            if path.points[0, 0] < np.inf and not self._descend(path, window):
                self._wait(path)

    def _descend(self, path: Path, window: tuple[NDArray[Any], ...]) -> bool:
        """Follow a path in a window; return whether it has ended."""
        ends, spacing = np.array(self.shape, np.float64) - 1, np.array(self.spacing, np.float64)
        length, why = self.step * min(self.spacing), FULL
        while why == FULL and len(path.points) <= MOST_POINTS:
            count = len(path.points)
            room = np.empty((2 * count + 64, path.points.shape[1]))
            room[:count] = path.points
            why, count = build_descent()(*window, ends, spacing, length, room, count)
            path.points = room[:count].copy()
        if why == STUCK:
            time, *place = path.points[-1].tolist()
            raise ValueError(
                f"The time {time:g} at {tuple(place)} has no earlier neighbour and is no beginning, which is 0. Give "
                "the times of a front, such as those of eikonal, over the whole image."
            )
        return why == ARRIVED


def as_rows(paths: Iterable[Path], ndim: int) -> NDArray[np.int64]:
    """Return paths as one row per point: number of the path, label, and the bits of time and position."""
    rows = [np.empty((0, 3 + ndim), np.int64)]
    for number, path in enumerate(paths):
        of = np.full((len(path.points), 2), (number, path.label), np.int64)
        rows.append(np.concatenate([of, path.points.view(np.int64)], axis=1))
    return np.concatenate(rows)


def draw(rows: NDArray[np.int64], region: Region, image: NDArray[Any]) -> None:
    """Put the labels of paths into the part of an image that they run through, the smallest where several do.

    There may be labels of other paths, and 0 where there are none.
    """
    cells = np.floor(rows[:, 3:].view(np.float64) + 0.5).astype(np.int64)
    inside: Bools = np.ones(len(rows), bool)
    for axis, side in enumerate(region):
        inside &= (cells[:, axis] >= side.start) & (cells[:, axis] < side.stop)
    found, labels = cells[inside] - [side.start for side in region], rows[inside, 1]
    order = np.argsort(-labels, kind="stable")
    places, labels = tuple(found[order].T), labels[order]
    there = image[places]
    image[places] = np.where(there > 0, np.minimum(there, labels), labels)


def unreached(lost: Mapping[tuple[int, ...], int]) -> str:
    """Return what is wrong with ends that no path leads from."""
    some = ", ".join(f"{label} at {cell}" for cell, label in list(lost.items())[:3])
    return (
        f"No path leads to {len(lost):,} of the marked pixels, such as {some}: they are walls, or no front has reached "
        "them. Mark pixels whose time is finite."
    )
