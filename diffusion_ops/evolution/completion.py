"""Say how a result is completed that no finite reach can give: tiles tell, what they told is merged, tiles end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally

Shape = tuple[int, ...]


class Completion(ABC):
    """What is left to do once an operator has done all that a tile can do alone, such as joining components.

    Every tile tells in integers what the others have to know of it, all of this is merged once, and every tile is
    completed with what came out. The bits of the result do not depend on how the image was cut. Arrays have the axes
    of one channel of the image, or one more before them that counts images which do not touch.
    """

    title: str
    """What it does, for people: "join edges"."""

    @abstractmethod
    def tell(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return what the other tiles have to know of a tile.

        Parameters
        ----------
        tile : ndarray
            What the operator left there.
        origin : tuple of int
            Index of its first cell in the image.
        shape : tuple of int
            Of the image.
        """

    @abstractmethod
    def merge(self, told: Sequence[Tally], shape: Shape) -> NDArray[np.int64]:
        """Return what all tiles need, from what all of them told, in any order."""

    @abstractmethod
    def complete(
        self, tile: NDArray[Any], origin: Shape, shape: Shape, merged: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Return the completed tile."""
