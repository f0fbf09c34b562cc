"""Complete results that depend on the whole image: tiles give tallies, these are merged, tiles are completed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally

Shape = tuple[int, ...]


class Completion(ABC):
    """Whole-image work after an operator has done all that a tile can do alone, such as joining components.

    Every tile gives an integer tally of what the others need to know about it, the tallies are merged once, and every
    tile is completed with the merged array. The bits of the result do not depend on the tiling. Arrays have the axes
    of one channel of the image, or one more before them that counts separate images.
    """

    title: str
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
