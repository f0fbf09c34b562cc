"""Decide which axes of an image diffuse together, and split a window into frames of these axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.image.window import Grid, Window, grown_extent


@dataclass(frozen=True)
class Frames:
    """The axes that diffuse together, their spacing, and how a window splits into frames.

    Attributes
    ----------
    axes : str
        Canonical axes of the image.
    spatial : str
        Axes that diffuse together, "yx" or "zyx".
    spacing : tuple of float
        Grid spacing per spatial axis.
    joint : bool
        True where channels are one block with a shared conductance.
    nodata : float or None
        Nodata value of the source.
    shape : tuple of int
        Shape of the image, per axis.
    """

    axes: str
    spatial: str
    spacing: tuple[float, ...]
    joint: bool = True
    nodata: float | None = None
    shape: tuple[int, ...] = ()

    @property
    def together(self) -> str:
        """Axes of one block, in canonical order."""
        return "".join(a for a in self.axes if a in self.spatial or (a == "c" and self.joint))

    def each(self, shape: tuple[int, ...]) -> Iterator[tuple[int | slice, ...]]:
        """Yield the index of every frame of a window: full slices along axes of one block, numbers along the others."""
        loose = [a for a in self.axes if a not in self.together]
        for position in np.ndindex(*(shape[self.axes.index(a)] for a in loose)):
            yield tuple(slice(None) if a in self.together else position[loose.index(a)] for a in self.axes)

    def fields(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return a window that holds one frame as (channels, *spatial)."""
        size = dict(zip(self.axes, frame.shape, strict=True))
        return frame.reshape(-1, *(size[a] for a in self.spatial))

    def spatial_part(self, region: Any) -> Any:
        """Return the entries of the spatial axes, of a sequence with one entry per axis of the image."""
        return tuple(region[self.axes.index(a)] for a in self.spatial)

    def on_axes(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Return values per spatial axis as values per axis of the image, 0 along the others."""
        return tuple(spatial[self.spatial.index(a)] if a in self.spatial else 0 for a in self.axes)

    def split_cells(self, grid: Grid, halo: tuple[int, ...]) -> tuple[int, int]:
        """Return (channels, cells per channel) of one block of the largest window."""
        size = dict(zip(self.axes, grown_extent(grid, halo), strict=True))
        channels = size["c"] if "c" in self.together else 1
        return channels, math.prod(size[a] for a in self.spatial)

    def at(self, level: int) -> Frames:
        """Return the frames of a coarser level of the image: each level halves all axes that diffuse together."""
        return replace(self, spacing=tuple(h * 2**level for h in self.spacing))

    def number(self, window: Window) -> int:
        """Return the number of the frame that a window of one frame belongs to."""
        number = 0
        for a, s, n in zip(self.axes, window.read, self.shape, strict=True):
            number = number if a in self.together else number * n + s.start
        return number

    @property
    def carried_along(self) -> tuple[int, ...]:
        """The axes of the image that carried arrays have: all but the axis of joint channels."""
        own = (a for a in self.axes if a in self.spatial or a not in self.together)
        return tuple(self.axes.index(a) for a in own)
