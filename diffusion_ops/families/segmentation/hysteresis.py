"""Keep weak edges that are connected with strong ones over the whole image (hysteresis thresholding), tile by tile.

Every tile is labelled alone, and its tally lists the components that reach its sides and which of these are strong. The
components are joined across sides as in `components.py`; then every tile is labelled again and keeps those
that are joined with a strong cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import FEW_CELLS, Bools, row_bands
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.completion import Completion
from diffusion_ops.families.segmentation.components import (
    JOIN_BYTES,
    Ids,
    Shape,
    cells_in_image,
    first_cells,
    joined_groups,
    reached_cells,
    spread,
    touching,
)

WEAK, STRONG = 1, 2
"""Classes of cells that may be an edge and of those that surely are; other values are no edges."""


@dataclass(frozen=True)
class Hysteresis(Completion):
    """True at strong cells, and at weak cells connected with a strong one by weak or strong cells.

    By default cells are connected along axes and diagonals, with 8 in 2-D and 26 in 3-D (Canny 1986). For every
    edge cell on a side of its tile where the image continues, a tally has the cell's index in the image as key and its
    component's number as count; for every strong component among these, it has the negative number as key.

    Parameters
    ----------
    connectivity : int
        Largest number of axes along which neighbours differ: 1 for those along axes, 2 with diagonals of planes, 3
        with those of volumes too. More than the image has axes is as many.
    """

    connectivity: int = 3

    title = "join edges"
    cell_bytes = 10
    side_bytes = 60
    kernels_bytes = JOIN_BYTES

    def tally(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return the components that reach the sides of a tile, and which of them are strong."""
        first, strong = self._found(tile)
        reached = reached_cells(first, tile.shape, origin, shape, self.framed)
        outer = np.unique(first[reached])
        names, cells, ids = (
            cells_in_image(flat, tile.shape, origin, shape)
            for flat in (outer[strong[outer]], reached, first[reached])
        )
        keys = np.concatenate([-names - 1, cells])
        return Tally(keys, np.concatenate([np.ones(len(names), np.int64), ids + 1]))

    def merge(self, tallies: Sequence[Tally], shape: Shape) -> Ids:
        """Return the sorted numbers of components that reach sides of their tiles and are joined with a strong one."""
        keys = np.concatenate([tally.keys for tally in tallies])
        counts = np.concatenate([tally.counts for tally in tallies])
        outer = keys >= 0
        order = np.argsort(keys[outer])
        cells, ids = keys[outer][order], counts[outer][order]
        return _joined(touching(cells, ids, shape, self.connectivity), -keys[~outer])

    def complete(self, tile: NDArray[Any], origin: Shape, shape: Shape, merged: Ids) -> Bools:
        """Return True in components with a strong cell in the tile, and in those of `merged`."""
        first, kept = self._found(tile)
        outer = np.unique(first[reached_cells(first, tile.shape, origin, shape, self.framed)])
        kept[outer] |= _among(cells_in_image(outer, tile.shape, origin, shape) + 1, merged)
        return np.asarray(spread(kept, first).reshape(tile.shape))

    def _found(self, tile: NDArray[Any]) -> tuple[Ids, Bools]:
        """Return the first cell of each cell's component, -1 for no edge, and True at those of strong components."""
        first = first_cells((tile == WEAK) | (tile == STRONG), self.connectivity).ravel()
        classes, strong = tile.ravel(), np.zeros(first.size, bool)
        for piece in row_bands(first.shape, FEW_CELLS):
            strong[first[piece][classes[piece] == STRONG]] = True
        return first, strong


def _joined(pairs: Ids, strong: Ids) -> Ids:
    """Return the sorted components of `pairs` and `strong` that pairs connect with a strong one."""
    names = np.unique(np.concatenate([pairs.ravel(), strong]))
    groups = joined_groups(names, pairs)
    return names[np.isin(groups, groups[np.searchsorted(names, strong)])]


def _among(ids: Ids, wanted: Ids) -> Bools:
    """Return True where an id is one of the sorted `wanted`."""
    if not math.prod(wanted.shape):
        return np.zeros(ids.shape, bool)
    index = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[index] == ids)
