"""Connected components over the whole image: label tiles alone, and join what touches across their sides.

Components have no finite reach, so no kernel can find them. A component of a tile is numbered by the index of its first
cell in the image, plus 1, so that no tile needs to know the others. Components that touch across sides are joined by
their numbers, with the same result for any tiling.
"""

from __future__ import annotations

import itertools
import math
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

    Cells of equal value that are neighbours are of one component. Components that reach a side of their tile where the
    image continues are told one by one: as many as the sides have cells at most. Of those inside, a tally only has
    their number in each line of the tile, which is enough to number them: so it stays small for any image.

    A tally has for every component at the sides its negative number as key, and as count how many inside components
    begin after it in its line; for every cell of one at the sides, with n cells of the image, the cell's index as key
    and the component's number as count, and the index plus n with the cell's value; and for every line the index of
    its first cell plus 2 n, with the number of inside components that begin in it.

    Parameters
    ----------
    connectivity : int
        Largest number of axes along which neighbours differ: 1 for those along axes, 2 for diagonals too.
    """

    connectivity: int = 3

    title = "label components"
    cell_bytes = 54

    def tally(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return the components at the sides of a tile, and the numbers of those inside."""
        found = self._found(tile, origin, shape)
        size, reached = _size(shape), on_open_sides(tile.shape, origin, shape, self.framed) & (found.ids > 0)
        cells = cell_indices(tile.shape, origin, shape)[reached]
        lines, counts = np.unique(found.lines_of(found.inner - 1), return_counts=True)
        ends = np.searchsorted(found.inner, found.lines_of(found.outer - 1) + tile.shape[-1], side="right")
        after = ends - np.searchsorted(found.inner, found.outer)
        keys = np.concatenate([-found.outer[::-1], cells, cells + size, lines + 2 * size])
        values = found.values[reached]
        return Tally(keys, np.concatenate([after[::-1], found.ids[reached], values, counts]))

    def merge(self, tallies: Sequence[Tally], shape: Shape) -> Ids:
        """Return three tables side by side, of shape (2, n): a head, components at sides, lines, and their roots.

        The head has the lengths of the first two tables and the largest label. Components at sides have their numbers
        and labels; lines their first cells and how many inside components begin up to their ends; roots are the first
        cells of what is joined of components at sides, plus 1.
        """
        size = _size(shape)
        keys = np.concatenate([tally.keys for tally in tallies])
        counts = np.concatenate([tally.counts for tally in tallies])
        order = np.argsort(keys)
        keys, counts = keys[order], counts[order]
        ends = np.searchsorted(keys, [0, size, 2 * size])
        names, after = -keys[: ends[0]][::-1], counts[: ends[0]][::-1]
        cells, ids, values = keys[ends[0] : ends[1]], counts[ends[0] : ends[1]], counts[ends[1] : ends[2]]
        lines, total = keys[ends[2] :] - 2 * size, np.cumsum(counts[ends[2] :])
        pairs = touching(cells, ids, shape, self.connectivity, values)
        first = first_of_joined(names, pairs)
        roots, index = np.unique(first, return_inverse=True)
        table = _Numbering(lines, total, names[roots], self._image_size(shape))
        labels = table.of(names[roots] - 1, after[roots])
        head = np.array([[len(names), max(table.numbers(size))], [len(lines), 0]])
        tables = [[names, labels[index]], [lines, total], [names[roots], names[roots]]]
        return np.concatenate([head, *(np.array(some, np.int64) for some in tables)], axis=1)

    def complete(self, tile: NDArray[Any], origin: Shape, shape: Shape, merged: Ids) -> Ids:
        """Return the labels of a tile."""
        found = self._found(tile, origin, shape)
        every, numbers = self._labels(found, tile.shape[-1], shape, merged)
        ids = found.ids
        # Of many components each of these arrays is as large as the tile.
        del found
        return np.asarray(numbers[np.searchsorted(every, ids)])

    def _labels(self, found: _Found, columns: int, shape: Shape, merged: Ids) -> tuple[Ids, Ids]:
        """Return the components of a tile in order, 0 included, and their labels."""
        sides, lines = (int(n) for n in merged[:, 0])
        names, labels = merged[:, 2 : 2 + sides]
        starts, total = merged[:, 2 + sides : 2 + sides + lines]
        table = _Numbering(starts, total, merged[0, 2 + sides + lines :], self._image_size(shape))
        after = np.searchsorted(found.inner, found.lines_of(found.inner - 1) + columns, side="right")
        after -= np.arange(len(found.inner))
        numbers = table.of(found.inner - 1, after)
        del after
        numbers = np.concatenate([[0], numbers, labels[np.searchsorted(names, found.outer)]])
        every = np.concatenate([[0], found.inner, found.outer])
        order = np.argsort(every)
        return every[order], numbers[order]

    def largest(self, merged: Ids) -> int:
        """Return the largest label."""
        return int(merged[0, 1])

    def _image_size(self, shape: Shape) -> int:
        """Return the number of cells that are numbered from 1 on."""
        return _size(shape[1:]) if self.framed else _size(shape)

    def _found(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> _Found:
        values = _whole_numbers(tile)
        ids, every = components_of(values, origin, shape, self.connectivity)
        outer = np.unique(ids[on_open_sides(tile.shape, origin, shape, self.framed) & (ids > 0)])
        inner = every[~np.isin(every, outer, assume_unique=True)]
        return _Found(values, ids, inner, outer, origin[-1], shape[-1])


@dataclass(frozen=True)
class _Found:
    """The components of a tile: those inside, and those that reach a side where the image continues."""

    values: Ids
    ids: Ids
    inner: Ids
    outer: Ids
    column: int
    columns: int

    def lines_of(self, cells: Ids) -> Ids:
        """Return the first cell in the tile of the line that each cell lies in."""
        return cells - cells % self.columns + self.column


@dataclass(frozen=True)
class _Numbering:
    """How many components begin before a cell: those inside tiles by lines, and the roots of those at sides.

    Attributes
    ----------
    lines, total : int64 ndarray
        First cells of the lines of tiles, and how many inside components begin in them and those before.
    roots : int64 ndarray
        First cells, plus 1, of what is joined of components at sides.
    image : int
        Number of cells of an image with numbers of its own.
    """

    lines: Ids
    total: Ids
    roots: Ids
    image: int

    def of(self, cells: Ids, after: Ids) -> Ids:
        """Return the labels of components by their first cells, and how many inside begin after each in its line.

        One that is inside counts as after itself.
        """
        start = cells - cells % self.image
        inside = self._inside(cells + 1) - self._inside(start) - after
        return 1 + inside + np.searchsorted(self.roots - 1, cells) - np.searchsorted(self.roots - 1, start)

    def numbers(self, size: int) -> list[int]:
        """Return for each image how many components begin in it."""
        starts = np.arange(0, size, self.image)
        inside = self._inside(starts + self.image) - self._inside(starts)
        roots = [np.searchsorted(self.roots - 1, cells) for cells in (starts, starts + self.image)]
        return [int(n) for n in inside + roots[1] - roots[0]]

    def _inside(self, cells: Ids) -> Ids:
        """Return how many inside components begin in lines that begin before a cell."""
        return np.concatenate([[0], self.total])[np.searchsorted(self.lines, cells)]


def _size(shape: Shape) -> int:
    """Return the number of cells."""
    return math.prod(shape)


def _whole_numbers(tile: NDArray[Any]) -> Ids:
    """Return values as integers, 0 where there is none."""
    return np.asarray(np.nan_to_num(tile, nan=0.0).astype(np.int64))


def cell_indices(extent: Shape, origin: Shape, shape: Shape) -> Ids:
    """Return the row-major indices of a tile's cells in the image."""
    axes = (range(start, start + n) for start, n in zip(origin, extent, strict=True))
    return np.ravel_multi_index(np.ix_(*axes), shape).astype(np.int64)


def components_of(values: NDArray[Any], origin: Shape, shape: Shape, connectivity: int) -> tuple[Ids, Ids]:
    """Return the component of each cell of a tile, and all components, sorted.

    A component is the index of its first cell, plus 1; where the value is 0 there is none, and 0.

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
    first += 1
    return first[local].reshape(values.shape), np.sort(first[1:])


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


def on_open_sides(extent: Shape, origin: Shape, shape: Shape, framed: bool) -> Bools:
    """Return True for the cells of a tile on sides where the image continues; images along a first axis do not."""
    reached = np.zeros(extent, bool)
    for axis, (start, length) in enumerate(zip(origin, shape, strict=True)):
        if framed and axis == 0:
            continue
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
