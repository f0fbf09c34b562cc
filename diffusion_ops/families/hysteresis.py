"""Keep weak edges that hang together with strong ones over the whole image, tile by tile from small tallies.

Connected components have no finite reach, so no kernel can do this. A tile is labelled alone, and tells which of its
components reach its sides and which of these are strong; components that touch across sides are joined as integers,
whichever way the image was cut; then every tile is labelled again and keeps what hangs together with a strong cell.
A component's number is the place of its first cell in the image: no tile has to know of the others.
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
"""What a cell that may be an edge and one that surely is are marked with; anything else is none."""

Ids = NDArray[np.int64]
Shape = tuple[int, ...]


class Hysteresis(Completion):
    """Keep strong cells, and weak ones connected with a strong one by weak or strong cells: True there.

    Neighbours are connected along axes and diagonals, 8 in 2-D and 26 in 3-D (Canny 1986). A tally has, for every cell
    of an edge on a side of its tile where the image goes on, the cell's number in the image as key and its component's
    as count; and for every strong component among these, its number below zero.
    """

    title = "join edges"

    def tell(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return the components that reach the sides of a tile, and which of them are strong."""
        ids = components(tile, origin, shape)
        reached = _on_open_sides(tile.shape, origin, shape) & (ids > 0)
        strong = np.intersect1d(ids[tile == STRONG], ids[reached])
        keys = np.concatenate([-strong, _cells(tile.shape, origin, shape)[reached]])
        return Tally(keys, np.concatenate([np.ones(len(strong), np.int64), ids[reached]]))

    def merge(self, told: Sequence[Tally], shape: Shape) -> Ids:
        """Return the components that reach sides of their tiles and hang together with a strong one, in order."""
        keys = np.concatenate([tally.keys for tally in told])
        counts = np.concatenate([tally.counts for tally in told])
        outer = keys >= 0
        order = np.argsort(keys[outer])
        cells, ids = keys[outer][order], counts[outer][order]
        return _joined(_touching(cells, ids, shape), -keys[~outer])

    def complete(self, tile: NDArray[Any], origin: Shape, shape: Shape, merged: Ids) -> Bools:
        """Return where a tile has edges: components with a strong cell of its own, and those that were merged."""
        ids = components(tile, origin, shape)
        return _among(ids, np.unique(ids[tile == STRONG])) | _among(ids, merged)


def _cells(extent: Shape, origin: Shape, shape: Shape) -> Ids:
    """Return the numbers of a tile's cells in the image, row-major."""
    axes = (range(start, start + n) for start, n in zip(origin, extent, strict=True))
    return np.ravel_multi_index(np.ix_(*axes), shape).astype(np.int64)


def components(classes: Any, origin: Shape, shape: Shape) -> Ids:
    """Return the components of a tile: 0 for no edge, else the number of the component's first cell, plus 1.

    Parameters
    ----------
    classes : ndarray
        1 weak, 2 strong, anything else no edge.
    origin : tuple of int
        Where the tile begins in the image.
    shape : tuple of int
        Of the image.
    """
    # Axes of length 1 connect nothing, and labelling is faster without them.
    flat = np.atleast_1d(np.squeeze((classes == WEAK) | (classes == STRONG)))
    local, count = label(flat, np.ones((3,) * flat.ndim, bool))
    first = np.full(count + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, local.ravel(), _cells(classes.shape, origin, shape).ravel())
    first[0] = -1
    return np.asarray(first[local].reshape(classes.shape) + 1)


def _on_open_sides(extent: Shape, origin: Shape, shape: Shape) -> Bools:
    """Return which cells of a tile lie on sides where the image goes on."""
    reached = np.zeros(extent, bool)
    for axis, (start, length) in enumerate(zip(origin, shape, strict=True)):
        here = np.moveaxis(reached, axis, 0)
        here[0] |= start > 0
        here[-1] |= start + extent[axis] < length
    return reached


def _touching(cells: Ids, ids: Ids, shape: Shape) -> Ids:
    """Return the pairs of components, of shape (n, 2), whose cells are neighbours; cells are in order."""
    pairs = [np.zeros((0, 2), np.int64)]
    places = np.stack(np.unravel_index(cells, shape)) if len(cells) else np.zeros((len(shape), 0), np.int64)
    for offset in itertools.product((-1, 0, 1), repeat=len(shape)):
        # Each pair of neighbours is looked at once.
        if offset <= (0,) * len(shape):
            continue
        there = places + np.array(offset)[:, None]
        inside = ((there >= 0) & (there < np.array(shape)[:, None])).all(axis=0)
        wanted = np.ravel_multi_index(tuple(there[:, inside]), shape)
        found = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        both = np.stack([ids[inside], ids[found]], axis=1)
        pairs.append(both[(cells[found] == wanted) & (both[:, 0] != both[:, 1])])
    return np.unique(np.concatenate(pairs), axis=0)


def _joined(pairs: Ids, strong: Ids) -> Ids:
    names, places = np.unique(np.concatenate([pairs.ravel(), strong]), return_inverse=True)
    first, second = places[: pairs.size].reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(len(names), len(names)))
    component = connected_components(links, directed=False)[1]
    return names[np.isin(component, component[places[pairs.size :]])]


def _among(ids: Ids, wanted: Ids) -> Bools:
    """Return which are among some in order, of which only few are looked at."""
    if not math.prod(wanted.shape):
        return np.zeros(ids.shape, bool)
    places = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[places] == ids) & (ids > 0)
