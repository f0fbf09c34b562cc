"""Run a front through a window: update cells until nothing changes, in about the order of their times.

A cell that has changed waits until its later neighbours are updated. Those waiting are split by a time into near ones,
which go first, and far ones; the time is found from a sample of them, so that neither units nor the spread of costs
matter.

Near cells are taken some hundred at a time: their later neighbours are listed once each, all of these are computed from
the times as they are, and what has changed is put in place. Each of the three is a loop without a branch that depends
on the image. Taken one by one, each update waited for the square root before it and for mispredicted branches, which
made noise three times as slow. The cells of a list lie anywhere in memory, so each asks for what one some places
further on needs; waiting for memory was two thirds of the time that a window of 2048 x 2048 took.

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

from diffusion_ops.kernels.fronts.updates import (
    nearest_label,
    plane_solution,
    plane_solutions,
    plane_time,
    volume_solution,
    volume_time,
)
from diffusion_ops.kernels.lanes import INLINED, copied, kernel, njit, prefetch

SAMPLE = 15
"""Cells of the sample that says which are near."""

NEAR = 0.25
"""Part of the waiting cells that are near. With half of them a front that comes in over a whole side of a tile ran far
ahead of itself, and took three times as long; with fewer the lists are looked through too often.
"""

PATIENCE = 4
"""Updates per cell of the window after which fewer cells are near at a time."""

BATCH = 256
"""Near cells at a time: their neighbours, times and costs fit the cache."""

AHEAD = 12
"""Cells of a list from the one that is taken to the one that memory is asked for."""

EARLIER, LATER, FIXED, LISTED = 1, 2, 4, 8
"""Flags of a cell: how one that waits has changed (it has got earlier, or later); never updated; in the list of those
to be computed."""


@njit(**INLINED)
def _limit(u, far, count, sample, part):  # type: ignore[no-untyped-def]
    """Return the time of a sample of the waiting cells up to which a part of them lies."""
    size = min(SAMPLE, count)
    for k in range(size):
        v, at = u[far[k * count // size]], k
        while at > 0 and sample[at - 1] > v:
            sample[at] = sample[at - 1]
            at -= 1
        sample[at] = v
    return sample[int((size - 1) * part)]


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


@njit(**INLINED)
def _nearer(u, far, count, near, limit):  # type: ignore[no-untyped-def]
    """Move cells up to a time from one list into another, and return how many each has; all keep their order.

    Neighbours in a list are so in memory.
    """
    kept = now = 0
    for k in range(np.uint64(count)):
        i = np.uint64(far[k])
        prefetch(u, np.uint64(far[min(k + np.uint64(AHEAD), np.uint64(count - 1))]))
        taken = (u[i] <= limit) & (now < len(near) - 1)
        near[np.uint64(now)] = far[np.uint64(kept)] = i
        now, kept = now + taken, kept + (not taken)
    return kept, now


@njit(**INLINED)
def _dependent(u, flags, near, start, stop, steps, cells):  # type: ignore[no-untyped-def]
    """List the cells that depend on some of the near ones, once each, and return how many.

    Only later neighbours depend on a cell; one that has got later may have been earlier.
    """
    count = 0
    for k in range(np.uint64(start), np.uint64(stop)):
        i = np.uint64(near[k])
        ahead = np.uint64(near[min(k + np.uint64(AHEAD), np.uint64(stop - 1))])
        for step in steps:
            prefetch(u, ahead + step)
            prefetch(flags, ahead + step)
        v, later = u[i], (flags[i] & LATER) != 0
        flags[i] &= FIXED | LISTED
        for step in steps:
            j = i + step
            wanted = ((u[j] > v) | later) & (flags[j] < FIXED)
            cells[np.uint64(count)] = j
            flags[j] |= np.uint8(wanted) << 3
            count += wanted
    return count


@copied
def _solved(volume, speeds, u, image, cells, count, room, numbers):  # type: ignore[no-untyped-def]
    """Put the updates of the listed cells into the last array of the room."""
    places, lows, values, found = room
    steps, metric, shape, inverses, until = numbers[1:]
    kind, ndim = u.dtype.type, len(shape)
    for k in range(np.uint64(count)):
        i = np.uint64(cells[k])
        for axis in range(ndim):
            lows[axis, k] = min(u[i + steps[axis]], u[i + steps[ndim + axis]])
        place = (
            _volume_cell(np.int64(i), shape, inverses)
            if volume
            else _plane_cell(np.int64(i), shape, inverses)
        )
        places[k] = place
        prefetch(image, np.uint64(place))
    for k in range(np.uint64(count)):
        values[k] = image[np.uint64(places[k])]
    if not volume:
        plane_solutions(lows[0], lows[1], values, speeds, found, count, metric)
    for k in range(np.uint64(count)):
        # What the fast way does not know is NaN.
        if volume or found[k] != found[k]:
            f = 1.0 / np.float64(values[k]) if speeds else np.float64(values[k])
            if volume:
                found[k] = volume_solution(lows[0, k], lows[1, k], lows[2, k], f, kind, metric)
            else:
                found[k] = plane_solution(lows[0, k], lows[1, k], f, kind, metric)
        if found[k] > until:
            found[k] = kind(math.inf)


@copied
def _put(state, updates, count, lists, limit):  # type: ignore[no-untyped-def]
    """Put times in place, list the cells that have changed, and return how many wait.

    Parameters
    ----------
    state : tuple of 2 arrays
        Times and flags of the window.
    updates : tuple of 2 arrays
        The cells that were computed, and their times.
    count : int
        Number of them.
    lists : tuple of array, int, array, int
        The near and the far cells, and how many there are; where a list has no room, cells wait without.
    limit : float
        Last time of near cells.
    """
    (u, flags), (cells, found), (near, now, far, waiting) = state, updates, lists
    roomy, wide = now + count < len(near), waiting + count < len(far)
    for k in range(np.uint64(count)):
        i, r = np.uint64(cells[k]), found[k]
        old, flag = u[i], flags[i] & (EARLIER | LATER)
        changed = np.uint8(r < old) | (np.uint8(r > old) << 1)
        u[i], flags[i] = r, flag | changed
        fresh = (changed != 0) & (flag == 0)
        near[np.uint64(now)] = far[np.uint64(waiting)] = i
        now, waiting = now + (fresh & (r <= limit) & roomy), waiting + (fresh & (r > limit) & wide)
    return now, waiting, roomy and wide


@functools.cache
def build_front(ndim: int, speeds: bool) -> Callable[..., None]:
    """Compile the front of planes (2) or volumes (3)."""
    volume = ndim == 3

    @kernel
    def front(u, image, flags, far, near, spare, numbers):  # type: ignore[no-untyped-def]
        """Update until nothing changes, from the cells that wait.

        Parameters
        ----------
        u : float32 or float64 ndarray, flat
            Times, which are updated in place.
        image : float32 or float64 ndarray, flat
            Costs or speeds, > 0 but for costs of 0.
        flags : uint8 ndarray, flat
        far, near, spare : int32 ndarray, flat
            Room for cells that wait; where it is too small, it is filled again and again.
        numbers : tuple
            The distance of neighbours per axis, and both ways, modulo 2^64; what updates take of the spacing; the shape
            without padding, and 1 / padded length, per axis; the time beyond which times are infinite.
        """
        most = BATCH * len(numbers[1])
        cells = np.empty(most + 1, np.int32)
        lows, found = np.empty((ndim, most), u.dtype), np.empty(most, u.dtype)
        room = np.empty(most, np.int32), lows, np.empty(most, image.dtype), found
        sample, patience = np.empty(SAMPLE, u.dtype), PATIENCE * u.size
        waiting, complete = 0, False
        while waiting or not complete:
            if not waiting:
                waiting = _found(flags, far)
                complete = waiting < len(far)
                continue
            limit = _limit(u, far, waiting, sample, NEAR if patience > 0 else 0.0)
            waiting, now = _nearer(u, far, waiting, near, limit)
            while now:
                following = 0
                for start in range(0, now, BATCH):
                    count = _dependent(u, flags, near, start, min(start + BATCH, now), numbers[1], cells)
                    patience -= count
                    _solved(volume, speeds, u, image, cells, count, room, numbers)
                    updates = cells, found
                    lists = spare, following, far, waiting
                    following, waiting, whole = _put((u, flags), updates, count, lists, limit)
                    complete = complete and whole
                near, spare, now = spare, near, following

    return front


@functools.cache
def build_violations(ndim: int, labelled: bool, speeds: bool) -> Callable[..., int]:
    """Compile the count of the cells that do not fulfil their equation."""
    volume = ndim == 3

    @kernel
    def violations(u, labels, image, flags, numbers):  # type: ignore[no-untyped-def]
        """Return how many cells an update would change, one by one; see `front`."""
        pitch, steps, metric, shape, inverses, until = numbers
        found = 0
        for i in range(len(u)):
            if flags[i] >= FIXED:
                continue
            f = cost_at(volume, speeds, image, i, shape, inverses)
            r = volume_time(u, f, i, pitch, metric) if volume else plane_time(u, f, i, pitch, metric)
            r = r if r <= until else u.dtype.type(math.inf)
            wrong = r != u[i]
            if labelled:
                wrong |= nearest_label(u, labels, np.uint64(i), steps, r < math.inf) != labels[i]
            found += wrong
        return found

    return violations
