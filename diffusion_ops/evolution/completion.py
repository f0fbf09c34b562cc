"""Complete results that depend on the whole image: tiles give tallies, these are merged, tiles are completed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Completion(ABC):
    """Whole-image work after an operator has done all that a tile can do alone, such as joining components.

    Every tile gives an integer tally of what the others need to know about it, the tallies are merged once, and every
    tile is completed with the merged array. The bits of the result do not depend on the tiling. Arrays have the axes
    of one channel of the image, or one more before them that counts separate images.

    Parameters
    ----------
    framed : bool
        True where the first axis counts separate images.
    """

    framed: bool = False

    cell_bytes: ClassVar[int] = 40
    """Bytes per cell that a tile's tally or completion holds at its peak beside the tile, its result included."""
    side_bytes: ClassVar[int] = 80
    """Bytes that it holds beside these per cell on a side of the tile where the image continues."""
    kernels_bytes: ClassVar[int] = 50 << 20
    """Resident memory of its compiled kernels, and of what the compiler keeps of them where it has made them."""
    title: ClassVar[str]
    """Description for users, such as "join edges"."""

    @abstractmethod
    def tally(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return what the other tiles need to know about a tile.

        Parameters
        ----------
        tile : ndarray
            Result of the operator in the tile.
        origin : tuple of int
            Index in the image of the tile's first cell.
        shape : tuple of int
            Shape of the image.
        """

    @abstractmethod
    def merge(self, tallies: Sequence[Tally], shape: Shape) -> NDArray[np.int64]:
        """Return what every tile needs from the tallies of all, in any order."""

    @abstractmethod
    def complete(
        self, tile: NDArray[Any], origin: Shape, shape: Shape, merged: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Return the completed tile."""

    def rehearse(self, dtype: np.dtype[Any], ndim: int) -> None:
        """Complete a few cells, which compiles its kernels or loads them."""
        shape = (1, *(3,) * (ndim - 1))
        tile, origin = np.ones(shape, dtype), (0,) * ndim
        self.complete(tile, origin, shape, self.merge([self.tally(tile, origin, shape)], shape))

    def largest(self, merged: NDArray[np.int64]) -> int:
        """Return the largest value of a completed image, which its type has to hold."""
        return 1


def largest_exact(dtype: np.dtype[Any]) -> int:
    """Return the number up to which a type holds all whole numbers."""
    return int(2 ** (np.finfo(dtype).nmant + 1) if dtype.kind == "f" else np.iinfo(dtype).max)


def refuse_narrow_type(largest: int, dtype: np.dtype[Any]) -> None:
    """Refuse a type that cannot hold all whole numbers up to the largest of a completed image.

    Raises
    ------
    ValueError
        With the type's limit and what to do.
    """
    exact = largest_exact(dtype)
    if largest > exact:
        raise ValueError(
            f"The result goes up to {largest:,}, but {dtype} holds whole numbers up to {exact:,} only. "
            "Give dtype: uint32 or wider; in memory, above 16,777,216, an image of float64 too."
        )
