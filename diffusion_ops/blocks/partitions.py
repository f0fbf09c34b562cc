"""Cut lines into partitions that are fixed in the image, and say which of a window still hold right values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block


@dataclass(frozen=True)
class Partitions:
    """Partitions of the lines along one axis that lie wholly in a window and have no spoilt cells.

    Attributes
    ----------
    edges : int ndarray of shape (partitions + 1,)
        First cell of each partition in the window, and the end of the last.
    ends : (bool, bool)
        True where the first begins, and the last ends, with the image; other outermost ones only serve neighbours.
    """

    edges: Any
    ends: tuple[bool, bool]

    def after_step(self) -> Partitions:
        """Return the partitions that a step does not spoil: all but the outermost ones at open sides."""
        last = len(self.edges) - (0 if self.ends[1] else 1)
        return Partitions(self.edges[0 if self.ends[0] else 1 : max(last, 1)], self.ends)


def whole_partitions(block: Block, axis: int, size: int) -> Partitions:
    """Return the partitions of `size` cells that lie wholly in a block.

    Parameters
    ----------
    block : Block
        Its origin, open sides and spoilt cells are read.
    axis : int
    size : int
        Number of cells of a partition.
    """
    start, n, sides = block.origin[axis], block.spatial[axis], block.open_sides[axis]
    spoilt = block.spoilt[axis]
    first = -(-(start + spoilt) // size) * size - start if sides[0] else 0
    last = (start + n - spoilt) // size * size - start if sides[1] else n
    grid = np.arange(-(start % size), n, size)
    inner = grid[(grid > first) & (grid < last)]
    edges = [first, *inner, last] if last > first else [0]
    return Partitions(np.array(edges, np.int64), (not sides[0], not sides[1]))
