"""Compute the window of a region: the cells it needs around it, clamped to the image, or on a coarser level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Region = tuple[slice, ...]


@dataclass(frozen=True)
class Window:
    """Regions that the task of one tile reads, keeps and writes, axis by axis.

    Attributes
    ----------
    read : tuple of slice
        The tile with its halo, clamped to the image and never padded: the kernel applies no-flux at true edges itself.
    keep : tuple of slice
        The tile within the region that is read.
    write : tuple of slice
        The tile in the image: whole chunks of the target, except at the image's end.
    open_sides : tuple of (bool, bool)
        True where the image continues beyond the region that is read.
    """

    read: Region
    keep: Region
    write: Region
    open_sides: tuple[tuple[bool, bool], ...]

    @property
    def origin(self) -> tuple[int, ...]:
        """Index in the image of the first cell that is read."""
        return tuple([s.start for s in self.read])


def window_of(region: Region, shape: Sequence[int], halo: Sequence[int]) -> Window:
    """Return the window of a region of an image of `shape`."""
    read = tuple(
        [slice(max(0, s.start - h), min(n, s.stop + h)) for s, n, h in zip(region, shape, halo, strict=True)]
    )
    keep = tuple([slice(s.start - r.start, s.stop - r.start) for s, r in zip(region, read, strict=True)])
    sides = tuple([(r.start > 0, r.stop < n) for r, n in zip(read, shape, strict=True)])
    return Window(read, keep, region, sides)


def doubling_window(fine: Region, coarse_shape: Sequence[int], axes: Sequence[bool]) -> Window:
    """Return the window on the coarser level that `doubled` reads for a region of the finer one."""
    halves = tuple(
        [slice(s.start // 2, -(-s.stop // 2)) if along else s for s, along in zip(fine, axes, strict=True)]
    )
    return replace(window_of(halves, coarse_shape, [int(along) for along in axes]), write=fine)


def doubled(values: NDArray[Any], window: Window, axes: Sequence[bool] | None = None) -> NDArray[Any]:
    """Return coarse values at the fine cells of a window, summed with the weights 3/4 and 1/4 along each axis.

    A fine cell is 3/4 of the coarse cell that it lies in and 1/4 of the neighbour that it is nearer to.

    Parameters
    ----------
    values : ndarray
        Cells of the coarser level, `window.read`.
    window : Window
        See `doubling_window`; it writes in cells of the finer level.
    axes : sequence of bool, optional
        Axes that are doubled, by default all.
    """
    for axis in range(values.ndim):
        if axes is not None and not axes[axis]:
            continue
        fine = np.arange(window.write[axis].start, window.write[axis].stop)
        read = window.read[axis]
        near, far = fine // 2, fine // 2 + np.where(fine % 2, 1, -1)
        # Beyond the image's edge there are no cells: the cell itself counts twice.
        far = np.where((far < read.start) | (far >= read.stop), near, far)
        at = (np.take(values, i - read.start, axis=axis) for i in (near, far))
        values = 0.75 * next(at) + 0.25 * next(at)
    return values
