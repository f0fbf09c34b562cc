"""Solve |∇u| = f on a window, by updates that depend on strictly smaller values only.

The first-order upwind (Godunov) update of a cell, as an assignment u ← F(its neighbours), in which no value is ever
used that is not below the result: per axis the smaller neighbour a_k, in increasing order; one axis alone gives
a_1 + f h_1; while the next a_k is below that, the quadratic Σ ((u - a_j) / h_j)² = f² of one more axis is solved. Each
result is raised to the next floating-point number above the values used, where rounding left it at or below them. So
u = F(u) has exactly one solution even in floating point (by induction over the sorted values), and any order of updates
ends there: tiles, workers and resumed runs give the same bits. Arithmetic is in 64 bits, whatever the state's type.

Windows are flat and padded: every cell that is updated has all of its neighbours in the array. Cells of infinite cost
are never updated: walls and cells beyond the image (whose time is infinite), seeds, and the halo of other tiles.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_ops.kernels.lanes import kernel, njit

SAMPLE = 15
"""Waiting cells whose times say which are near."""

NEAR = 7
"""Of the sample in order, the one up to whose time cells are near."""


@njit(error_model="numpy")
def _above(value, used):  # type: ignore[no-untyped-def]
    """Return a value, or the next number above one that it uses."""
    return value if value > used else np.nextafter(used, type(used)(math.inf))


@njit(error_model="numpy")
def _pair(a, b, f, wa, wb):  # type: ignore[no-untyped-def]
    """Return the solution of two axes of weights 1 / h², for a <= b in 64 bits."""
    d, total = b - a, wa + wb
    rest = total * f * f - wa * wb * d * d
    return a + (wb * d + math.sqrt(max(rest, 0.0))) / total


@njit(error_model="numpy")
def _triple(a, b, c, f, wa, wb, wc):  # type: ignore[no-untyped-def]
    """Return the solution of three axes, for a <= b <= c in 64 bits."""
    p, q, total = b - a, c - a, wa + wb + wc
    middle = wb * p + wc * q
    rest = middle * middle - total * (wb * p * p + wc * q * q - f * f)
    return a + (middle + math.sqrt(max(rest, 0.0))) / total


@njit(error_model="numpy")
def plane_time(u, cost, i, pitch, spacing):  # type: ignore[no-untyped-def]
    """Return F of a cell of a plane.

    Parameters
    ----------
    u, cost : ndarray, flat
    i : int
    pitch : tuple of int
        Distance of neighbours per axis.
    spacing : tuple of float
        (h_y, h_x, 1 / h_y², 1 / h_x²).
    """
    kind, f = u.dtype.type, np.float64(cost[i])
    a, ha, wa = min(u[i - pitch[0]], u[i + pitch[0]]), spacing[0], spacing[2]
    b, hb, wb = min(u[i - pitch[1]], u[i + pitch[1]]), spacing[1], spacing[3]
    if b < a:
        a, ha, wa, b, hb, wb = b, hb, wb, a, ha, wa
    r = _above(kind(np.float64(a) + f * ha), a)
    if b < r:
        r = min(r, _above(kind(_pair(np.float64(a), np.float64(b), f, wa, wb)), b))
    return r


@njit(error_model="numpy")
def volume_time(u, cost, i, pitch, spacing):  # type: ignore[no-untyped-def]
    """Return F of a cell of a volume; see `plane_time`."""
    kind, f = u.dtype.type, np.float64(cost[i])
    a, ha, wa = min(u[i - pitch[0]], u[i + pitch[0]]), spacing[0], spacing[3]
    b, hb, wb = min(u[i - pitch[1]], u[i + pitch[1]]), spacing[1], spacing[4]
    c, hc, wc = min(u[i - pitch[2]], u[i + pitch[2]]), spacing[2], spacing[5]
    if b < a:
        a, ha, wa, b, hb, wb = b, hb, wb, a, ha, wa
    if c < b:
        b, hb, wb, c, hc, wc = c, hc, wc, b, hb, wb
        if b < a:
            a, ha, wa, b, hb, wb = b, hb, wb, a, ha, wa
    r = _above(kind(np.float64(a) + f * ha), a)
    if b < r:
        r = min(r, _above(kind(_pair(np.float64(a), np.float64(b), f, wa, wb)), b))
        if c < r:
            three = _triple(np.float64(a), np.float64(b), np.float64(c), f, wa, wb, wc)
            r = min(r, _above(kind(three), c))
    return r


@njit(error_model="numpy")
def nearest_label(u, labels, i, steps):  # type: ignore[no-untyped-def]
    """Return the label of the neighbour of the smallest time, of several the smallest label."""
    best, label = u.dtype.type(math.inf), labels.dtype.type(0)
    for step in steps:
        v = u[i + step]
        if v < best or (v == best and labels[i + step] < label):
            best, label = v, labels[i + step]
    return label


@functools.cache
def build_front(ndim: int, labelled: bool) -> Callable[..., Any]:
    """Compile the front of planes (2) or volumes (3), with the labels of the nearest seeds or without."""
    time_of = plane_time if ndim == 2 else volume_time

    @njit(error_model="numpy")
    def update(u, labels, cost, i, pitch, steps, spacing, until):  # type: ignore[no-untyped-def]
        """Update a cell, and return 0 where nothing changes, 1 where it gets earlier or its label changes, 2 later."""
        r = time_of(u, cost, i, pitch, spacing)
        r = r if r <= until else u.dtype.type(math.inf)
        before = u[i]
        changed = 0 if r == before else 1 if r < before else 2
        if labelled:
            label = nearest_label(u, labels, i, steps) if r < math.inf else labels.dtype.type(0)
            if label != labels[i]:
                labels[i] = label
                changed = max(changed, 1)
        u[i] = r
        return changed

    @kernel
    def front(u, labels, cost, listed, far, near, spare, count, pitch, steps, spacing, until):  # type: ignore[no-untyped-def]
        """Update until nothing changes, from `count` changed cells in `far`, which are listed as such.

        Parameters
        ----------
        u : ndarray, flat
            Times, which are updated in place.
        labels : int32 ndarray, flat
            Labels, updated with them; of any length where there are none.
        cost : ndarray, flat
        listed : uint8 ndarray, flat
            1 for a cell that waits as its neighbours may have to change, 2 where it has got later; else 0.
        far, near, spare : int32 ndarray, flat
            Room for cells that wait.
        count : int
        pitch, steps, spacing : tuples
            Distance of neighbours per axis, and both ways; grid spacing.
        until : float
            Later times are infinite.
        """
        sample = np.empty(SAMPLE, u.dtype)
        while count > 0:
            size = min(SAMPLE, count)
            for k in range(size):
                v, at = u[far[k * count // size]], k
                while at > 0 and sample[at - 1] > v:
                    sample[at] = sample[at - 1]
                    at -= 1
                sample[at] = v
            limit = sample[size * NEAR // SAMPLE]
            kept = now = 0
            for k in range(count):
                i = far[k]
                if u[i] <= limit:
                    near[now] = i
                    now += 1
                else:
                    far[kept] = i
                    kept += 1
            count = kept
            while now > 0:
                following = 0
                for k in range(now):
                    i = near[k]
                    v, later = u[i], listed[i] == 2
                    listed[i] = 0
                    for step in steps:
                        j = i + step
                        # Later neighbours depend on a cell, earlier ones never do.
                        if (u[j] > v or later) and cost[j] < math.inf:
                            changed = update(u, labels, cost, j, pitch, steps, spacing, until)
                            if changed and not listed[j]:
                                if u[j] <= limit:
                                    spare[following] = j
                                    following += 1
                                else:
                                    far[count] = j
                                    count += 1
                            if changed > listed[j]:
                                listed[j] = changed
                near, spare, now = spare, near, following

    return front
