"""Take steps of any explicit update on a block, row after row: many steps per visit to the cache, in place.

An equation gives one compiled function that makes a row of the next step from the rows around it; everything else is
here. The sweep is a pipeline over the rows (of a volume: plane after plane). Level 0 copies row t of the state into a
ring of rows, level 1 makes row t - reach of the next step from the ring of level 0 and puts it into its own ring, and
so on; the last level's rows go back into the state, whose old rows nobody needs any more. Memory is crossed once for a
whole group of steps, no row is made twice, and every cell is summed in the same order wherever its tile begins.

Rings hide walls from the update. Beyond the image's edge a row is its own neighbour, and the end of a row is followed
by copies of itself, so that differences across an edge are 0. Invalid cells are NaN in the rings; `seen` and `corner`
read neighbours past them, and what an update makes of an invalid cell is thrown away.

Use
---
    @inlined
    def heat_row(form, u, lines, out, n, numbers, data):
        masked, volume, channels, wide, stride = form
        up, here, down = element(lines, 0), element(lines, 1), element(lines, 2)
        for j in range(0, n, LANES):
            c = load(u, here + j)
            left, right = seen(masked, load(u, here + j - 1), c), seen(masked, load(u, here + j + 1), c)
            above, below = seen(masked, load(u, up + j), c), seen(masked, load(u, down + j), c)
            store(out, j, c + numbers[0] * (((left - c) + (right - c)) + ((above - c) + (below - c))))

    take_row_steps(block, heat_row, steps=8, numbers=[0.2])

form : (masked, volume, channels, wide, stride)
    The first two are constants of the compiler. A row of channel c begins c * wide further on, in `u` and in `out`, and
    the next array of `data` `stride` further on.
u, lines : addresses
    Cell j of the neighbour line k is u[lines[k] + j], j from -radius to n + radius. Lines are numbered
    row by row, upper first, and plane by plane in a volume: with radius 1, 0 1 2 in an image, 0 ... 8 in a volume.
out : address
    Cell j of the result goes to out[j], for all j < n; n is a whole number of groups of lanes.
numbers : tuple of floats
data : address
    The same row of arrays that every step reads, such as frozen coefficients; not read where there are none.

Where cells read what their neighbours are made of first, such as diffusivities, that is made once: `prepare`, called
like an update, makes rows of further fields from the state, which the update finds behind its channels.

Updates must be a module's global functions: the compiler's cache on disk knows them by their names.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, aligned_zeros
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls
from diffusion_ops.kernels.lanes import (
    begin,
    call_row,
    choose,
    compile_row,
    copied,
    elements,
    fill,
    inlined,
    kernel,
    known,
    load,
    shift,
    store,
)

# The rings of a group of steps should stay in a second-level cache of 1 MiB.
_GROUP_BYTES = 3 << 18
_GROUP_STEPS = 16


@inlined
def seen(masked, neighbour, centre):  # type: ignore[no-untyped-def]
    """Return the neighbours, or the cells themselves where these are beyond a wall."""
    return choose(known(neighbour), neighbour, centre) if masked else neighbour


@inlined
def corner(masked, diagonal, one, other, centre):  # type: ignore[no-untyped-def]
    """Return diagonal neighbours, as read from the ring like the two neighbours beside them.

    Only what both ways around the corner lead to is seen. Else it is the mean of the two beside it, or the one of them
    that is no wall, or the cell itself: what the end of a row gives too.
    """
    if not masked:
        return diagonal
    mean = choose(known(other), (one + other) * 0.5, one)
    beside = choose(known(one), mean, seen(masked, other, centre))
    return choose(known((one + other) + diagonal), diagonal, beside)


@copied
def _fetch(masked, ring, u, valid, n, nan):  # type: ignore[no-untyped-def]
    """Copy a row of the state into a ring; invalid cells become NaN."""
    for j in range(0, n, LANES):
        x = load(u, j)
        store(ring, j, choose(load(valid, j), x, fill(nan)) if masked else x)


@copied
def _put(masked, u, new, n):  # type: ignore[no-untyped-def]
    """Copy a finished row back into the state; invalid cells keep their numbers."""
    for j in range(0, n, LANES):
        x = load(new, j)
        store(u, j, choose(known(x), x, load(u, j)) if masked else x)


@copied
def _restore(new, old, n):  # type: ignore[no-untyped-def]
    """Make cells invalid again that were invalid before."""
    for j in range(0, n, LANES):
        x = load(old, j)
        store(new, j, choose(known(x), load(new, j), x))


@copied
def _extend(rings, at, columns, radius):  # type: ignore[no-untyped-def]
    """Let the row at rings[at] go on beyond both ends with copies of its end cells."""
    for i in range(1, radius + 1):
        rings[at - i] = rings[at]
        rings[at + columns - 1 + i] = rings[at + columns - 1]


@copied
def _find_lines(volume, radius, lines, p, m, outer, middle, slot, slots, room):  # type: ignore[no-untyped-def]
    """Fill lines with the offsets in a ring of the rows around row (p, m), which is in a slot of it."""
    k = 0
    for dp in range(-radius, radius + 1):
        planes = min(max(p + dp, 0), outer - 1) - p
        for dm in range(-radius if volume else 0, radius + 1 if volume else 1):
            at = slot + planes * middle + min(max(m + dm, 0), middle - 1) - m
            at += slots if at < 0 else 0
            at -= slots if at >= slots else 0
            lines[k] = at * room
            k += 1


@inlined
def step_bounds(bounds, k):  # type: ignore[no-untyped-def]
    """Return first and last + 1 of the outer and of the middle axis before step k; of columns, first and number.

    These are whole groups of lanes: a few more cells than the next steps need.
    """
    b = bounds[k]
    j0 = b[2, 0] // LANES * LANES
    return (b[0, 0], b[0, 1]), (b[1, 0], b[1, 1]), (j0, (b[2, 1] + LANES - 1) // LANES * LANES - j0)


@copied
def _inside(bounds, level, p, m):  # type: ignore[no-untyped-def]
    """Return whether a level makes row (p, m)."""
    b = bounds[level]
    return b[0, 0] <= p < b[0, 1] and b[1, 0] <= m < b[1, 1] and b[2, 0] < b[2, 1]


@copied
def _finish_rows(masked, prepares, is_last, per_call, states, steps, n):  # type: ignore[no-untyped-def]
    """Let invalid cells of new rows be invalid, and put the last level's rows back into the state.

    Parameters
    ----------
    masked, prepares, is_last : bool
        Whether there are invalid cells; whether the level only prepares, so that its channels are those before;
        whether it is the last one.
    per_call : int
        Number of channels.
    states, steps : (address, int, address), (int, int)
        The channels before, in a ring, and after, in a ring or a row, and how far apart they lie; the same channels in
        the state, and how far apart they lie.
    """
    old, new, u = states
    wide, cells = steps
    for c in range(per_call):
        before, after = shift(old, c * wide), shift(new, c * wide)
        if prepares:
            _put(False, after, before, n)
        elif masked:
            _restore(after, before, n)
        if is_last:
            _put(masked, shift(u, c * cells), after, n)


@functools.cache
def build_row(update: Callable[..., None], masked: bool, volume: bool, many: int) -> Callable[..., None]:
    """Return what makes a row by an update, for one sort of block and `many` numbers.

    What the closure holds shows in the compiler's cache on disk, where the update is known by its name.
    """

    def row(lines, u, out, numbers, data, n, channels, wide, stride):  # type: ignore[no-untyped-def]
        form = (masked, volume, channels, wide, stride)
        update(form, u, lines, out, n, elements(numbers, many), data)

    return row


@functools.cache
def _row(update: Callable[..., None], masked: bool, volume: bool, many: int, dtype: np.dtype[Any]) -> Any:
    return compile_row(build_row(update, masked, volume, many), (np.int64, *[dtype] * 4), 4)


@kernel
def _sweep(rows, form, arrays, u, valid, data, grid, bounds, numbers, rings, line, lines):  # type: ignore[no-untyped-def]
    """Make all levels after the first, in place: each a step, or every second one where there is to prepare.

    Parameters
    ----------
    rows : addresses of what prepares, or 0, and of the update, see `build_row`
    form : (masked, volume, together), whether a call of the update makes all channels, or one
    arrays : (radius, fields, arrays), how many fields and arrays of data belong to a call of the update
    u, valid : (channels, cells), flat, and bool (cells,)
    data : (any number, cells), flat
    grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
    bounds : (levels, 3, 2), first and last + 1 of what each level makes, per axis of the grid
    numbers : array of floats
    rings : scratch of (levels - 1, slots, channels of a call and fields, pitch + 2 LANES), flat
    line : scratch of one row of such channels and fields
    lines : scratch of one offset per neighbour line
    """
    (first, update), (masked, volume, together), (radius, fields, data_arrays) = rows, form, arrays
    channels, outer, middle, columns, pitch = grid
    cells, wide, height, last = outer * middle * pitch, pitch + 2 * LANES, outer * middle, len(bounds) - 1
    calls, per_call = (1, channels) if together else (channels, 1)
    reach = radius * (middle + 1) if volume else radius
    slots, room, nan = 2 * reach + 1, (per_call + fields) * wide, u.dtype.type(np.nan)
    u, valid, data, numbers = begin(u), begin(valid), begin(data), begin(numbers)
    offsets, fresh, base = begin(lines), begin(line), begin(rings)
    for call in range(calls):
        for t in range(height + last * reach):
            for level in range(max(0, (t - height) // reach + 1), min(last, t // reach) + 1):
                row = t - level * reach
                p, m, slot, ring = row // middle, row % middle, row % slots, level * slots * room + LANES
                if not _inside(bounds, level, p, m):
                    continue
                _, _, (j0, n) = step_bounds(bounds, level)
                here = row * pitch + j0
                state = shift(u, call * per_call * cells + here)
                new = shift(fresh, LANES + j0) if level == last else shift(base, ring + slot * room + j0)
                if level == 0:
                    for c in range(per_call):
                        x, walls = shift(state, c * cells), shift(valid, here)
                        _fetch(masked, shift(new, c * wide), x, walls, n, nan)
                else:
                    old, prepares = shift(base, ring - slots * room + j0), first != 0 and level % 2 == 1
                    _find_lines(volume, radius, lines, p, m, outer, middle, slot, slots, room)
                    made = shift(new, per_call * wide) if prepares else new
                    coefficients = shift(data, call * data_arrays * cells + here)
                    counts = (n, per_call, wide, cells)
                    given = (offsets, old, made, numbers, coefficients)
                    call_row(first if prepares else update, given, counts)
                    states = (shift(old, slot * room), new, state)
                    _finish_rows(masked, prepares, level == last, per_call, states, (wide, cells), n)
                if level < last:
                    for c in range(per_call + fields):
                        _extend(rings, ring + slot * room + c * wide, columns, radius)


def named_update(namespace: dict[str, Any], name: str, row: Callable[..., None]) -> Callable[..., None]:
    """Return an update made by a function, as if written in a module under a name.

    The compiler's cache on disk knows an update by where it is found: what a closure chooses must show in the name.
    """
    row.__name__ = row.__qualname__ = name
    namespace[name] = row
    update: Callable[..., None] = inlined(row)
    return update


class _Scratch(threading.local):
    """Rows of one thread, reused from call to call."""

    def __init__(self) -> None:
        self._room: dict[np.dtype[Any], Floats] = {}

    def rows(self, cells: int, dtype: np.dtype[Any]) -> Floats:
        """Return as many cells of whatever the last sweep left, at the beginning of a cache line."""
        room = self._room.get(dtype)
        if room is None or room.size < cells:
            room = self._room[dtype] = aligned_zeros(cells, dtype)
        return room


_SCRATCH = _Scratch()


def level_bounds(block: Block, radius: int, first: int, steps: int) -> Any:
    """Return (steps + 1, 3, 2): the cells that no open side has spoilt after each step, along the kernel's axes.

    `first` steps have been taken since the block's ledger was written.
    """
    taken = np.arange(first, first + steps + 1, dtype=np.int64) * radius
    bounds = np.zeros((steps + 1, 3, 2), np.int64)
    bounds[:, 1, 1] = 1  # of the middle axis, which an image has not
    axes = range(0, 3, 4 - len(block.spatial))
    for axis, size, spoilt, (low, high) in zip(
        axes, block.spatial, block.spoilt, block.open_sides, strict=True
    ):
        bounds[:, axis, 0] = (spoilt + taken) * low
        bounds[:, axis, 1] = size - (spoilt + taken) * high
    return bounds


def take_row_steps(
    block: Block,
    update: Callable[..., None],
    steps: int,
    numbers: Sequence[float],
    *,
    radius: int = 1,
    data: Floats | None = None,
    together: bool = False,
    prepare: Callable[..., None] | None = None,
    fields: int = 0,
) -> None:
    """Take steps of an update on a block, in place.

    Parameters
    ----------
    block : Block
        Its sides that are not open and its invalid cells are walls.
    update : function
        Makes a row, see the head of this module; a global of its module under `inlined`.
    steps : int
    numbers : sequence of float
        What the update is given; at least one.
    radius : int
        Cells that an update and what prepares it read on each side, at most 16.
    data : ndarray of shape (n, cells), optional
        Arrays that every step reads in place, `allocate`d; shared out evenly where each channel has a call of its own.
    together : bool
        Whether the update makes all channels at once, because they depend on each other.
    prepare, fields : function and int, optional
        What makes further fields before every step, and how many for each call of the update.
    """
    u, grid = block.storage, kernel_grid(block, len(block.storage))
    channels, _, middle, _, pitch = grid
    volume, dtype = len(block.spatial) == 3, u.dtype
    calls, per_call = (1, channels) if together else (channels, 1)
    reach = radius * (middle + 1) if volume else radius
    levels, row = 1 if prepare is None else 2, (per_call + fields) * (pitch + 2 * LANES)
    ring = levels * (2 * reach + 1) * row
    group = max(
        1,
        min(steps, _GROUP_STEPS // levels, _GROUP_BYTES // (ring * dtype.itemsize), u.shape[1] // (4 * ring)),
    )
    scratch = _SCRATCH.rows(group * ring + row, dtype)
    masked, given = block.valid_storage is not None, np.array([*numbers], dtype)
    makes = [_row(one, masked, volume, len(given), dtype).address if one else 0 for one in (prepare, update)]
    arrays = 0 if data is None else len(data) // calls
    lines = np.empty((2 * radius + 1) ** (2 if volume else 1), np.int64)
    for first in range(0, steps, group):
        some = min(group, steps - first)
        _sweep(
            tuple(makes),
            (masked, volume, together),
            (radius, fields, arrays),
            u.reshape(-1),
            kernel_walls(block),
            np.zeros(1, dtype) if data is None else data.reshape(-1),
            grid,
            level_bounds(block, radius, first * levels, some * levels),
            given,
            scratch[: group * ring],
            scratch[group * ring :],
            lines,
        )


def ring_arrays(ndim: int, radius: int, channels: int) -> float:
    """Return how many arrays of one channel's size the rings hold: of many channels together, a part of each."""
    return 0.3 * channels if ndim == 3 or radius > 2 else 0.0


def half_inverse(spacing: Sequence[float]) -> list[float]:
    """Return 1 / (2 h) along x, y and z."""
    return [0.5 / h for h in (*reversed(spacing), 1.0)[:3]]
