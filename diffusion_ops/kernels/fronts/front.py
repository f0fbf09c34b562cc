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

import numpy as np

from diffusion_ops.kernels.fronts.updates import nearest_label, plane_time, volume_time
from diffusion_ops.kernels.lanes import INLINED, copied, kernel, njit

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
def _copy(source, start, target, place, count):  # type: ignore[no-untyped-def]
    """Copy cells from one list into another; a slice would take the compiler far more memory, which it keeps."""
    for k in range(count):
        target[place + k] = source[start + k]


@njit(**INLINED)
def _split(u, far, start, stop, near, limit):  # type: ignore[no-untyped-def]
    """Put cells up to a time at the end of a list, and return where they begin; `near` is room for them."""
    kept, now = start, 0
    for k in range(start, stop):
        i = far[k]
        if u[i] <= limit and now < len(near):
            near[now] = i
            now += 1
        else:
            far[kept] = i
            kept += 1
    _copy(near, 0, far, kept, now)
    return kept


@njit(**INLINED)
def _nearest(u, far, ends, limits, top, near, sample):  # type: ignore[no-untyped-def]
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
    while stop - start > FINE:
        limit = _middle(u, far, start, stop, sample)
        middle = _split(u, far, start, stop, near, limit)
        if middle == start or top == LEVELS - 1:
            start = middle
            break
        ends[top], top = middle, top + 1
        limits[top], start = limit, middle
    count = min(stop - start, len(near))
    _copy(far, stop - count, near, 0, count)
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


@copied
def cost_at(volume, speeds, image, i, shape, inverses):  # type: ignore[no-untyped-def]
    """Return the cost of a cell, in 64 bits, from its cost or its speed."""
    if volume:
        value = np.float64(image[_volume_cell(i, shape, inverses)])
    else:
        value = np.float64(image[_plane_cell(i, shape, inverses)])
    return 1.0 / value if speeds else value


@copied
def _update(volume, labelled, speeds, u, labels, image, i, numbers):  # type: ignore[no-untyped-def]
    """Update a cell, and return how it has changed, 0 for not at all."""
    pitch, steps, metric, shape, inverses, until = numbers
    f = cost_at(volume, speeds, image, i, shape, inverses)
    r = volume_time(u, f, i, pitch, metric) if volume else plane_time(u, f, i, pitch, metric)
    r = r if r <= until else u.dtype.type(math.inf)
    changed = 0 if r == u[i] else EARLIER if r < u[i] else LATER
    if labelled:
        label = nearest_label(u, labels, i, steps) if r < math.inf else labels.dtype.type(0)
        if label != labels[i]:
            labels[i] = label
            changed = max(changed, EARLIER)
    u[i] = r
    return changed


@functools.cache
def build_front(ndim: int, labelled: bool, speeds: bool) -> Callable[..., bool]:
    """Compile the front of planes (2) or volumes (3), with the labels of the nearest seeds or without."""
    volume = ndim == 3

    @kernel
    def front(u, labels, image, flags, far, near, spare, numbers):  # type: ignore[no-untyped-def]
        """Update until nothing changes, from the cells that wait; return False where the order has to be finer.

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
        numbers : tuple
            The distance of neighbours per axis, and both ways; what updates take of the spacing; the shape without
            padding, and 1 / padded length, per axis; the time beyond which times are infinite.
        """
        sample, patience, room = np.empty(SAMPLE, u.dtype), PATIENCE * u.size, len(spare)
        count, complete = 0, False
        while patience > 0:
            if count == 0:
                if complete:
                    break
                count = _found(flags, far)
                complete = count < len(far)
                continue
            limit = _middle(u, far, 0, count, sample)
            kept = now = 0
            for k in range(count):
                i = far[k]
                if u[i] <= limit and now < room:
                    near[now] = i
                    now += 1
                else:
                    # All keep their order, as neighbours in the list are so in memory.
                    far[kept] = i
                    kept += 1
            count = kept
            while now > 0:
                following = 0
                for k in range(now):
                    i = near[k]
                    v, later = u[i], flags[i] & LATER
                    flags[i] &= FIXED
                    for step in numbers[1]:
                        j = i + step
                        # Only later neighbours depend on a cell; one that has got later may have been earlier.
                        if (u[j] > v or later) and flags[j] < FIXED:
                            patience -= 1
                            changed = _update(volume, labelled, speeds, u, labels, image, j, numbers)
                            if changed:
                                if not flags[j]:
                                    if u[j] <= limit and following < room:
                                        spare[following] = j
                                        following += 1
                                    elif count < len(far):
                                        far[count] = j
                                        count += 1
                                    else:
                                        complete = False
                                flags[j] = max(flags[j], changed)
                near, spare, now = spare, near, following
        return count == 0 and complete

    return front


@functools.cache
def build_fine_front(ndim: int, labelled: bool, speeds: bool) -> Callable[..., None]:
    """Compile the same front in a finer order: few cells are near at a time."""
    volume = ndim == 3

    @kernel
    def front(u, labels, image, flags, far, near, spare, numbers):  # type: ignore[no-untyped-def]
        """Update until nothing changes, from the cells that wait; see `build_front`."""
        sample, room = np.empty(SAMPLE, u.dtype), len(spare)
        ends, limits, top = np.zeros(LEVELS, np.int64), np.empty(LEVELS, u.dtype), 0
        limits[0] = math.inf
        complete = False
        while True:
            if top == 0 and ends[0] == 0:
                if complete:
                    break
                ends[0] = _found(flags, far)
                complete = ends[0] < len(far)
            now, limit, top = _nearest(u, far, ends, limits, top, near, sample)
            while now > 0:
                following = 0
                for k in range(now):
                    i = near[k]
                    v, later = u[i], flags[i] & LATER
                    flags[i] &= FIXED
                    for step in numbers[1]:
                        j = i + step
                        if (u[j] > v or later) and flags[j] < FIXED:
                            changed = _update(volume, labelled, speeds, u, labels, image, j, numbers)
                            if changed and not flags[j]:
                                if u[j] <= limit and following < room:
                                    spare[following] = j
                                    following += 1
                                elif not _put(far, ends, limits, top, j, u[j]):
                                    complete = False
                            flags[j] = max(flags[j], changed)
                near, spare, now = spare, near, following
                if now > 2 * FINE and top < LEVELS - 1 and ends[top] + now <= len(far):
                    # What is near has grown: it is the nearest list, to be split.
                    _copy(near, 0, far, ends[top], now)
                    top += 1
                    ends[top], limits[top], now = ends[top - 1] + now, limit, 0

    return front


@functools.cache
def build_violations(ndim: int, labelled: bool, speeds: bool) -> Callable[..., int]:
    """Compile the count of the cells that do not fulfil their equation."""
    volume = ndim == 3

    @kernel
    def violations(u, labels, image, flags, numbers):  # type: ignore[no-untyped-def]
        """Return how many cells an update would change, and change none; see `front`."""
        found = 0
        for i in range(len(u)):
            if flags[i] < FIXED:
                time, label = u[i], labels[i if labelled else 0]
                if _update(volume, labelled, speeds, u, labels, image, i, numbers):
                    found += 1
                    u[i], labels[i if labelled else 0] = time, label
        return found

    return violations
