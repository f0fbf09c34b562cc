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
