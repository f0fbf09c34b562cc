"""Keep weak edges that are connected with strong ones over the whole image (hysteresis thresholding), tile by tile.

Connected components have no finite reach, so no kernel can find them. Every tile is labelled alone, and its tally lists
the components that reach its sides and which of these are strong. Components that touch across sides are joined by
their numbers, with the same result for any tiling. Then every tile is labelled again and keeps the components that are
joined with a strong cell. A component's number is the index of its first cell in the image, so that no tile needs to
know the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffusion_ops.blocks.block import Bools
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.completion import Completion

WEAK, STRONG = 1, 2
"""Classes of cells that may be an edge and of those that surely are; other values are no edges."""

Ids = NDArray[np.int64]
Shape = tuple[int, ...]


class Hysteresis(Completion):
    """True at strong cells, and at weak cells connected with a strong one by weak or strong cells.

    Cells are connected with their neighbours along axes and diagonals, 8 in 2-D and 26 in 3-D (Canny 1986). For every
    edge cell on a side of its tile where the image continues, a tally has the cell's index in the image as key and its
    component's number as count; for every strong component among these, it has the negative number as key.
    """

    title = "join edges"

    def tally(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return the components that reach the sides of a tile, and which of them are strong."""
        ids = components(tile, origin, shape)
        reached = _on_open_sides(tile.shape, origin, shape) & (ids > 0)
        strong = np.intersect1d(ids[tile == STRONG], ids[reached])
        keys = np.concatenate([-strong, _cells(tile.shape, origin, shape)[reached]])
        return Tally(keys, np.concatenate([np.ones(len(strong), np.int64), ids[reached]]))

    def merge(self, tallies: Sequence[Tally], shape: Shape) -> Ids:
        """Return the sorted numbers of components that reach sides of their tiles and are joined with a strong one."""
        keys = np.concatenate([tally.keys for tally in tallies])
        counts = np.concatenate([tally.counts for tally in tallies])
        outer = keys >= 0
        order = np.argsort(keys[outer])
        cells, ids = keys[outer][order], counts[outer][order]
        return _joined(_touching(cells, ids, shape), -keys[~outer])

    def complete(self, tile: NDArray[Any], origin: Shape, shape: Shape, merged: Ids) -> Bools:
        """Return True in components with a strong cell in the tile, and in those of `merged`."""
        ids = components(tile, origin, shape)
        return _among(ids, np.unique(ids[tile == STRONG])) | _among(ids, merged)


def _cells(extent: Shape, origin: Shape, shape: Shape) -> Ids:
    """Return the row-major indices of a tile's cells in the image."""
    axes = (range(start, start + n) for start, n in zip(origin, extent, strict=True))
    return np.ravel_multi_index(np.ix_(*axes), shape).astype(np.int64)


def components(classes: Any, origin: Shape, shape: Shape) -> Ids:
    """Return the components of a tile: 0 for no edge, else the number of the component's first cell, plus 1.

    Parameters
    ----------
    classes : ndarray
        1 weak, 2 strong, anything else no edge.
    origin : tuple of int
        Index in the image of the tile's first cell.
    shape : tuple of int
        Shape of the image.
    """
    # Axes of length 1 connect nothing, and labelling is faster without them.
    flat = np.atleast_1d(np.squeeze((classes == WEAK) | (classes == STRONG)))
    local, count = label(flat, np.ones((3,) * flat.ndim, bool))
    first = np.full(count + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, local.ravel(), _cells(classes.shape, origin, shape).ravel())
    first[0] = -1
    return np.asarray(first[local].reshape(classes.shape) + 1)


def _on_open_sides(extent: Shape, origin: Shape, shape: Shape) -> Bools:
    """Return True for the cells of a tile on sides where the image continues."""
    reached = np.zeros(extent, bool)
    for axis, (start, length) in enumerate(zip(origin, shape, strict=True)):
        here = np.moveaxis(reached, axis, 0)
        here[0] |= start > 0
        here[-1] |= start + extent[axis] < length
    return reached


def _touching(cells: Ids, ids: Ids, shape: Shape) -> Ids:
    """Return the pairs of components, of shape (n, 2), whose cells are neighbours; cells are sorted."""
    pairs = [np.zeros((0, 2), np.int64)]
    indices = np.stack(np.unravel_index(cells, shape)) if len(cells) else np.zeros((len(shape), 0), np.int64)
    for offset in itertools.product((-1, 0, 1), repeat=len(shape)):
        # Each pair of neighbours is visited once.
        if offset <= (0,) * len(shape):
            continue
        there = indices + np.array(offset)[:, None]
        inside = ((there >= 0) & (there < np.array(shape)[:, None])).all(axis=0)
        wanted = np.ravel_multi_index(tuple(there[:, inside]), shape)
        found = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        both = np.stack([ids[inside], ids[found]], axis=1)
        pairs.append(both[(cells[found] == wanted) & (both[:, 0] != both[:, 1])])
    return np.unique(np.concatenate(pairs), axis=0)


def _joined(pairs: Ids, strong: Ids) -> Ids:
    """Return the sorted components of `pairs` and `strong` that pairs connect with a strong one."""
    names, indices = np.unique(np.concatenate([pairs.ravel(), strong]), return_inverse=True)
    first, second = indices[: pairs.size].reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(len(names), len(names)))
    component = connected_components(links, directed=False)[1]
    return names[np.isin(component, component[indices[pairs.size :]])]


def _among(ids: Ids, wanted: Ids) -> Bools:
    """Return True where an id is one of the sorted `wanted`."""
    if not math.prod(wanted.shape):
        return np.zeros(ids.shape, bool)
    index = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[index] == ids) & (ids > 0)
