"""Keep weak edges that hang together with strong ones: in memory, on Dask, or tile by tile from small tallies.

Connected components have no finite reach, so this is no operator. A tile is labelled alone and tells which of its
labels are strong and what lies on its faces; labels that touch across faces are joined as integers, whichever way
the image was cut; then every tile keeps the cells whose label hangs together with a strong one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from dask_image.ndmeasure import label as label_chunks
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffusion_ops.block import Bools

WEAK, STRONG = 1, 2
"""What a cell that may be an edge and one that surely is are marked with; anything else is none."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class TileLabels:
    """The components of one tile.

    Attributes
    ----------
    labels : int64 ndarray of the tile's shape
        0 where there is no edge.
    strong : int64 ndarray of shape (n,)
        Labels with a strong cell, in increasing order.
    """

    labels: Ids
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
    tile = label_tile(np.asarray(classes))
    return keep_tile(tile.labels, tile.strong)


def _hysteresis_of_chunks(classes: Any) -> Any:
    marked = (classes == WEAK) | (classes == STRONG)
    labels, _ = label_chunks(marked, np.ones((3,) * classes.ndim, bool))
    chunks = zip(labels.to_delayed().ravel(), classes.to_delayed().ravel(), strict=True)
    strong = delayed(_union)([delayed(_strong_labels)(*pair) for pair in chunks])
    return labels.map_blocks(keep_tile, strong, dtype=bool, meta=np.empty((0,) * classes.ndim, bool))


def _strong_labels(labels: Ids, classes: Any) -> Ids:
    return np.unique(labels[classes == STRONG])


def _union(parts: Sequence[Ids]) -> Ids:
    return np.unique(np.concatenate(parts))


def label_tile(classes: Any, tile: int = 0, cells: int = 0) -> TileLabels:
    """Return the components of one tile, numbered tile * cells + 1, tile * cells + 2, ...

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
    labels = np.where(local > 0, local + np.int64(tile) * cells, 0)
    return TileLabels(labels, _strong_labels(labels, classes))


def forward_offsets(ndim: int) -> list[tuple[int, ...]]:
    """Return where half of a tile's neighbours are, diagonal ones too; the others count it among theirs.

    Examples
    --------
    >>> forward_offsets(2)
    [(0, 1), (1, -1), (1, 0), (1, 1)]
    """
    offsets = itertools.product((-1, 0, 1), repeat=ndim)
    return [offset for offset in offsets if offset > (0,) * ndim]


def face(labels: Ids, offset: Sequence[int]) -> Ids:
    """Return the labels of a tile that touch its neighbour at an offset: a face, an edge or a corner."""
    return labels[tuple({-1: 0, 0: slice(None), 1: -1}[step] for step in offset)]


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


def kept_labels(pairs: Iterable[Ids], strong: Iterable[Ids]) -> Ids:
    """Return all labels that hang together with a strong one, in increasing order.

    Parameters
    ----------
    pairs : iterable of int64 ndarrays of shape (n, 2)
        What `touching` found, for any faces in any order.
    strong : iterable of int64 ndarrays
        The strong labels of every tile.
    """
    joined = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    sure = np.concatenate([np.zeros(0, np.int64), *strong])
    names, places = np.unique(np.concatenate([joined.ravel(), sure]), return_inverse=True)
    first, second = places[: joined.size].reshape(-1, 2).T
    links = coo_array((np.ones(len(joined), bool), (first, second)), shape=(len(names), len(names)))
    component = connected_components(links, directed=False)[1]
    return names[np.isin(component, component[places[joined.size :]])]


def keep_tile(labels: Ids, kept: Ids) -> Bools:
    """Return where a tile's labels are among those to keep."""
    return np.isin(labels, kept) & (labels > 0)
