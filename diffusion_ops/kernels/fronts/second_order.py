"""Second-order times on the order of the first-order ones: every cell is computed once, after all that it depends on.

First-order times u say of every cell, for each axis, which neighbour its front comes from: the earlier one, where that
is earlier than the cell. If the cell behind the neighbour is earlier still, the axis takes the second-order difference
(3 v - 4 v_1 + v_2) / (2 h), else (v - v_1) / h; v solves the upwind equation of all these axes. Where that has no
solution, or one below a value that it uses, v is the first-order solution of the same neighbours. A neighbour that
stands still, such as a seed, has nothing behind it. All that is chosen depends on u alone, and v on cells of smaller u
only: so v is one function of u, whatever the tiles and the order of computing.

Arrays are padded as those of a front; see `front`. A difference of second order reads two cells far, which the second
layer of padding along the first axis and the next row's padding along the others are for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from diffusion_ops.kernels.fronts.front import FIXED, cost_at
from diffusion_ops.kernels.fronts.updates import above, plane_solution, volume_solution
from diffusion_ops.kernels.lanes import INLINED, copied, kernel, njit

KNOWN, BLOCKED = 1, 2
"""Flags of a cell: its second-order time is known; it waits for a cell that is not computed here. 0: to be computed."""


@njit(**INLINED)
def _upwind(u, i, p):  # type: ignore[no-untyped-def]
    """Return the step along an axis, p or -p, to the earlier neighbour; of two alike, by those behind them."""
    low, high = u[i - p], u[i + p]
    backward = low < high or (low == high and u[i - 2 * p] <= u[i + 2 * p])
    return -p if backward else p


@njit(**INLINED)
def _second(u, v, flags, f, i, pitch, metric):  # type: ignore[no-untyped-def]
    """Return the second-order time of a cell with cost f; NaN where there is none."""
    ndim = len(pitch)
    used = v.dtype.type(-math.inf)
    base = total = first = square = 0.0
    for axis in range(ndim):
        step = _upwind(u, i, pitch[axis])
        near, far = i + step, i + 2 * step
        if u[near] < u[i]:
            a, w = np.float64(v[near]), metric[ndim + axis]
            used = max(used, v[near])
            if u[far] < u[near] and not flags[near] & FIXED:
                used = max(used, v[far])
                a += (a - np.float64(v[far])) / 3.0
                w *= 2.25
            if total == 0.0:
                base = a
            b = a - base
            total += w
            first += w * b
            square += w * b * b
    rest = first * first - total * (square - f * f)
    time = v.dtype.type(base + (first + math.sqrt(max(rest, 0.0))) / total)
    return above(time, used) if rest >= 0.0 and time >= used else v.dtype.type(math.nan)


@njit(**INLINED)
def _low(u, v, i, p):  # type: ignore[no-untyped-def]
    """Return the time of the neighbour along an axis that a front comes from, infinity for none."""
    near = i + _upwind(u, i, p)
    return v[near] if u[near] < u[i] else v.dtype.type(math.inf)


@copied
def _time(volume, speeds, u, v, flags, image, i, numbers):  # type: ignore[no-untyped-def]
    """Return the time of a cell whose neighbours are known."""
    pitch, metric, shape, inverses = numbers
    kind = v.dtype.type
    f = cost_at(volume, speeds, image, i, shape, inverses)
    time = _second(u, v, flags, f, i, pitch, metric)
    if not time < math.inf:
        y, x = _low(u, v, i, pitch[-2]), _low(u, v, i, pitch[-1])
        if volume:
            time = volume_solution(_low(u, v, i, pitch[0]), y, x, f, kind, metric)
        else:
            time = plane_solution(y, x, f, kind, metric)
    return time if time < math.inf else u[i]


@njit(**INLINED)
def _lacking(u, flags, i, pitch):  # type: ignore[no-untyped-def]
    """Return a cell that a cell depends on and that is not known; -1 where there is none."""
    for axis in range(len(pitch)):
        step = _upwind(u, i, pitch[axis])
        near, far = i + step, i + 2 * step
        if u[near] < u[i]:
            if not flags[near] & KNOWN:
                return near
            if u[far] < u[near] and not flags[near] & FIXED and not flags[far] & KNOWN:
                return far
    return -1


@functools.cache
def build_second_order(ndim: int, speeds: bool) -> Callable[..., None]:
    """Compile the second-order times of planes (2) or volumes (3)."""
    volume = ndim == 3

    @kernel
    def second_order(u, v, image, flags, chain, numbers):  # type: ignore[no-untyped-def]
        """Compute all cells that can be, and flag the others as blocked.

        Parameters
        ----------
        u, v : float32 or float64 ndarray, flat
            First-order times; and second-order times, which are filled in place.
        image : float32 or float64 ndarray, flat
            Costs or speeds.
        flags : uint8 ndarray, flat
        chain : int32 ndarray
            Room for cells that wait, each for the next one; where it is too small, its beginning is found again.
        numbers : tuple
            As those of a front, without the steps and the last time.
        """
        again = True
        while again:
            again = False
            for start in range(len(u)):
                if flags[start]:
                    continue
                chain[0], size = start, 1
                while size:
                    i = chain[size - 1]
                    j = _lacking(u, flags, i, numbers[0])
                    if j < 0:
                        v[i] = _time(volume, speeds, u, v, flags, image, i, numbers)
                        flags[i] = KNOWN
                        size -= 1
                    elif flags[j] & BLOCKED:
                        flags[i] = BLOCKED
                        size -= 1
                    elif size == len(chain):
                        chain[0], size, again = j, 1, True
                    else:
                        chain[size] = j
                        size += 1

    return second_order


@functools.cache
def build_second_violations(ndim: int, speeds: bool) -> Callable[..., int]:
    """Compile the count of the cells whose second-order time is not what their neighbours say."""
    volume = ndim == 3

    @kernel
    def violations(u, v, image, flags, numbers):  # type: ignore[no-untyped-def]
        """Return how many cells without a flag depend on one that is not known, or are not what they should be."""
        found = 0
        for i in range(len(u)):
            if not flags[i] & (FIXED | BLOCKED):
                lacks = _lacking(u, flags, i, numbers[0]) >= 0
                if lacks or v[i] != _time(volume, speeds, u, v, flags, image, i, numbers):
                    found += 1
        return found

    return violations
