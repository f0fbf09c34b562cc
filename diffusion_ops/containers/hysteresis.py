"""Keep weak edges that hang together with strong ones: in memory, on Dask, or tile by tile from small tallies.

Connected components have no finite reach, so no kernel can do this. A tile is labelled alone, and tells which of its
components reach its sides and which of these are strong; components that touch across sides are joined as integers,
whichever way the image was cut; then every tile is labelled again and keeps what hangs together with a strong cell.
A component's number is the place of its first cell in the image: no tile has to know of the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffusion_ops.blocks.block import Bools

WEAK, STRONG = 1, 2
"""What a cell that may be an edge and one that surely is are marked with; anything else is none."""

Ids = NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sides:
    """What a tile tells the others of the components that reach its sides.

    Attributes
    ----------
    cells : int64 ndarray of shape (n,)
        Numbers in the image of their cells on sides where the image goes on.
    ids : int64 ndarray of shape (n,)
        Numbers of the components that these belong to.
    strong : int64 ndarray of shape (m,)
        Numbers of those components that have a strong cell.
    """

    cells: Ids
    ids: Ids
    strong: Ids


def hysteresis(classes: Any) -> Any:
    """Return where an edge is: strong cells, and weak ones connected with a strong one by weak or strong cells.

    Neighbours are connected along axes and diagonals, 8 in 2-D and 26 in 3-D (Canny 1986).

    Parameters
    ----------
    classes : ndarray or dask array
        1 weak, 2 strong, anything else (NaN too) no edge.

    Returns
    -------
    bool ndarray or dask array
        Of the same shape; the bits do not depend on the chunks.

    Examples
    --------
    >>> hysteresis(np.array([[1, 1, 0, 0, 2], [0, 0, 0, 1, 0], [1, 0, 1, 0, 0]])).astype(int)
    array([[0, 0, 0, 0, 1],
           [0, 0, 0, 1, 0],
           [0, 0, 1, 0, 0]])
    """
    if isinstance(classes, da.Array):
        return _hysteresis_of_chunks(classes)
    classes = np.asarray(classes)
    return edges(classes, components(classes, (0,) * classes.ndim, classes.shape), np.zeros(0, np.int64))


def _hysteresis_of_chunks(classes: Any) -> Any:
    starts = [np.cumsum([0, *sizes[:-1]]).tolist() for sizes in classes.chunks]
    origins = itertools.product(*starts)
    told = [
        delayed(_sides_of_chunk)(chunk, origin, classes.shape)
        for origin, chunk in zip(origins, classes.to_delayed().ravel(), strict=True)
    ]
    kept = delayed(kept_components)(told, classes.shape)
    meta = np.empty(0, bool)
    return classes.map_blocks(_keep_chunk, kept, starts, classes.shape, dtype=bool, meta=meta)


def _sides_of_chunk(classes: Any, origin: Shape, shape: Shape) -> Sides:
    return sides(classes, components(classes, origin, shape), origin, shape)


def _keep_chunk(classes: Any, kept: Ids, starts: Any, shape: Shape, block_id: Any = None) -> Bools:
    origin = tuple(some[i] for some, i in zip(starts, block_id, strict=True))
    return edges(classes, components(classes, origin, shape), kept)


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
    local, count = label((classes == WEAK) | (classes == STRONG), np.ones((3,) * classes.ndim, bool))
    first = np.full(count + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, local.ravel(), _cells(classes.shape, origin, shape).ravel())
    first[0] = -1
    return np.asarray(first[local] + 1)


def sides(classes: Any, ids: Ids, origin: Shape, shape: Shape) -> Sides:
    """Return what a tile tells the others; `ids` are its components."""
    reached = np.zeros(classes.shape, bool)
    for axis, (start, length) in enumerate(zip(origin, shape, strict=True)):
        here = np.moveaxis(reached, axis, 0)
        here[0] |= start > 0
        here[-1] |= start + classes.shape[axis] < length
    reached &= ids > 0
    strong = np.intersect1d(ids[classes == STRONG], ids[reached])
    return Sides(_cells(classes.shape, origin, shape)[reached], ids[reached], strong)


def kept_components(told: Sequence[Sides], shape: Shape) -> Ids:
    """Return the components that reach sides of their tiles and hang together with a strong one, in order."""
    cells = np.concatenate([one.cells for one in told])
    order = np.argsort(cells)
    ids = np.concatenate([one.ids for one in told])[order]
    strong = np.concatenate([one.strong for one in told])
    return _joined(_touching(cells[order], ids, shape), strong)


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


def edges(classes: Any, ids: Ids, kept: Ids) -> Bools:
    """Return where a tile has edges: components with a strong cell of its own, and those to keep."""
    return _among(ids, np.unique(ids[classes == STRONG])) | _among(ids, kept)


def _among(ids: Ids, wanted: Ids) -> Bools:
    """Return which are among some in order, of which only few are looked at."""
    if not math.prod(wanted.shape):
        return np.zeros(ids.shape, bool)
    places = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[places] == ids) & (ids > 0)
