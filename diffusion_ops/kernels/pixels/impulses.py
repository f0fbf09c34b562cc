"""Find salt and pepper in windows that grow as needed, and replace it by the mean of the other cells.

Whether a median lies strictly between the extremes of its window follows from how often these occur: a window grows by
one ring at a time, each ring only updates the two extremes and their counts, and nothing is sorted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from diffusion_ops.blocks.block import Block, Bools, allocate
from diffusion_ops.kernels.lanes import copied, kernel
from diffusion_ops.kernels.sums.measure import walls_of

ENOUGH = 4
"""Cells that a mean is taken of, where the largest window has so many."""


@copied
def _ends(at, radius, size):  # type: ignore[no-untyped-def]
    """Return first and last + 1 of the cells within a radius."""
    return range(max(at - radius, 0), min(at + radius, size - 1) + 1)


@copied
def _is_impulse(masked, volume, u, valid, grid, cell, largest):  # type: ignore[no-untyped-def]
    """Return whether a value is an extreme of the smallest window whose median is none, or there is no such window."""
    planes, rows, columns, pitch = grid
    p, m, j = cell
    own = u[(p * rows + m) * pitch + j]
    low = high = own
    lows = highs = count = 1
    for radius in range(1, largest + 1):
        for a in _ends(p, radius if volume else 0, planes):
            for b in _ends(m, radius, rows):
                # Of a row inside the ring only both ends are new.
                step = 1 if abs(b - m) == radius or abs(a - p) == radius else 2 * radius
                for d in range(j - radius, j + radius + 1, step):
                    k = (a * rows + b) * pitch + d
                    if d < 0 or d >= columns or (masked and not valid[k]):
                        continue
                    x = u[k]
                    count += 1
                    if x <= low:
                        lows = lows + 1 if x == low else 1
                        low = x
                    if x >= high:
                        highs = highs + 1 if x == high else 1
                        high = x
        middle = (count - 1) // 2
        if lows <= middle < count - highs:
            return not low < own < high
    return True


@functools.cache
def build_find(masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the search for impulses."""

    @kernel
    def find(found, u, valid, grid, largest):  # type: ignore[no-untyped-def]
        """Fill found, flat (cells,), from a channel u, flat (cells,)."""
        planes, rows, columns, pitch = grid
        for p in range(planes):
            for m in range(rows):
                for j in range(columns):
                    i = (p * rows + m) * pitch + j
                    if not masked or valid[i]:
                        found[i] = _is_impulse(masked, volume, u, valid, grid, (p, m, j), largest)

    return find


@functools.cache
def build_mend(masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the means that replace impulses."""
    enough = ENOUGH

    @kernel
    def mend(u, found, valid, grid, largest):  # type: ignore[no-untyped-def]
        """Fill the cells of u that were found with the mean of the others in the smallest window with enough."""
        planes, rows, columns, pitch = grid
        for p in range(planes):
            for m in range(rows):
                for j in range(columns):
                    i = (p * rows + m) * pitch + j
                    if not found[i]:
                        continue
                    for radius in range(1, largest + 1):
                        total, count = u.dtype.type(0), 0
                        for a in _ends(p, radius if volume else 0, planes):
                            for b in _ends(m, radius, rows):
                                for d in _ends(j, radius, columns):
                                    k = (a * rows + b) * pitch + d
                                    if not found[k] and (not masked or valid[k]):
                                        total += u[k]
                                        count += 1
                        if count >= enough or (count and radius == largest):
                            u[i] = total / u.dtype.type(count)
                            break

    return mend


def find_extremes(block: Block, pepper: float, salt: float) -> Bools:
    """Return where the state is at most `pepper` or at least `salt`, of shape (channels, cells)."""
    u, found = block.storage, allocate(len(block.storage), block.spatial, np.dtype(bool))
    np.less_equal(u, u.dtype.type(pepper), out=found)
    found |= u >= u.dtype.type(salt)
    if block.valid_storage is not None:
        found &= block.valid_storage
    return found


def find_impulses(block: Block, largest: int) -> Bools:
    """Return where the adaptive median filter finds impulses, of shape (channels, cells).

    A value is one if it is not strictly between the extremes of its window, which grows from 3 cells along each axis
    until its median is (Hwang and Haddad 1995), or if no median of any window is. Cells beyond walls do not count; of
    an even number of cells the lower median is taken.

    Parameters
    ----------
    block : Block
        Every channel is looked at alone.
    largest : int
        Cells on each side of the largest window.
    """
    found = allocate(len(block.storage), block.spatial, np.dtype(bool))
    find = build_find(block.valid_storage is not None, len(block.spatial) == 3)
    for u, one in zip(block.storage, found, strict=True):
        find(one, u, walls_of(block)[0], block.grid, largest)
    return found


def mend_impulses(block: Block, found: Bools, largest: int) -> None:
    """Replace impulses by means: of at least `ENOUGH` other cells, or all in the largest window.

    Where that has none the value stays.

    Parameters
    ----------
    block : Block
        Its state is changed.
    found : bool ndarray of shape (channels, cells)
        Where the impulses are.
    largest : int
        Cells on each side of the largest window.
    """
    mend = build_mend(block.valid_storage is not None, len(block.spatial) == 3)
    for u, one in zip(block.storage, found, strict=True):
        mend(u, one, walls_of(block)[0], block.grid, largest)
