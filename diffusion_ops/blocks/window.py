"""Compute the window of a region: the cells it needs around it, clamped to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
