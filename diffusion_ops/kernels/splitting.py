"""Solve implicit diffusion along lines, (I - A) x = f, on many lines at once; lines are cut into partitions.

A line is cut into partitions (Wang 1981; SPIKE: Polizzi and Sameh 2006). Each is first summed up from both ends as if
its neighbours were walls: its end cells then are a weighted mean y of its right sides, of weight e. Over the face c
between two partitions flows what makes their ends agree,

    J (1 + c / e + c / e') - c p J_before - c p' J_ahead = c (y - y'),

where p is what a unit inflow at one end of a partition raises the other by. The "exact" form solves this small system;
the "truncated" one leaves its off-diagonals out, as p falls with q^size: a cell then depends on its own and the two
neighbouring partitions alone. With the ends known, each partition is solved by itself. All sums are of positive terms:
with θ = c at its largest the result keeps the extremes of f, whatever θ is.

Sixteen lines are solved as one: they lie beside each other in memory, or are transposed into scratch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from diffusion_ops.blocks.block import LANES, Floats, aligned_zeros, row_pitch
from diffusion_ops.blocks.partitions import Partitions
from diffusion_ops.kernels.lanes import begin, copied, fill, kernel, load, shift, store

_FIELDS = 6
"""Numbers per partition: both weights, both ends, what crosses it, and the flow ahead of it."""


@copied
def _sum_up(exact, f, c, part, a, b, one):  # type: ignore[no-untyped-def]
    """Fill the weights, the end values and the crossing of the partition of the cells a ... b, taken as closed."""
    ahead = back = cross = fill(one)
    last, first = load(f, a * LANES), load(f, b * LANES)
    for t in range(b - a):
        w = load(c, (a + t) * LANES)
        r = w / (ahead + w)
        ahead = r * ahead + one
        last = load(f, (a + t + 1) * LANES) + r * last
        if exact:
            cross = cross * r
        w = load(c, (b - t - 1) * LANES)
        r = w / (back + w)
        back = r * back + one
        first = load(f, (b - t - 1) * LANES) + r * first
    store(part, 0, ahead)
    store(part, LANES, last / ahead)
    store(part, 2 * LANES, back)
    store(part, 3 * LANES, first / back)
    store(part, 4 * LANES, cross / ahead)


@copied
def _exchange(exact, c, parts, edges, count, one):  # type: ignore[no-untyped-def]
    """Replace the end values of closed partitions by the values on both sides of every interface."""
    size = _FIELDS * LANES
    flow = upper = fill(one - one)
    for k in range(count - 1):
        here, ahead = shift(parts, k * size), shift(parts, (k + 1) * size)
        w = load(c, (edges[k + 1] - 1) * LANES)
        pivot = w / load(here, 0) + w / load(ahead, 2 * LANES) + one
        right = w * (load(here, LANES) - load(ahead, 3 * LANES))
        if exact:
            # Gaussian elimination: `upper` is what the flow before loses per flow here, `flow` its known part.
            lower = w * load(here, 4 * LANES)
            pivot = pivot - lower * upper
            right = right + lower * flow
            upper = w * load(ahead, 4 * LANES) / pivot
            store(here, 5 * LANES, upper)
        flow = right / pivot
        # The closed end at the near side is kept until the flows are known.
        store(parts, (count + k) * size, flow)
    flow = after = fill(one - one)
    for k in range(count - 2, -1, -1):
        here, ahead = shift(parts, k * size), shift(parts, (k + 1) * size)
        flow = load(parts, (count + k) * size)
        if exact:
            flow = flow + load(here, 5 * LANES) * after
            store(parts, (count + k) * size, flow)
            far = load(ahead, 4 * LANES) * after
            store(ahead, 3 * LANES, load(ahead, 3 * LANES) - far)
        store(ahead, 3 * LANES, load(ahead, 3 * LANES) + flow / load(ahead, 2 * LANES))
        store(here, LANES, load(here, LANES) - flow / load(here, 0))
        after = flow
    if exact:
        for k in range(1, count - 1):
            here = shift(parts, k * size)
            before = load(parts, (count + k - 1) * size)
            store(here, LANES, load(here, LANES) + load(here, 4 * LANES) * before)


@copied
def _solve(f, c, r, p, a, b, left, low, right, high, one):  # type: ignore[no-untyped-def]
    """Replace f by x in the cells a ... b, next to cells of values low and high over faces left and right."""
    e, total = left + one, load(f, a * LANES) + left * low
    for i in range(a, b):
        w = load(c, i * LANES)
        s = one / (e + w)
        ratio = w * s
        store(r, i * LANES, ratio)
        store(p, i * LANES, total * s)
        e = ratio * e + one
        total = load(f, (i + 1) * LANES) + ratio * total
    x = (total + right * high) / (e + right)
    store(f, b * LANES, x)
    for i in range(b - 1, a - 1, -1):
        x = load(p, i * LANES) + load(r, i * LANES) * x
        store(f, i * LANES, x)


@copied
def _solve_lines(exact, f, c, r, p, parts, edges, count, ends, one):  # type: ignore[no-untyped-def]
    """Replace f by x in the partitions whose neighbours are known; `ends` says where the line itself ends."""
    size, zero = _FIELDS * LANES, fill(one - one)
    for k in range(count):
        _sum_up(exact, f, c, shift(parts, k * size), edges[k], edges[k + 1] - 1, one)
    _exchange(exact, c, parts, edges, count, one)
    for k in range(0 if ends[0] else 1, count if ends[1] else count - 1):
        left = low = right = high = zero
        if k > 0:
            left, low = load(c, (edges[k] - 1) * LANES), load(parts, (k - 1) * size + LANES)
        if k < count - 1:
            right, high = load(c, (edges[k + 1] - 1) * LANES), load(parts, (k + 1) * size + 3 * LANES)
        _solve(f, c, r, p, edges[k], edges[k + 1] - 1, left, low, right, high, one)


@functools.cache
def build_split(exact: bool, across: bool) -> Callable[..., None]:
    """Compile the solution along one axis; `across` where neighbouring lines lie beside each other in memory."""

    @kernel
    def split(out, u, faces, lines, theta, share, add, edges, ends, room):  # type: ignore[no-untyped-def]
        """Put share * x into out, or add it there.

        Parameters
        ----------
        out, u : (cells,)
        faces : (cells,), conductances of the faces that follow each cell
        lines : (cells of a line, their distance, sets of lines, the sets' distance, lines of a set, their distance)
        theta : factor of the conductances
        edges : int (partitions + 1,), where the partitions begin, counted along the line
        ends : two bools, whether the first partition begins and the last ends where the line does
        room : scratch
        """
        n, step, sets, far, number, near = lines
        one, count = u.dtype.type(1), len(edges) - 1
        f = begin(room)
        c, r, p, parts = (
            shift(f, n * LANES),
            shift(f, 2 * n * LANES),
            shift(f, 3 * n * LANES),
            shift(f, 4 * n * LANES),
        )
        to, source, weights = begin(out), begin(u), begin(faces)
        for s in range(sets):
            for g in range(0, number, LANES):
                at = s * far + g * near
                if across:
                    for i in range(n):
                        store(f, i * LANES, load(source, at + i * step))
                        store(c, i * LANES, load(weights, at + i * step) * theta)
                else:
                    for i0 in range(0, n, LANES):
                        for k in range(LANES):
                            row = at + min(k, number - 1 - g) * near
                            for i in range(i0, min(i0 + LANES, n)):
                                room[i * LANES + k] = u[row + i]
                                room[(n + i) * LANES + k] = faces[row + i] * theta
                _solve_lines(exact, f, c, r, p, parts, edges, count, ends, one)
                if across:
                    for i in range(n):
                        x = load(f, i * LANES) * share
                        if add:
                            x = load(to, at + i * step) + x
                        store(to, at + i * step, x)
                else:
                    for i0 in range(0, n, LANES):
                        for k in range(min(LANES, number - g)):
                            row = at + k * near
                            for i in range(i0, min(i0 + LANES, n)):
                                x = room[i * LANES + k] * share
                                out[row + i] = out[row + i] + x if add else x

    return split


def split_axis(
    out: Floats,
    u: Floats,
    faces: Floats,
    spatial: tuple[int, ...],
    axis: int,
    theta: float,
    share: float,
    add: bool,
    partitions: Partitions,
    exact: bool,
) -> None:
    """Put share * (I - theta A)^-1 u along one axis into out, or add it there; cells that are not solved for keep u.

    Parameters
    ----------
    out, u : ndarray of shape (cells,)
        One channel in rows of whole lanes.
    faces : ndarray of shape (cells,)
        Conductance between each cell and the next along the axis.
    spatial : tuple of int
        Shape without padding.
    axis : int
    theta : float
        Step over the square of the spacing, times the number of axes.
    partitions : Partitions
    exact : bool
        Whether the small system of all interfaces is solved, or each alone.
    """
    pitch = row_pitch(spatial[-1])
    rows = int(np.prod(spatial[:-1]))
    n, dtype = spatial[axis], u.dtype
    if axis == len(spatial) - 1:
        lines = (n, 1, 1, 0, rows, pitch)
    elif axis == 0:
        inner = rows // n * pitch
        lines = (n, inner, 1, 0, inner, 1)
    else:
        lines = (n, pitch, spatial[0], n * pitch, pitch, 1)
    split = build_split(exact, axis < len(spatial) - 1)
    room = aligned_zeros((4 * n + 2 * _FIELDS * len(partitions.edges)) * LANES, dtype)
    numbers = dtype.type(theta), dtype.type(share)
    split(out, u, faces, lines, *numbers, add, partitions.edges, partitions.ends, room)


def solve_lines(right_side: Floats, faces: Floats, partition: int, *, exact: bool = True) -> Floats:
    """Solve x - D faces D^T x = right_side along the columns of an array, with no flux at both ends.

    Parameters
    ----------
    right_side : ndarray of shape (n, lines), float32 or float64
    faces : ndarray of the same shape
        Coupling >= 0 of each cell and the next in its column; the last row is not read.
    partition : int
        Cells of a partition, counted from the first row.
    exact : bool
        Whether partitions know all others, or only their neighbours.

    Returns
    -------
    ndarray of shape (n, lines)

    Examples
    --------
    >>> solve_lines(np.array([[0.0], [3.0], [0.0]]), np.ones((3, 1)), 2)
    array([[0.75],
           [1.5 ],
           [0.75]])
    """
    n, count = right_side.shape
    padded = np.zeros((2, n, row_pitch(count)), right_side.dtype)
    padded[0, :, :count], padded[1, :, :count] = right_side, faces
    out = np.empty_like(padded[0]).reshape(-1)
    partitions = Partitions(np.append(np.arange(0, n, partition), n), (True, True))
    split_axis(
        out, padded[0].reshape(-1), padded[1].reshape(-1), (n, count), 0, 1, 1, False, partitions, exact
    )
    return np.asarray(out.reshape(n, -1)[:, :count])
