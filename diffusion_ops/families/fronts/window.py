"""Hold a front in memory: times of the whole image, or of a tile whose neighbours stand still around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, row_bands
from diffusion_ops.kernels.fronts.front import (
    EARLIER,
    FIXED,
    LATER,
    build_front,
    build_violations,
)
from diffusion_ops.kernels.fronts.labels import label_cells
from diffusion_ops.kernels.fronts.updates import metric_of

WAITING = 8
"""One of so many cells may wait at a time before the room for them has to be filled again."""

ROOM_BYTES = 3 * 4 / WAITING
"""Bytes per cell of a window that a front takes to wait in."""

LEAST_ROOM = 8192
"""Cells that may wait at a time in small windows: more than one batch of a front lists."""

MOST_CELLS = 2**31 - 1
"""Lists of a front hold int32 numbers of cells."""

Region = tuple[slice, ...]


@dataclass
class FrontWindow:
    """Times of a window, with labels or without, and one more cell on each side: a halo that stays as it is.

    Attributes
    ----------
    times : ndarray
        Padded; infinite where no front has been, 0 at seeds.
    labels : int32 ndarray or None
        Padded in the same way.
    flags : uint8 ndarray
        Padded in the same way; `FIXED` in the halo and at walls and seeds.
    margin : int
        Further cells of the halo on each side, which lie on the land too.
    """

    times: NDArray[Any]
    labels: NDArray[np.int32] | None
    flags: NDArray[np.uint8]
    margin: int = 0

    @classmethod
    def empty(
        cls, spatial: tuple[int, ...], kind: np.dtype[Any], labelled: bool, margin: int = 0
    ) -> FrontWindow:
        """Return a window that no front has reached.

        Raises
        ------
        ValueError
            For more cells than lists of a front can number; before memory is taken.
        """
        first, *others = (n + 2 * margin for n in spatial)
        padded = (first + 4, *(n + 2 for n in others))
        if math.prod(padded) > MOST_CELLS:
            raise ValueError(
                f"A front through {spatial} needs {math.prod(padded):,} cells with its halo. Allowed: {MOST_CELLS:,} "
                "at a time. Run it over files, in smaller tiles: diffuse run."
            )
        flags = np.full(padded, FIXED, np.uint8)
        labels = np.zeros(padded, np.int32) if labelled else None
        window = cls(np.full(padded, np.inf, kind), labels, flags, margin)
        flags[window.inner] = 0
        return window

    @property
    def inner(self) -> Region:
        """The window in its arrays."""
        pads = (2 + self.margin, *(1 + self.margin,) * (self.times.ndim - 1))
        return tuple(slice(pad, -pad) for pad in pads)

    @property
    def pitch(self) -> tuple[int, ...]:
        """Distance of neighbours along each axis in a flat array."""
        return tuple(s // self.times.itemsize for s in self.times.strides)

    @property
    def steps(self) -> tuple[np.uint64, ...]:
        """Distances of all neighbours, modulo 2^64: an index without a sign needs no check for one."""
        return tuple(np.uint64(p % 2**64) for p in (*(-p for p in self.pitch), *self.pitch))

    @property
    def body(self) -> Region:
        """The window with its margin: what the land is known of."""
        return (slice(2, -2), *(slice(1, -1),) * (self.times.ndim - 1))

    @property
    def own(self) -> Region:
        """The window in an array of the shape of `body`."""
        return tuple(slice(self.margin, self.margin + n) for n in self.spatial)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Shape without the halo."""
        return self.times[self.inner].shape

    def place(self, region: Region) -> Region:
        """Return where a region lies in the arrays, that is counted from the start of the window."""
        starts = (s.start for s in self.inner)
        return tuple(slice(a + s.start, a + s.stop) for a, s in zip(starts, region, strict=True))

    def face(self, axis: int, end: int, outside: bool) -> Region:
        """Return the cells along a side, 0 or 1 for its low or high end: the outermost ones, or the halo."""
        start, stop = self.inner[axis].start, self.times.shape[axis] + self.inner[axis].stop
        at = (start - outside) if end == 0 else (stop - 1 + outside)
        return tuple(slice(at, at + 1) if a == axis else s for a, s in enumerate(self.inner))

    def wall(self, valid: Bools | None) -> None:
        """Make walls where a mask is False."""
        if valid is not None:
            self.flags[self.inner][~valid] = FIXED

    def start(self, markers: NDArray[np.integer[Any]], rows: slice = slice(None)) -> None:
        """Let fronts start from markers > 0 that are not walls, and make walls of those < 0; in some rows or all."""
        times, flags = self.times[self.inner][rows], self.flags[self.inner][rows]
        for band in row_bands(markers.shape):
            flags[band][markers[band] < 0] = FIXED
            seeds = (markers[band] > 0) & (flags[band] == 0)
            times[band][seeds] = 0
            flags[band][seeds] = FIXED | EARLIER
            if self.labels is not None:
                self.labels[self.inner][rows][band][seeds] = markers[band][seeds]

    def hold(self, starts: NDArray[Any], begin: bool) -> None:
        """Keep cells of given times as they are, and let fronts start from them; infinite times are none."""
        times, flags = self.times[self.inner], self.flags[self.inner]
        for band in row_bands(self.spatial):
            held = starts[band] < np.inf
            times[band][held] = starts[band][held]
            flags[band][held] = FIXED | EARLIER if begin else FIXED

    def fix_seeds(self) -> None:
        """Keep seeds of an earlier visit, the only cells whose time is 0, as they are."""
        flags, times = self.flags[self.inner], self.times[self.inner]
        for band in row_bands(self.spatial):
            flags[band][times[band] == 0] = FIXED

    @property
    def walls(self) -> Bools:
        """True at walls of the window: fixed cells that are no seeds."""
        found: Bools = (self.flags[self.inner] == FIXED) & ~(self.times[self.inner] < np.inf)
        return found

    def sides(self) -> list[tuple[NDArray[Any], NDArray[np.int32] | None]]:
        """Return copies of the outermost times and labels of each side: low and high end of each axis."""
        faces = [self.face(axis, end, outside=False) for axis in range(self.times.ndim) for end in (0, 1)]
        return [
            (self.times[face].copy(), None if self.labels is None else self.labels[face].copy())
            for face in faces
        ]

    def changes(self, before: list[tuple[NDArray[Any], NDArray[np.int32] | None]]) -> dict[int, float]:
        """Return the sides that differ from what they were, each with its earliest changed time, new or old."""
        found = {}
        for side, (then, now) in enumerate(zip(before, self.sides(), strict=True)):
            changed = then[0] != now[0]
            if then[1] is not None:
                changed |= then[1] != now[1]
            if changed.any():
                found[side] = float(min(then[0][changed].min(), now[0][changed].min()))
        return found

    def enter(self) -> None:
        """Let fronts come in from the halo, whose cells may have changed in any way."""
        for axis in range(self.times.ndim):
            for end in (0, 1):
                face = self.face(axis, end, outside=True)
                reached = self.times[face] < np.inf
                self.flags[face][reached] = FIXED | LATER

    def advance(self, image: NDArray[Any], speeds: bool, spacing: tuple[float, ...], until: float) -> None:
        """Update times until nothing changes.

        Parameters
        ----------
        image : ndarray of the shape of `body`
            Costs or speeds.
        speeds : bool
        spacing : tuple of float
        until : float
            Later times are infinite.
        """
        lists = [self._list() for _ in range(3)]
        (times, _, land, flags), numbers = self.arguments(image, spacing, until)
        build_front(self.times.ndim, speeds)(times, land, flags, *lists, numbers)

    def label(self) -> None:
        """Label the cells that a front has reached, from its last times."""
        if self.labels is None:
            return
        arrays = (a.reshape(-1) for a in (self.times, self.labels, self.flags))
        label_cells(*arrays, self._list(), self.steps)

    def _list(self) -> NDArray[np.int32]:
        """Return room for cells that wait."""
        return np.empty(max(LEAST_ROOM, self.flags.size // WAITING), np.int32)

    def violations(self, image: NDArray[Any], speeds: bool, spacing: tuple[float, ...], until: float) -> int:
        """Return how many cells do not fulfil their equation to the last bit; see `run`.

        Where there are none, these are the only times there can be.
        """
        state, numbers = self.arguments(image, spacing, until)
        count = build_violations(self.times.ndim, self.labels is not None, speeds)
        return int(count(*state, numbers))

    def arguments(
        self, image: NDArray[Any], spacing: tuple[float, ...], until: float
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return what all kernels take: arrays, and numbers."""
        labels = np.zeros(1, np.int32) if self.labels is None else self.labels.reshape(-1)
        land = np.ascontiguousarray(image).reshape(-1)
        inverses = tuple(1.0 / n for n in self.times.shape)
        numbers = (self.pitch, self.steps, metric_of(spacing), self.times[self.body].shape, inverses, until)
        return (self.times.reshape(-1), labels, land, self.flags.reshape(-1)), numbers

    def result(self) -> NDArray[Any]:
        """Return the times without the halo; the window is of no use any more."""
        flat = self.times.reshape(-1)
        columns = self.spatial[-1]
        rows = self.times.reshape(-1, self.times.shape[-1])
        inside = np.zeros(self.times.shape[:-1], bool)
        inside[self.inner[:-1]] = True
        # In place: a copy would take as much memory again.
        for k, row in enumerate(np.flatnonzero(inside)):
            flat[k * columns : (k + 1) * columns] = rows[row, 1:-1]
        return flat[: math.prod(self.spatial)].reshape(self.spatial)
