"""Follow times downwards from a point to where they began: steepest descent between cells, or from cell to cell.

A step goes against the gradient, which is interpolated linearly from central differences at the cells around, over a
fixed length. It is taken if the time, interpolated in the same way, falls by a quarter of what the gradient promises,
and all cells around its end have times; else the next point is the earliest cell around, or, from a cell, its earliest
neighbour. Times fall from point to point, so every path ends. All that a step reads lies within two cells, and
positions are counted from the first cell of the image: so the bits do not depend on the window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from diffusion_ops.kernels.lanes import INLINED, kernel, njit

ARRIVED, LEFT, FULL, STUCK = 0, 1, 2, 3
"""Why a descent has ended: at time 0; the next step needs another window; no room is left; at no neighbour earlier."""

REACH = 2
"""Cells around that a step reads."""

BEGINNING = float(np.nextafter(np.float32(0), np.float32(1)))
"""Latest time that counts as 0: where 0 marks invalid pixels, beginnings are stored as the number next to it."""

ENOUGH = 0.25
"""Part of the fall that the gradient promises, from which on a step is taken."""


@njit(**INLINED)
def _time(times, low, size, cell):  # type: ignore[no-untyped-def]
    """Return the time of a cell; infinity at walls and outside of the window."""
    flat = 0
    for k in range(len(size)):
        c = cell[k] - low[k]
        if c < 0 or c >= size[k]:
            return math.inf
        flat = flat * size[k] + c
    time = np.float64(times[flat])
    return time if time == time else math.inf


@njit(**INLINED)
def _corner(p, number, cell):  # type: ignore[no-untyped-def]
    """Put one of the cells around a point into `cell`, and return its weight."""
    weight = 1.0
    for k in range(len(p)):
        base = math.floor(p[k])
        part = p[k] - base
        if number >> k & 1:
            cell[k], weight = int(base) + 1, weight * part
        else:
            cell[k], weight = int(base), weight * (1.0 - part)
    return weight


@njit(**INLINED)
def _interpolated(times, low, size, p, cell):  # type: ignore[no-untyped-def]
    """Return the time at a point; infinity where a cell around it has none."""
    total = 0.0
    for number in range(1 << len(p)):
        weight = _corner(p, number, cell)
        if weight > 0.0:
            total += weight * _time(times, low, size, cell)
    return total


@njit(**INLINED)
def _slope(times, low, size, cell, k, h):  # type: ignore[no-untyped-def]
    """Return the difference at a cell along an axis: central, or to the one side that has a time."""
    here = _time(times, low, size, cell)
    cell[k] -= 1
    before = _time(times, low, size, cell)
    cell[k] += 2
    after = _time(times, low, size, cell)
    cell[k] -= 1
    if before < math.inf and after < math.inf:
        return (after - before) / (2.0 * h)
    if before < math.inf:
        return (here - before) / h
    return (after - here) / h if after < math.inf else 0.0


@njit(**INLINED)
def _downhill(times, low, size, ends, p, t, spacing, length, cell, q, g):  # type: ignore[no-untyped-def]
    """Put the point a step against the gradient into q; return its time, infinity where it is not to be taken."""
    square = 0.0
    for k in range(len(p)):
        g[k] = 0.0
        for number in range(1 << len(p)):
            weight = _corner(p, number, cell)
            if weight > 0.0:
                g[k] += weight * _slope(times, low, size, cell, k, spacing[k])
        square += g[k] * g[k]
    norm = math.sqrt(square)
    if not 0.0 < norm < math.inf:
        return math.inf
    for k in range(len(p)):
        q[k] = min(max(p[k] - g[k] / norm * (length / spacing[k]), 0.0), ends[k])
    time = _interpolated(times, low, size, q, cell)
    return time if time <= t - ENOUGH * norm * length else math.inf


@njit(**INLINED)
def _lowest(times, low, size, p, t, cell, q):  # type: ignore[no-untyped-def]
    """Put the earliest cell around a point into q, or the earliest neighbour of a cell; return its time."""
    best, whole = math.inf, True
    for k in range(len(p)):
        whole = whole and p[k] == math.floor(p[k])
    for number in range(2 * len(p) if whole else 1 << len(p)):
        if whole:
            for k in range(len(p)):
                cell[k] = int(p[k])
            cell[number // 2] += 2 * (number % 2) - 1
        elif not _corner(p, number, cell) > 0.0:
            continue
        time = _time(times, low, size, cell)
        if time < best and (time < t or (time == t and not whole)):
            best = time
            for k in range(len(p)):
                q[k] = cell[k]
    return best


@njit(**INLINED)
def _source(times, low, size, p, cell, q):  # type: ignore[no-untyped-def]
    """Put a cell around a point where times begin into q; return whether there is one."""
    for number in range(1 << len(p)):
        if _corner(p, number, cell) > 0.0 and _time(times, low, size, cell) <= BEGINNING:
            for k in range(len(p)):
                q[k] = cell[k]
            return True
    return False


@functools.cache
def build_descent() -> Callable[..., tuple[int, int]]:
    """Compile the descent."""

    @kernel
    def descend(times, low, size, first, last, ends, spacing, length, line, count):  # type: ignore[no-untyped-def]
        """Go on with a path from its last point; return why it has ended, and the number of its points.

        Parameters
        ----------
        times : float32 or float64 ndarray, flat
            Times of a window, infinite or NaN at walls.
        low, size : int64 ndarray
            First cell of the window in the image, and its shape.
        first, last : int64 ndarray
            Cells of the image that points may lie at, from `first` up to before `last`: `REACH` cells inside.
        ends : float64 ndarray
            Last cell of the image per axis.
        spacing : float64 ndarray
        length : float
            Length of a step.
        line : float64 ndarray of shape (room, 1 + axes)
            Time and position of each point.
        count : int
            Number of points that it has.
        """
        ndim = len(size)
        p, q, g, cell = np.empty(ndim), np.empty(ndim), np.empty(ndim), np.empty(ndim, np.int64)
        while True:
            t = line[count - 1, 0]
            for k in range(ndim):
                p[k] = line[count - 1, 1 + k]
                if not first[k] <= math.floor(p[k]) < last[k]:
                    return LEFT, count
            if t <= BEGINNING:
                return ARRIVED, count
            if count == len(line):
                return FULL, count
            if _source(times, low, size, p, cell, q):
                time = 0.0
            else:
                time = _downhill(times, low, size, ends, p, t, spacing, length, cell, q, g)
                if time == math.inf:
                    time = _lowest(times, low, size, p, t, cell, q)
            if time == math.inf:
                return STUCK, count
            line[count, 0] = time
            for k in range(ndim):
                line[count, 1 + k] = q[k]
            count += 1

    return descend
