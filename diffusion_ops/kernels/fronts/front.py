"""Run a front through a window: update cells until nothing changes, in about the order of their times.

A cell that has changed waits until its later neighbours are updated. Those waiting are split by a time into near ones,
which go first, and far ones; the time is found from a sample of them, so that neither units nor the spread of costs
matter. Where costs span decades that order is poor: when too many updates were in vain, the far ones are split again
and again, until few are near (Navarro and Paredes: On sorting, heaps, and minimum spanning trees. Algorithmica 2010).

Any order gives the same bits; see `updates`. Times are flat, of a window that is padded by one cell per side, and by
two along the first axis: every cell, also of the halo, has all its neighbours in the array. Cells that are `FIXED` are
never updated: walls and cells beyond the image (whose time is infinite), seeds, and the halo. Costs, or speeds, are
flat and not padded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_ops.kernels.fronts.updates import nearest_label, plane_time, volume_time
from diffusion_ops.kernels.lanes import INLINED, kernel, njit

SAMPLE = 15
"""Cells of the sample that says which are near."""

LEVELS = 64
"""Most lists of far cells, each nearer than the one before."""

PATIENCE = 4
"""Updates per cell of the window after which the order has to be finer."""

FINE = 32
"""Near cells at a time from then on."""

EARLIER, LATER, FIXED = 1, 2, 4
"""Flags of a cell: how one that waits has changed (it has got earlier, or another label; or later); never updated."""


@njit(**INLINED)
def _middle(u, far, start, stop, sample):  # type: ignore[no-untyped-def]
    """Return the median time of a sample of a list of cells."""
    size = min(SAMPLE, stop - start)
    for k in range(size):
        v, at = u[far[start + k * (stop - start) // size]], k
        while at > 0 and sample[at - 1] > v:
            sample[at] = sample[at - 1]
            at -= 1
        sample[at] = v
    return sample[(size - 1) // 2]


@njit(**INLINED)
def _split(u, far, start, stop, near, limit):  # type: ignore[no-untyped-def]
    """Put cells up to a time at the end of a list; all keep their order, as neighbours in the list are so in memory.

    Return where they begin; with `near` as large as the list they are left there, too.
    """
    kept, now = start, 0
    for k in range(start, stop):
        i = far[k]
        if u[i] <= limit and now < len(near):
            near[now] = i
            now += 1
        else:
            far[kept] = i
            kept += 1
    far[kept:stop] = near[:now]
    return kept


@njit(**INLINED)
def _nearest(u, far, ends, limits, top, near, fine, sample):  # type: ignore[no-untyped-def]
    """Take near cells out of the nearest list; return their number, their latest time, and the nearest list then.

    `ends[k]` and `limits[k]` are the end of list k in `far` and its latest time; lists get nearer with k.
    """
    while top > 0 and ends[top] == ends[top - 1]:
        top -= 1
    start, stop = ends[top - 1] if top else 0, ends[top]
    limit = limits[top]
    if start == stop:
        return 0, limit, top
    if top == 0:
        # The farthest list has no end: what is found on the way must not all be near.
        limit = u[far[start]]
        for k in range(start + 1, min(stop, start + FINE)):
            limit = max(limit, u[far[k]])
    while stop - start > (FINE if fine else 1):
        limit = _middle(u, far, start, stop, sample)
        middle = _split(u, far, start, stop, near, limit)
        if not fine or middle == start or top == LEVELS - 1:
            start = middle
            break
        ends[top], top = middle, top + 1
        limits[top], start = limit, middle
    count = min(stop - start, len(near))
    near[:count] = far[stop - count : stop]
    ends[top] = stop - count
    return count, limit, top


@njit(**INLINED)
def _put(far, ends, limits, top, i, time):  # type: ignore[no-untyped-def]
    """Add a cell to the list that its time belongs to; return False where there is no room."""
    if ends[top] == len(far):
        return False
    level = top
    while time > limits[level]:
        # The first cell of a nearer list becomes its last, which moves the list by one place.
        far[ends[level]] = far[ends[level - 1]]
        ends[level] += 1
        level -= 1
    far[ends[level]] = i
    ends[level] += 1
    return True


@njit(**INLINED)
def _found(flags, far):  # type: ignore[no-untyped-def]
    """Fill `far` with cells that wait, and return how many: where the room was too small, they stand nowhere else."""
    count = 0
    for i in range(len(flags)):
        if flags[i] & (EARLIER | LATER):
            if count == len(far):
                break
            far[count] = i
            count += 1
    return count


@njit(**INLINED)
def _plane_cell(i, shape, inverses):  # type: ignore[no-untyped-def]
    """Return the number of a cell of a padded plane in the plane itself."""
    row = int((i + 0.5) * inverses[1])
    return (row - 2) * shape[1] + i - row * (shape[1] + 2) - 1


@njit(**INLINED)
def _volume_cell(i, shape, inverses):  # type: ignore[no-untyped-def]
    """Return the number of a cell of a padded volume in the volume itself."""
    line = int((i + 0.5) * inverses[2])
    plane = int((line + 0.5) * inverses[1])
    row = line - plane * (shape[1] + 2)
    return ((plane - 2) * shape[1] + row - 1) * shape[2] + i - line * (shape[2] + 2) - 1


@functools.cache
def _build_update(ndim: int, labelled: bool, speeds: bool) -> Callable[..., Any]:
    """Compile the update of a cell of a plane (2) or a volume (3), with its label or without, from speeds or costs."""
    time_of, place = (plane_time, _plane_cell) if ndim == 2 else (volume_time, _volume_cell)

    @njit(**INLINED)
    def update(u, labels, image, i, pitch, steps, metric, shape, inverses, until):  # type: ignore[no-untyped-def]
        """Update a cell, and return how it has changed, 0 for not at all."""
        value = np.float64(image[place(i, shape, inverses)])
        r = time_of(u, 1.0 / value if speeds else value, i, pitch, metric)
        r = r if r <= until else u.dtype.type(math.inf)
        changed = 0 if r == u[i] else EARLIER if r < u[i] else LATER
        if labelled:
            label = nearest_label(u, labels, i, steps) if r < math.inf else labels.dtype.type(0)
            if label != labels[i]:
                labels[i] = label
                changed = max(changed, EARLIER)
        u[i] = r
        return changed

    found: Callable[..., Any] = update
    return found


@functools.cache
def build_front(ndim: int, labelled: bool, speeds: bool) -> Callable[..., None]:
    """Compile the front of planes (2) or volumes (3), with the labels of the nearest seeds or without."""
    update = _build_update(ndim, labelled, speeds)

    @kernel
    def front(u, labels, image, flags, far, near, spare, pitch, steps, metric, shape, inverses, until):  # type: ignore[no-untyped-def]
        """Update until nothing changes, from the cells that wait.

        Parameters
        ----------
        u : float32 or float64 ndarray, flat
            Times, which are updated in place.
        labels : int32 ndarray, flat
            Labels, updated with them; of any length where there are none.
        image : float32 or float64 ndarray, flat
            Costs or speeds, > 0 but for costs of 0.
        flags : uint8 ndarray, flat
        far, near, spare : int32 ndarray, flat
            Room for cells that wait; where it is too small, it is filled again and again.
        pitch, steps : tuples
            Distance of neighbours per axis, and both ways.
        metric : tuple
            See `updates`.
        shape, inverses : tuples
            Shape without padding, and 1 / padded length, per axis.
        until : float
            Later times are infinite.
        """
        sample, patience = np.empty(SAMPLE, u.dtype), PATIENCE * u.size
        room = len(spare)
        ends, limits, top = np.zeros(LEVELS, np.int64), np.empty(LEVELS, u.dtype), 0
        limits[0] = math.inf
        complete = False
        while True:
            if top == 0 and ends[0] == 0:
                if complete:
                    break
                ends[0] = _found(flags, far)
                complete = ends[0] < len(far)
            now, limit, top = _nearest(u, far, ends, limits, top, near, patience < 0, sample)
            while now > 0:
                following = 0
                for k in range(now):
                    i = near[k]
                    v, later = u[i], flags[i] & LATER
                    flags[i] &= FIXED
                    for step in steps:
                        j = i + step
                        # Only later neighbours depend on a cell; one that has got later may have been earlier.
                        if (u[j] > v or later) and flags[j] < FIXED:
                            patience -= 1
                            changed = update(
                                u, labels, image, j, pitch, steps, metric, shape, inverses, until
                            )
                            if changed and not flags[j]:
                                if u[j] <= limit and following < room:
                                    spare[following] = j
                                    following += 1
                                elif not _put(far, ends, limits, top, j, u[j]):
                                    complete = False
                            flags[j] = max(flags[j], changed)
                near, spare, now = spare, near, following
                if patience < 0 and now > 2 * FINE and top < LEVELS - 1 and ends[top] + now <= len(far):
                    # What is near has grown: it is the nearest list, to be split.
                    far[ends[top] : ends[top] + now] = near[:now]
                    top += 1
                    ends[top], limits[top], now = ends[top - 1] + now, limit, 0

    return front


@functools.cache
def build_violations(ndim: int, labelled: bool, speeds: bool) -> Callable[..., int]:
    """Compile the count of the cells that do not fulfil their equation."""
    update = _build_update(ndim, labelled, speeds)

    @kernel
    def violations(u, labels, image, flags, pitch, steps, metric, shape, inverses, until):  # type: ignore[no-untyped-def]
        """Return how many cells an update would change, and change none; see `front`."""
        found = 0
        for i in range(len(u)):
            if flags[i] < FIXED:
                time, label = u[i], labels[i if labelled else 0]
                if update(u, labels, image, i, pitch, steps, metric, shape, inverses, until):
                    found += 1
                    u[i], labels[i if labelled else 0] = time, label
        return found

    return violations
