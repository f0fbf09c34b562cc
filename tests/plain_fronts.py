"""Fast marching as its textbook has it, with a heap and plain numbers: what fronts are compared with, bit by bit."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, ...]


def update(lows: Sequence[tuple[float, float]], f: float, kind: type[np.floating[Any]]) -> float:
    """Return the upwind solution from (smaller neighbour, spacing) per axis, never at or below a value it uses."""
    (a, ha), (b, hb), *third = sorted(lows, key=lambda low: low[0])

    def rounded(value: float, used: float) -> float:
        found = float(kind(value))
        return found if found > used else float(np.nextafter(kind(used), kind(math.inf)))

    r = rounded(a + f * ha, a)
    if not b < r:
        return r
    wa, wb, d = 1.0 / (ha * ha), 1.0 / (hb * hb), b - a
    total = wa + wb
    root = math.sqrt(max(total * f * f - wa * wb * d * d, 0.0))
    r = min(r, rounded(a + (wb * d + root) * (1.0 / total), b))
    if third and third[0][0] < r:
        (c, hc), p, weights = third[0], d, [1.0 / (low[1] * low[1]) for low in lows]
        wc, q, total = 1.0 / (hc * hc), c - a, sum(weights)
        middle = wb * p + wc * q
        rest = middle * middle - total * (wb * p * p + wc * q * q - f * f)
        r = min(r, rounded(a + (middle + math.sqrt(max(rest, 0.0))) * (1.0 / total), c))
    return r


def second_order(
    times: NDArray[Any], cost: NDArray[Any], spacing: Sequence[float], still: NDArray[np.bool_]
) -> NDArray[Any]:
    """Return second-order times, cell by cell in the order of first-order ones; `still` keep these."""
    found = np.where(still, times, np.inf).astype(times.dtype)
    cells = [tuple(c) for c in np.argwhere((times < np.inf) & ~still)]
    for cell in sorted(cells, key=lambda c: float(times[c])):
        found[cell] = _second(found, times, cell, float(cost[cell]), spacing, still)
    return found


def _second(
    found: NDArray[Any], times: NDArray[Any], cell: Cell, f: float, spacing: Sequence[float], still: Any
) -> Any:
    kind, lows, terms, used = times.dtype.type, [], [], -math.inf
    for axis, h in enumerate(spacing):
        far, low, here, high, beyond = (_along(cell, axis, d, times.shape) for d in (-2, -1, 0, 1, 2))

        def early(at: Cell | None) -> float:
            return math.inf if at is None else float(times[at])

        backward = (early(low), early(far)) <= (early(high), early(beyond))
        near, behind = (low, far) if backward else (high, beyond)
        lows.append((float(found[near]) if near is not None and early(near) < early(here) else math.inf, h))
        if near is None or early(near) >= early(here):
            continue
        a, w, used = float(found[near]), 1.0 / (h * h), max(used, float(found[near]))
        if behind is not None and early(behind) < early(near) and not still[near]:
            used = max(used, float(found[behind]))
            a, w = a + (a - float(found[behind])) / 3.0, w * 2.25
        terms.append((a, w))
    base, total, first, square = terms[0][0], 0.0, 0.0, 0.0
    for a, w in terms:
        total, first, square = total + w, first + w * (a - base), square + w * (a - base) * (a - base)
    rest = first * first - total * (square - f * f)
    time = float(kind(base + (first + math.sqrt(max(rest, 0.0))) / total))
    if rest < 0 or time < used or time == math.inf:
        return update(lows, f, kind)
    return time if time > used else np.nextafter(kind(used), kind(math.inf))


def _along(cell: Cell, axis: int, d: int, shape: tuple[int, ...]) -> Cell | None:
    at = cell[axis] + d
    return (*cell[:axis], at, *cell[axis + 1 :]) if 0 <= at < shape[axis] else None


def lows_of(times: NDArray[Any], cell: Cell, spacing: Sequence[float]) -> list[tuple[float, float]]:
    """Return the smaller neighbour and the spacing of each axis."""
    found = []
    for axis, h in enumerate(spacing):
        sides = [(*cell[:axis], cell[axis] + d, *cell[axis + 1 :]) for d in (-1, 1)]
        inside = [float(times[s]) for s in sides if 0 <= s[axis] < times.shape[axis]]
        found.append((min(inside, default=math.inf), h))
    return found


def march(
    cost: NDArray[Any], markers: NDArray[Any], spacing: Sequence[float], kind: Any = np.float64
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return travel times and the label of the nearest marker; infinite costs are walls."""
    times, labels = np.full(cost.shape, np.inf, kind), np.zeros(cost.shape, np.int32)
    done, queue = np.zeros(cost.shape, bool), []
    for cell in map(tuple, np.argwhere((markers > 0) & (cost < np.inf))):
        times[cell], labels[cell] = 0, markers[cell]
        queue.append((0.0, cell))
    while queue:
        time, cell = heapq.heappop(queue)
        if done[cell]:
            continue
        done[cell] = True
        if time > 0:
            labels[cell] = min((float(times[n]), labels[n]) for n in around(cell, cost.shape))[1]
        for n in around(cell, cost.shape):
            if not done[n] and cost[n] < np.inf:
                new = update(lows_of(times, n, spacing), float(cost[n]), kind)
                if new < times[n]:
                    times[n] = new
                    heapq.heappush(queue, (new, n))
    return times, labels


def around(cell: Cell, shape: tuple[int, ...]) -> list[Cell]:
    """Return the neighbours of a cell."""
    found = []
    for axis, d in itertools.product(range(len(cell)), (-1, 1)):
        if 0 <= cell[axis] + d < shape[axis]:
            found.append((*cell[:axis], cell[axis] + d, *cell[axis + 1 :]))
    return found


def violations(times: NDArray[Any], cost: NDArray[Any], spacing: Sequence[float]) -> int:
    """Return how many cells, that are neither seeds nor walls, do not fulfil their equation to the last bit."""
    cells = map(tuple, np.argwhere((times != 0) & (cost < np.inf)))
    kind = times.dtype.type
    return sum(float(times[c]) != update(lows_of(times, c, spacing), float(cost[c]), kind) for c in cells)
