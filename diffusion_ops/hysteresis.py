"""Keep weak edges that hang together with strong ones: in memory, on Dask, or tile by tile from small tallies.

Connected components have no finite reach, so this is no operator. A tile is labelled alone and tells which of its
labels are strong and what lies on its faces; labels that touch across faces are joined as integers, whichever way
the image was cut; then every tile is labelled again and keeps the cells whose label hangs together with a strong
one. Nothing of a tile's size waits for the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffusion_ops.block import Bools

WEAK, STRONG = 1, 2
"""What a cell that may be an edge and one that surely is are marked with; anything else is none."""

_END: Mapping[int, Any] = {-1: 0, 0: slice(None), 1: -1}
"""Which cells of an axis touch the neighbour there."""

Ids = NDArray[np.int64]
Place = tuple[int, ...]


@dataclass(frozen=True)
class TileTally:
    """What a tile tells the others.

    Attributes
    ----------
    strong : int64 ndarray of shape (n,)
        Labels with a strong cell, in increasing order.
    faces : dict of tuple of int to int64 ndarray
        Labels of the cells that touch the neighbour at an offset such as (0, 1) or (-1, -1): a face, an edge or
        a corner of the tile. 0 where there is no edge.
    """

    strong: Ids
    faces: Mapping[Place, Ids]


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
    labels = label_tile(np.asarray(classes))
    return _among(labels, _strong_labels(labels, classes))


def _hysteresis_of_chunks(classes: Any) -> Any:
    cells = math.prod(max(sizes) for sizes in classes.chunks)
    tiles = zip(np.ndindex(classes.numblocks), classes.to_delayed().ravel(), strict=True)
    tallies = {place: delayed(tally_tile)(chunk, i, cells) for i, (place, chunk) in enumerate(tiles)}
    kept = delayed(kept_labels)(tallies)
    return classes.map_blocks(_keep_chunk, kept, cells, classes.numblocks, dtype=bool, meta=np.empty(0, bool))


def _keep_chunk(classes: Any, kept: Ids, cells: int, grid: Place, block_id: Any = None) -> Bools:
    return keep_tile(classes, kept, int(np.ravel_multi_index(block_id, grid)), cells)


def label_tile(classes: Any, tile: int = 0, cells: int = 0) -> Ids:
    """Return the components of one tile, numbered tile * cells + 1, tile * cells + 2, ...; 0 is no edge.

    Parameters
    ----------
    classes : ndarray
        1 weak, 2 strong, anything else no edge.
    tile : int
        Number of the tile.
    cells : int
        At least the cells of the largest tile, so that no number is given twice.
    """
    local, _ = label((classes == WEAK) | (classes == STRONG), np.ones((3,) * classes.ndim, bool))
    return np.where(local > 0, local + np.int64(tile) * cells, 0)


def _strong_labels(labels: Ids, classes: Any) -> Ids:
    return np.unique(labels[classes == STRONG])


def tally_tile(classes: Any, tile: int, cells: int) -> TileTally:
    """Return what one tile tells the others; parameters as in `label_tile`."""
    labels = label_tile(classes, tile, cells)
    faces = {}
    for offset in itertools.product((-1, 0, 1), repeat=classes.ndim):
        if any(offset):
            faces[offset] = np.array(labels[tuple(_END[step] for step in offset)])
    return TileTally(_strong_labels(labels, classes), faces)


def touching(first: Ids, second: Ids) -> Ids:
    """Return the pairs of labels, of shape (n, 2), that are connected across two faces laid on each other.

    Every cell touches the one opposite and the neighbours of that one, as far as the faces go; what lies
    beyond belongs to the faces of diagonal neighbours.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for offset in itertools.product((-1, 0, 1), repeat=first.ndim):
        axes = list(zip(offset, first.shape, strict=True))
        here = tuple(slice(max(0, -step), n - max(0, step)) for step, n in axes)
        there = tuple(slice(max(0, step), n - max(0, -step)) for step, n in axes)
        both = np.stack([first[here].ravel(), second[there].ravel()], axis=1)
        pairs.append(both[(both > 0).all(axis=1)])
    return np.unique(np.concatenate(pairs), axis=0)


def kept_labels(tallies: Mapping[Place, TileTally]) -> Ids:
    """Return all labels that hang together with a strong one, in increasing order.

    Parameters
    ----------
    tallies : dict of tuple of int to TileTally
        By the tile's place in the grid of tiles.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for place, tally in tallies.items():
        for offset, own in tally.faces.items():
            other = tallies.get(tuple(i + step for i, step in zip(place, offset, strict=True)))
            # Each pair of neighbours is looked at once.
            if other is not None and offset > (0,) * len(offset):
                pairs.append(touching(own, other.faces[tuple(-step for step in offset)]))
    strong = np.concatenate([tally.strong for tally in tallies.values()])
    return _joined(np.concatenate(pairs), strong)


def _joined(pairs: Ids, strong: Ids) -> Ids:
    names, places = np.unique(np.concatenate([pairs.ravel(), strong]), return_inverse=True)
    first, second = places[: pairs.size].reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(len(names), len(names)))
    component = connected_components(links, directed=False)[1]
    return names[np.isin(component, component[places[pairs.size :]])]


def keep_tile(classes: Any, kept: Ids, tile: int, cells: int) -> Bools:
    """Return where a tile's edges are among those to keep; parameters as in `label_tile`."""
    return _among(label_tile(classes, tile, cells), kept)


def _among(labels: Ids, kept: Ids) -> Bools:
    return np.isin(labels, kept) & (labels > 0)
