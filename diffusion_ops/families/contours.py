"""Move a contour by morphological operators: it is carried as a field of 0 and 1 (Marquez-Neila, Baumela, Alvarez).

Cells beyond the image and beyond walls are 0, as they are for scikit-image, whose results these are bit by bit.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block, Bools, Floats, as_image

Offset = tuple[int, ...]

_AXES = {2: ((0, 1), (1, 0)), 3: ((0, 0, 1), (0, 1, 0), (1, 0, 0))}


@functools.cache
def _pieces(ndim: int) -> tuple[tuple[Offset, ...], ...]:
    """Return the cells of the lines through a cell, 4 in 2-D, or of the planes through it, 9 in 3-D."""
    if ndim == 2:
        spans: list[tuple[Offset, ...]] = [((0, 1),), ((1, 0),), ((1, 1),), ((1, -1),)]
    else:
        x, y, z = _AXES[3]
        spans = [(z, y), (z, x), (y, x), (z, (0, 1, 1)), (z, (0, 1, -1)), (y, (1, 0, 1)), (y, (1, 0, -1))]
        spans += [(x, (1, 1, 0)), (x, (1, -1, 0))]
    steps = (-1, 0, 1)
    return tuple(
        tuple(
            tuple(sum(n * v[a] for n, v in zip(some, span, strict=True)) for a in range(ndim))
            for some in itertools.product(steps, repeat=len(span))
        )
        for span in spans
    )


def _folded(u: Bools, offsets: Sequence[Offset], join: Callable[..., Any]) -> Bools:
    """Return the minimum or maximum of the cells at some offsets from each cell; those outside are 0."""
    padded = np.pad(u, 1)
    found: Bools | None = None
    for offset in offsets:
        part = padded[tuple(slice(1 + d, 1 + d + n) for d, n in zip(offset, u.shape, strict=True))]
        found = part.copy() if found is None else join(found, part, out=found)
    assert found is not None
    return found


def _sup_inf(u: Bools) -> Bools:
    """Return the largest over all lines of the smallest along each."""
    parts = (_folded(u, piece, np.logical_and) for piece in _pieces(u.ndim))
    return functools.reduce(np.logical_or, parts)


def _inf_sup(u: Bools) -> Bools:
    """Return the smallest over all lines of the largest along each."""
    parts = (_folded(u, piece, np.logical_or) for piece in _pieces(u.ndim))
    return functools.reduce(np.logical_and, parts)


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
    box = tuple(itertools.product((-1, 0, 1), repeat=u.ndim))
    return kept_inside(_folded(u, box, np.logical_or if balloon > 0 else np.logical_and), inside)


def kept_inside(u: Bools, inside: Bools | None) -> Bools:
    """Return a contour that is 0 beyond walls."""
    return u if inside is None else u & inside


def slopes(values: Floats, inside: Bools | None) -> list[Floats]:
    """Return the differences along each axis: central ones, and at edges and walls those to the other side."""
    found = []
    for axis in range(values.ndim):
        v = np.moveaxis(values, axis, 0)
        good = np.ones(v.shape, bool) if inside is None else np.moveaxis(inside, axis, 0)
        slope = np.zeros_like(v)
        one = np.where(good[1:] & good[:-1], v[1:] - v[:-1], 0)
        slope[:-1] += one
        slope[1:] += one
        both = good[2:] & good[1:-1] & good[:-2]
        slope[1:-1] = np.where(both, (v[2:] - v[:-2]) / v.dtype.type(2), slope[1:-1])
        found.append(np.moveaxis(slope, 0, axis))
    return found


def contour_of(block: Block) -> Bools:
    """Return the carried contour of a block, 0 beyond walls."""
    assert block.carried is not None
    return kept_inside(as_image(block.carried[:1], block.spatial)[0] > 0.5, block.valid)


def keep_contour(block: Block, u: Bools) -> None:
    """Carry a contour on."""
    assert block.carried is not None
    as_image(block.carried[:1], block.spatial)[0] = u
