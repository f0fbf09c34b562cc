"""Connected components over the whole image: label tiles alone, and join what touches across their sides.

Components have no finite reach, so no kernel can find them. A component of a tile is numbered by the index of its first
cell in the image, plus 1, so that no tile needs to know the others. Components that touch across sides are joined by
their numbers, with the same result for any tiling.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, generate_binary_structure, label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffusion_ops.blocks.block import Bools
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.completion import Completion

Ids = NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Labelling(Completion):
    """Number of the component of every cell that is not 0: 1, 2, ... in the order of their first cells, row by row.

    Cells of equal value that are neighbours are of one component. A tally has every component of the tile as a negative
    key; and for every cell on a side where the image continues, the cell's index as key with the component's number as
    count, and the index plus the number of cells of the image with the cell's value.

    Parameters
    ----------
    connectivity : int
        Largest number of axes along which neighbours differ: 1 for those along axes, 2 for diagonals too.
    """

    connectivity: int = 3

    title = "label components"

    def tally(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return the components of a tile, and the cells in which they reach its sides."""
        values = _whole_numbers(tile)
        ids = components_of(values, origin, shape, self.connectivity)
        reached = on_open_sides(tile.shape, origin, shape) & (ids > 0)
        every, cells = -np.unique(ids[ids > 0])[::-1], cell_indices(tile.shape, origin, shape)[reached]
        keys = np.concatenate([every, cells, cells + np.prod(shape, dtype=np.int64)])
        return Tally(keys, np.concatenate([np.ones(len(every), np.int64), ids[reached], values[reached]]))

    def merge(self, tallies: Sequence[Tally], shape: Shape) -> Ids:
        """Return the numbers of the components of tiles, rising, and their labels, of shape (2, n)."""
        keys = np.concatenate([tally.keys for tally in tallies])
        counts = np.concatenate([tally.counts for tally in tallies])
        names, size = np.sort(-keys[keys < 0]), np.prod(shape, dtype=np.int64)
        order = np.argsort(keys[keys >= 0])
        cells, counts = keys[keys >= 0][order], counts[keys >= 0][order]
        inner = cells < size
        pairs = touching(cells[inner], counts[inner], shape, self.connectivity, counts[~inner])
        roots = names[first_of_joined(names, pairs)]
        first, index = np.unique(roots, return_inverse=True)
        labels = np.arange(1, len(first) + 1)
        if self.framed and len(first):
            # Every image of its own begins with 1.
            image = (first - 1) // (size // shape[0])
            labels -= np.searchsorted(image, image)
        return np.stack([names, labels[index]])

    def complete(self, tile: NDArray[Any], origin: Shape, shape: Shape, merged: Ids) -> Ids:
        """Return the labels of a tile."""
        ids = components_of(_whole_numbers(tile), origin, shape, self.connectivity)
        names, labels = np.concatenate([[[0], [0]], merged], axis=1)
        return np.asarray(labels[np.searchsorted(names, ids)])

    def largest(self, merged: Ids) -> int:
        """Return the largest label."""
        return int(merged[1].max(initial=0))


def _whole_numbers(tile: NDArray[Any]) -> Ids:
    """Return values as integers, 0 where there is none."""
    return np.asarray(np.nan_to_num(tile, nan=0.0).astype(np.int64))


def cell_indices(extent: Shape, origin: Shape, shape: Shape) -> Ids:
    """Return the row-major indices of a tile's cells in the image."""
    axes = (range(start, start + n) for start, n in zip(origin, extent, strict=True))
    return np.ravel_multi_index(np.ix_(*axes), shape).astype(np.int64)


def components_of(values: NDArray[Any], origin: Shape, shape: Shape, connectivity: int) -> Ids:
    """Return the components of a tile: 0 where the value is 0, else the index of the component's first cell, plus 1.

    Parameters
    ----------
    values : ndarray of bool or integers
        Cells of one value may be of one component.
    origin : tuple of int
        Index in the image of the tile's first cell.
    shape : tuple of int
        Shape of the image.
    connectivity : int
        Largest number of axes along which neighbours differ.
    """
    # Axes of length 1 connect nothing, and labelling is faster without them.
    flat = np.atleast_1d(np.squeeze(values))
    local, count = _labelled(flat, generate_binary_structure(flat.ndim, min(connectivity, flat.ndim)))
    first = np.full(count + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, local.ravel(), cell_indices(values.shape, origin, shape).ravel())
    first[0] = -1
    ids: Ids = first[local].reshape(values.shape) + 1
    return ids


def _labelled(values: NDArray[Any], structure: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the components of an array and their number, value by value where there are several."""
    some = np.unique(values[values != 0])
    if len(some) < 2:
        return label(values != 0, structure)
    numbers = (np.searchsorted(some, values) + 1) * (values != 0)
    result, count = np.zeros(values.shape, np.int64), 0
    for number, box in enumerate(find_objects(numbers), start=1):
        found, more = label(numbers[box] == number, structure)
        result[box] += found + count * (found > 0)
        count += more
    return result, count


def on_open_sides(extent: Shape, origin: Shape, shape: Shape) -> Bools:
    """Return True for the cells of a tile on sides where the image continues."""
    reached = np.zeros(extent, bool)
    for axis, (start, length) in enumerate(zip(origin, shape, strict=True)):
        here = np.moveaxis(reached, axis, 0)
        here[0] |= start > 0
        here[-1] |= start + extent[axis] < length
    return reached


def touching(cells: Ids, ids: Ids, shape: Shape, connectivity: int, values: Ids | None = None) -> Ids:
    """Return the pairs of components, of shape (n, 2), whose cells are neighbours, with equal values if there are some.

    Cells are sorted; `ids` and `values` belong to them.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    indices = np.stack(np.unravel_index(cells, shape)) if len(cells) else np.zeros((len(shape), 0), np.int64)
    for offset in itertools.product((-1, 0, 1), repeat=len(shape)):
        # Each pair of neighbours is visited once.
        if offset <= (0,) * len(shape) or sum(map(abs, offset)) > connectivity:
            continue
        there = indices + np.array(offset)[:, None]
        inside = ((there >= 0) & (there < np.array(shape)[:, None])).all(axis=0)
        wanted = np.ravel_multi_index(tuple(there[:, inside]), shape)
        found = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        both = np.stack([ids[inside], ids[found]], axis=1)
        joined = (cells[found] == wanted) & (both[:, 0] != both[:, 1])
        if values is not None:
            joined &= values[inside] == values[found]
        pairs.append(both[joined])
    return np.unique(np.concatenate(pairs), axis=0)


def joined_groups(names: Ids, pairs: Ids) -> NDArray[Any]:
    """Return the group of each of the sorted names; pairs of names are in one group."""
    first, second = np.searchsorted(names, pairs.T)
    links = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(len(names), len(names)))
    found: Callable[..., Any] = connected_components
    return np.asarray(found(links, directed=False)[1])


def first_of_joined(names: Ids, pairs: Ids) -> Ids:
    """Return for each of the sorted names the index of the first name that pairs join it with."""
    groups = joined_groups(names, pairs)
    first = np.full(len(names), len(names), np.int64)
    np.minimum.at(first, groups, np.arange(len(names)))
    return np.asarray(first[groups])
