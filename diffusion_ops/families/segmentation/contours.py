"""Move a contour by morphological operators: it is carried as a field of 0 and 1 (Marquez-Neila, Baumela, Alvarez).

Cells beyond the image and beyond walls are 0, as they are for scikit-image, whose results these are bit by bit.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block, Bools, Floats, as_image

_FEW_CELLS = 1 << 12
"""Number of cells that are weighed at a time."""

Part = tuple[slice, ...]
"""The cells at one offset from each cell, in an array with a cell more on every side."""


def _part(offset: Sequence[int]) -> Part:
    return tuple(slice(1 + d, d - 1 or None) for d in offset)


def _span(*directions: Sequence[int]) -> tuple[Part, ...]:
    """Return the cells of the line along a direction, or of the plane along two."""
    steps = itertools.product((-1, 0, 1), repeat=len(directions))
    pairs = (zip(some, directions, strict=True) for some in steps)
    moves = ([[n * d for d in direction] for n, direction in some] for some in pairs)
    return tuple(_part([sum(axis) for axis in zip(*move, strict=True)]) for move in moves)


def _planes() -> tuple[tuple[Part, ...], ...]:
    """Return the planes along two axes, and along an axis and a diagonal of the others."""
    x, y, z = (0, 0, 1), (0, 1, 0), (1, 0, 0)
    plain = (_span(z, y), _span(z, x), _span(y, x))
    along_z, along_y = (_span(z, (0, 1, d)) for d in (1, -1)), (_span(y, (1, 0, d)) for d in (1, -1))
    return (*plain, *along_z, *along_y, *(_span(x, (1, d, 0)) for d in (1, -1)))


_LINES = {2: tuple(_span(d) for d in ((0, 1), (1, 0), (1, 1), (1, -1))), 3: _planes()}
"""The lines through a cell in 2-D, and the planes through it in 3-D."""

_BOX = {n: tuple(_part(offset) for offset in itertools.product((-1, 0, 1), repeat=n)) for n in (2, 3)}
"""A cell and all around it."""


def _padded(u: Bools) -> Bools:
    padded = np.zeros([n + 2 for n in u.shape], bool)
    padded[(slice(1, -1),) * u.ndim] = u
    return padded


def _folded(padded: Bools, parts: Sequence[Part], join: Callable[..., Any]) -> Bools:
    """Return the minimum or maximum over some parts."""
    found: Bools = padded[parts[0]].copy()
    for part in parts[1:]:
        join(found, padded[part], out=found)
    return found


def _over_lines(u: Bools, along: Callable[..., Any], over: Callable[..., Any]) -> Bools:
    """Return one extreme over all lines of the other along each; cells outside are 0."""
    first, *others = _LINES[u.ndim]
    padded = _padded(u)
    found = _folded(padded, first, along)
    for line in others:
        over(found, _folded(padded, line, along), out=found)
    return found


def _sup_inf(u: Bools) -> Bools:
    return _over_lines(u, np.logical_and, np.logical_or)


def _inf_sup(u: Bools) -> Bools:
    return _over_lines(u, np.logical_or, np.logical_and)


def smoothed_contour(u: Bools, inside: Bools | None, times: int, before: int) -> Bools:
    """Return a contour after some steps of its curvature; the two orders of the operators take turns.

    Parameters
    ----------
    u : bool ndarray
    inside : bool ndarray or None
        Where no wall is.
    times : int
    before : int
        Number of such steps that were taken before.
    """
    for k in range(before, before + times):
        first, second = (_sup_inf, _inf_sup) if k % 2 else (_inf_sup, _sup_inf)
        u = kept_inside(second(kept_inside(first(u), inside)), inside)
    return u


def grown_contour(u: Bools, inside: Bools | None, balloon: float) -> Bools:
    """Return a contour that has moved outwards by a cell, or inwards for a negative force."""
    join = np.logical_or if balloon > 0 else np.logical_and
    return kept_inside(_folded(_padded(u), _BOX[u.ndim], join), inside)


def kept_inside(u: Bools, inside: Bools | None) -> Bools:
    """Return a contour that is 0 beyond walls."""
    return u if inside is None else u & inside


def _neighbours(values: Floats, inside: Bools | None, axis: int) -> tuple[Floats, Floats, Bools | None]:
    """Return the cells before and after each cell along an axis, itself beyond edges and walls, and where both are."""
    before, after = values.copy(), values.copy()
    low, high = (_shifted(values.ndim, axis, *ends) for ends in ((None, -1), (1, None)))
    if inside is None:
        before[high], after[low] = values[low], values[high]
        return before, after, None
    free = inside[high] & inside[low]
    np.copyto(before[high], values[low], where=free)
    np.copyto(after[low], values[high], where=free)
    both = np.zeros(values.shape, bool)
    middle, first, second = (_shifted(values.ndim, axis, *ends) for ends in ((1, -1), (None, -1), (1, None)))
    both[middle] = free[first] & free[second]
    return before, after, both


@functools.cache
def _shifted(ndim: int, axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return tuple(slice(start, stop) if a == axis else slice(None) for a in range(ndim))


def on_contour(u: Bools, inside: Bools | None) -> Bools:
    """Return where a slope of a contour is not 0."""
    found = np.zeros(u.shape, bool)
    for axis in range(u.ndim):
        before, after, _ = _neighbours(u, inside, axis)
        found |= before != after
    return kept_inside(found, inside)


def slope_along(values: Floats, inside: Bools | None, axis: int) -> Floats:
    """Return the central differences along an axis, and at edges and walls those to the other side."""
    before, after, both = _neighbours(values, inside, axis)
    after -= before
    if both is None:
        after[_shifted(values.ndim, axis, 1, -1)] /= 2
    else:
        np.divide(after, after.dtype.type(2), out=after, where=both)
    return after


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of the first axis of few cells each: what is made of them is small."""
    rows = max(1, _FEW_CELLS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def contour_of(block: Block) -> Bools:
    """Return the carried contour of a block, 0 beyond walls."""
    assert block.carried is not None
    return kept_inside(as_image(block.carried[:1], block.spatial)[0] > 0.5, block.valid)


def keep_contour(block: Block, u: Bools) -> None:
    """Carry a contour on."""
    assert block.carried is not None
    as_image(block.carried[:1], block.spatial)[0] = u
