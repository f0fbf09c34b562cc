"""Make coarser levels with walls that stay closed, and spread values between cells that no wall parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, Floats


def unpaired(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the coarse value of each cell of a finer level of that shape."""
    for axis, n in enumerate(shape):
        values = np.take(values, np.arange(n) // 2, axis=axis)
    return values


def coarse_walls(valid: Bools) -> Bools:
    """Return the coarse cells, of 2 along each axis, that have to be walls so that none is passed on the coarser level.

    Two cells that are no walls and lie side by side have valid cells that touch, and the valid cells in each are
    connected. So a wall that is one cell thick stays closed, and a gap of one cell stays open. A cell is a wall where
    no cell is valid, where the valid ones are not connected with each other, or not with those of the cell before it
    along an axis.
    """
    if valid.all():
        return np.zeros([-(-n // 2) for n in valid.shape], bool)
    ndim = valid.ndim
    padded = np.pad(valid, [(0, n % 2) for n in valid.shape])
    halves = [(n // 2, 2) for n in padded.shape]
    cells = padded.reshape([n for both in halves for n in both])
    # The places in a block first, then the blocks.
    cells = cells.transpose([*range(1, 2 * ndim, 2), *range(0, 2 * ndim, 2)])
    blocks = tuple(range(ndim))
    walls: Bools = ~cells.any(axis=blocks) | _parted(cells)
    for axis in range(ndim):
        first, last = np.take(cells, 0, axis=axis), np.take(cells, 1, axis=axis)
        here = [slice(None)] * ndim
        before = list(here)
        here[axis], before[axis] = slice(1, None), slice(None, -1)
        faces = (slice(None),) * (ndim - 1)
        touching = first[(*faces, *here)] & last[(*faces, *before)]
        some = cells[(*(slice(None),) * ndim, *before)].any(axis=blocks)
        walls[tuple(here)] |= some & ~touching.any(axis=blocks[:-1])
    return walls


def _parted(cells: Bools) -> Bools:
    """Return where the valid cells of a block, along the first half of the axes, are not connected."""
    ndim = cells.ndim // 2
    flat = cells.reshape(2**ndim, *cells.shape[ndim:])
    first = np.arange(2**ndim).reshape(-1, *(1,) * ndim) == flat.argmax(axis=0)
    reached = first.reshape(cells.shape) & cells
    # No shortest path in a cube takes more steps than it has axes, and one for a way round.
    for _ in range(ndim + 1):
        for axis in range(ndim):
            reached |= np.flip(reached, axis) & cells
    parted: Bools = (cells & ~reached).any(axis=tuple(range(ndim)))
    return parted


def spread(fields: Floats, has: Bools, valid: Bools, steps: int) -> tuple[Floats, Bools]:
    """Return fields in which valid cells without a value have got the mean of neighbours along axes that have one.

    Parameters
    ----------
    fields : ndarray of shape (channels, *spatial)
    has, valid : bool ndarray of shape `spatial`
        Cells that have a value, and that may get one.
    steps : int
        How many cells far.
    """
    for _ in range(steps):
        if not (valid & ~has).any() or not has.any():
            break
        counts = _neighbour_sums(has.astype(np.float64))
        fresh = valid & ~has & (counts > 0)
        fields = fields.copy()
        for channel in fields:
            sums = _neighbour_sums(np.where(has, channel, 0).astype(np.float64))
            channel[fresh] = sums[fresh] / counts[fresh]
        has = has | fresh
    return fields, has


def _neighbour_sums(values: Floats) -> Floats:
    """Return the sums of the neighbours along axes."""
    sums = np.zeros_like(values)
    for axis in range(values.ndim):
        low, high = [slice(None)] * values.ndim, [slice(None)] * values.ndim
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        sums[tuple(high)] += values[tuple(low)]
        sums[tuple(low)] += values[tuple(high)]
    return sums
