"""Connected components over the whole image: label tiles alone, and join what touches across their sides.

Components have no finite reach, so no kernel can find them. A component of a tile is numbered by the index of its first
cell in the image, plus 1, so that no tile needs to know the others. Components that touch across sides are joined by
their numbers, with the same result for any tiling.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffusion_ops.blocks.block import Bools, row_bands
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.completion import Completion
from diffusion_ops.kernels.pixels.components import join_cells

Ids = NDArray[np.int64]
Shape = tuple[int, ...]

JOIN_BYTES = 36 << 20
"""Resident memory of the kernel that joins cells: 19 MiB were measured where it is loaded, 27 where it is compiled."""

_PIECE = 1 << 14
"""Cells that are listed at a time: their lists take about 1 MiB, and a tile of millions has a few hundred pieces."""


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
    cell_bytes = 15
    side_bytes = 100
    kernels_bytes = JOIN_BYTES

    def tally(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> Tally:
        """Return the components at the sides of a tile, and the numbers of those inside."""
        found, size = self._found(tile, origin, shape), _size(shape)
        cells, values = found.cells(found.reached), _whole_numbers(tile.ravel()[found.reached])
        counts = np.count_nonzero(found.inner.reshape(-1, found.width), axis=1)
        lines = found.cells(np.flatnonzero(counts) * found.width)
        outer = found.cells(found.outer) + 1
        keys = np.concatenate([-outer[::-1], cells, cells + size, lines + 2 * size])
        ids = found.cells(found.first[found.reached]) + 1
        return Tally(keys, np.concatenate([found.after_outer()[::-1], ids, values, counts[counts > 0]]))

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
        sides, lines = (int(n) for n in merged[:, 0])
        names, of_sides = merged[:, 2 : 2 + sides]
        starts, total = merged[:, 2 + sides : 2 + sides + lines]
        table = _Numbering(starts, total, merged[0, 2 + sides + lines :], self._image_size(shape))
        labels = np.zeros(tile.size, np.int64)
        for inner, _ in found.by_lines():
            if len(inner):
                labels[inner] = table.of(found.cells(inner), found.after(inner, inner))
        labels[found.outer] = of_sides[np.searchsorted(names, found.cells(found.outer) + 1)]
        return np.asarray(spread(labels, found.first).reshape(tile.shape))

    def largest(self, merged: Ids) -> int:
        """Return the largest label."""
        return int(merged[0, 1])

    def _image_size(self, shape: Shape) -> int:
        """Return the number of cells that are numbered from 1 on."""
        return _size(shape[1:]) if self.framed else _size(shape)

    def _found(self, tile: NDArray[Any], origin: Shape, shape: Shape) -> _Found:
        first = first_cells(tile, self.connectivity).ravel()
        reached = reached_cells(first, tile.shape, origin, shape, self.framed)
        outer = np.unique(first[reached])
        inner = np.empty(first.size, bool)
        for piece in row_bands(first.shape, _PIECE):
            some = first[piece]
            inner[piece] = some == np.arange(piece.start, piece.start + len(some))
        inner[outer] = False
        return _Found(first, inner, outer, reached, tile.shape, origin, shape)


@dataclass(frozen=True)
class _Found:
    """The components of a tile: those inside, and those that reach a side where the image continues.

    Of those inside there may be as many as cells: they are marked, and listed for some lines at a time, so that a task
    holds as much of any image. Cells are flat indices in the tile.

    Attributes
    ----------
    first : integer ndarray
        First cell of each cell's component; -1 where there is none.
    inner : bool ndarray
        True at the first cells of components inside.
    outer : integer ndarray
        First cells of components at sides, sorted.
    reached : int64 ndarray
        Cells of components on sides where the image continues, sorted.
    extent, origin, shape : tuple of int
        Shape of the tile, its first cell in the image, and the shape of that.
    """

    first: Ids
    inner: Bools
    outer: Ids
    reached: Ids
    extent: Shape
    origin: Shape
    shape: Shape

    @property
    def width(self) -> int:
        """Cells of a line."""
        return self.extent[-1]

    def cells(self, flat: Ids) -> Ids:
        """Return the indices in the image of cells of the tile."""
        return cells_in_image(flat, self.extent, self.origin, self.shape)

    def by_lines(self) -> Iterator[tuple[Ids, Ids]]:
        """Yield the first cells of the components inside that begin in the next lines, and of those at sides."""
        lines = self.inner.reshape(-1, self.width)
        for band in row_bands(lines.shape, _PIECE):
            start, stop = np.searchsorted(self.outer, np.array([band.start, band.stop]) * self.width)
            yield band.start * self.width + np.flatnonzero(lines[band]), self.outer[start:stop]

    def after(self, flat: Ids, inner: Ids) -> Ids:
        """Return how many components inside begin at cells of some lines or after them, of those of these lines."""
        ends = (flat // self.width + 1) * self.width
        return np.asarray(np.searchsorted(inner, ends) - np.searchsorted(inner, flat))

    def after_outer(self) -> Ids:
        """Return how many components inside begin after each one at the sides in its line."""
        return np.concatenate([self.after(outer, inner) for inner, outer in self.by_lines()])


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
        return 1 + inside + self._joined(cells) - self._joined(start)

    def numbers(self, size: int) -> list[int]:
        """Return for each image how many components begin in it."""
        starts = np.arange(0, size, self.image)
        inside = self._inside(starts + self.image) - self._inside(starts)
        return [int(n) for n in inside + self._joined(starts + self.image) - self._joined(starts)]

    def _inside(self, cells: Ids) -> Ids:
        """Return how many inside components begin in lines that begin before a cell."""
        # The tables are as long as the image has lines and roots: nothing copies them.
        before = np.searchsorted(self.lines, cells)
        return np.where(before > 0, self.total[before - 1], 0) if len(self.total) else before

    def _joined(self, cells: Ids) -> Ids:
        """Return how many components of those at sides begin before a cell."""
        return np.asarray(np.searchsorted(self.roots, cells + 1))


def _size(shape: Shape) -> int:
    """Return the number of cells."""
    return math.prod(shape)


def _whole_numbers(tile: NDArray[Any]) -> Ids:
    """Return values as integers, 0 where there is none."""
    return np.asarray(np.nan_to_num(tile, nan=0.0).astype(np.int64))


def cells_in_image(flat: Ids, extent: Shape, origin: Shape, shape: Shape) -> Ids:
    """Return the row-major indices in an image of cells of a tile, given by those in the tile."""
    found: Ids = np.empty(len(flat), np.int64)
    for piece in row_bands(flat.shape, _PIECE):
        index = np.unravel_index(flat[piece], extent)
        there = tuple(i + start for i, start in zip(index, origin, strict=True))
        found[piece] = np.ravel_multi_index(there, shape)
    return found


def first_cells(values: NDArray[Any], connectivity: int) -> Ids:
    """Return for every cell of a tile the flat index in it of its component's first cell; -1 for no component.

    Parameters
    ----------
    values : ndarray
        Cells of one value may be of one component, those of value 0 or NaN are of none.
    connectivity : int
        Largest number of axes along which neighbours differ.
    """
    # Axes of length 1 connect nothing.
    flat = np.squeeze(values)
    planes = flat.reshape((1,) * (3 - flat.ndim) + flat.shape)
    offsets, joined = _neighbours_before(planes.shape, connectivity)
    first = np.empty(planes.size, np.int32 if planes.size <= np.iinfo(np.int32).max else np.int64)
    floats = np.result_type(planes.dtype, np.float32)
    join_cells(np.ascontiguousarray(planes, floats), offsets, joined, first)
    return np.asarray(first.reshape(values.shape))


def _neighbours_before(shape: Shape, connectivity: int) -> tuple[Ids, Ids]:
    """Return the neighbours that come before a cell, and for each of them bits of those that it is a neighbour of.

    These have been joined with it before, and itself is joined; the one that leaves the fewest others comes first. A
    volume of one plane has no neighbours in another.
    """

    def near(step: Shape) -> bool:
        return max(map(abs, step)) <= 1 and sum(map(abs, step)) <= connectivity

    steps = itertools.product(*((-1, 0, 1) if n > 1 else (0,) for n in shape))
    before = [step for step in steps if step < (0, 0, 0) and near(step)]
    beside = {
        one: [other for other in before if near(tuple(a - b for a, b in zip(one, other, strict=True)))]
        for one in before
    }
    before.sort(key=lambda one: -len(beside[one]))
    bits = [sum(1 << k for k, other in enumerate(before) if other in beside[one]) for one in before]
    return np.array(before, np.int64).reshape(-1, 3), np.array(bits, np.int64)


def spread(values: NDArray[Any], first: Ids) -> NDArray[Any]:
    """Give every cell the value at the first cell of its component, in place, and 0 where there is none."""
    for piece in row_bands(first.shape, _PIECE):
        # A first cell is its own first cell, so that no piece needs what another one has changed.
        some = first[piece]
        values[piece] = np.where(some >= 0, values[some], 0)
    return values


def reached_cells(first: Ids, extent: Shape, origin: Shape, shape: Shape, framed: bool) -> Ids:
    """Return the cells of components on sides of a tile where the image continues, as flat indices in the tile."""
    reached = on_open_sides(extent, origin, shape, framed).ravel()
    reached &= first >= 0
    return np.flatnonzero(reached)


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
