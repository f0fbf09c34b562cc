"""Update one cell of a front, in the type of its state, from values that are strictly below the result only.

The first-order upwind (Godunov) update, as an assignment u ← F(its neighbours): per axis the smaller neighbour a_k, in
increasing order; one axis alone gives a_1 + f h_1; while the next a_k is below that, the quadratic
Σ ((u - a_j) / h_j)² = f² of one more axis is solved. Each result is raised to the next floating-point number above the
values used, where rounding left it at or below them. So u = F(u) has exactly one solution even in floating point (by
induction over the sorted values), and any order of updates ends there: tiles, workers and resumed runs give the same
bits. Arithmetic is in 64 bits, whatever the state's type.

What an update takes of the spacing is made by `metric_of`; `pitch` has the distance of a neighbour per axis.
"""

from __future__ import annotations

import math

import numpy as np

from diffusion_ops.kernels.lanes import INLINED, njit


def metric_of(spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Return the spacing h per axis, the weights 1 / h², and of each two axes and of all: Σ w, 1 / Σ w, w w'.

    In 3-D the two axes are (1, 2), (0, 2), (0, 1): those that are left without axis 0, 1, 2.
    """
    weights = [1.0 / (h * h) for h in spacing]
    if len(spacing) == 2:
        pairs = [weights]
    else:
        pairs = [[w for axis, w in enumerate(weights) if axis != without] for without in range(3)]
    sums = [number for a, b in pairs for number in (a + b, 1.0 / (a + b), a * b)]
    return (*spacing, *weights, *sums, sum(weights), 1.0 / sum(weights))


@njit(**INLINED)
def above(value, used):  # type: ignore[no-untyped-def]
    """Return a value, or the next number above one that it uses."""
    return value if value > used else np.nextafter(used, type(used)(math.inf))


@njit(**INLINED)
def _pair(a, b, f, wb, total, inverse, product):  # type: ignore[no-untyped-def]
    """Return the solution of two axes, for a <= b in 64 bits; `wb` is the weight of the axis of b."""
    d = b - a
    return a + (wb * d + math.sqrt(max(total * f * f - product * d * d, 0.0))) * inverse


@njit(**INLINED)
def _triple(a, b, c, f, wb, wc, total, inverse):  # type: ignore[no-untyped-def]
    """Return the solution of three axes, for a <= b <= c in 64 bits."""
    p, q = b - a, c - a
    middle = wb * p + wc * q
    rest = middle * middle - total * (wb * p * p + wc * q * q - f * f)
    return a + (middle + math.sqrt(max(rest, 0.0))) * inverse


@njit(**INLINED)
def plane_time(u, f, i, pitch, metric):  # type: ignore[no-untyped-def]
    """Return F of a cell of a plane with cost f; u is flat."""
    y, x = min(u[i - pitch[0]], u[i + pitch[0]]), min(u[i - pitch[1]], u[i + pitch[1]])
    return plane_solution(y, x, f, u.dtype.type, metric)


@njit(**INLINED)
def plane_solution(y, x, f, kind, metric):  # type: ignore[no-untyped-def]
    """Return the first-order solution of a plane from the earlier neighbour along each axis."""
    first = y <= x
    a, b = (y, x) if first else (x, y)
    ha, wb = (metric[0], metric[3]) if first else (metric[1], metric[2])
    r = above(kind(np.float64(a) + f * ha), a)
    if b < r:
        two = _pair(np.float64(a), np.float64(b), f, wb, metric[4], metric[5], metric[6])
        r = min(r, above(kind(two), b))
    return r


@njit(**INLINED)
def plane_solutions(ys, xs, values, speeds, found, count, metric):  # type: ignore[no-untyped-def]
    """Put the first-order solutions of many cells into `found`; NaN where rounding left one at or below what it uses.

    They have the bits of `plane_solution`, and no branches: the compiler computes several at a time.

    Parameters
    ----------
    ys, xs : ndarray
        The earlier neighbour along each axis.
    values : ndarray
        Costs, or speeds.
    """
    kind = found.dtype.type
    for k in range(np.uint64(count)):
        y, x, value = ys[k], xs[k], np.float64(values[k])
        f = 1.0 / value if speeds else value
        first = y <= x
        a, b = y if first else x, x if first else y
        ha, wb = metric[0] if first else metric[1], metric[3] if first else metric[2]
        one = kind(np.float64(a) + f * ha)
        both = b < one
        # Beside a infinite b would make a time that is never above it.
        b = b if both else a
        d = np.float64(b) - np.float64(a)
        rest = metric[4] * f * f - metric[6] * d * d
        two = kind(np.float64(a) + (wb * d + math.sqrt(rest if rest > 0.0 else 0.0)) * metric[5])
        r = two if both & (two < one) else one
        found[k] = r if (one > a) & (two > b) else kind(math.nan)


@njit(**INLINED)
def volume_time(u, f, i, pitch, metric):  # type: ignore[no-untyped-def]
    """Return F of a cell of a volume with cost f; u is flat."""
    z, y = min(u[i - pitch[0]], u[i + pitch[0]]), min(u[i - pitch[1]], u[i + pitch[1]])
    x = min(u[i - pitch[2]], u[i + pitch[2]])
    return volume_solution(z, y, x, f, u.dtype.type, metric)


@njit(**INLINED)
def volume_solution(z, y, x, f, kind, metric):  # type: ignore[no-untyped-def]
    """Return the first-order solution of a volume from the earlier neighbour along each axis."""
    a, ka, b, kb, c, kc = z, 0, y, 1, x, 2
    if b < a:
        a, ka, b, kb = b, kb, a, ka
    if c < b:
        b, kb, c, kc = c, kc, b, kb
        if b < a:
            a, ka, b, kb = b, kb, a, ka
    r = above(kind(np.float64(a) + f * metric[ka]), a)
    if b < r:
        at = 6 + 3 * kc
        two = _pair(
            np.float64(a), np.float64(b), f, metric[3 + kb], metric[at], metric[at + 1], metric[at + 2]
        )
        r = min(r, above(kind(two), b))
        if c < r:
            weights = metric[3 + kb], metric[3 + kc]
            three = _triple(np.float64(a), np.float64(b), np.float64(c), f, *weights, metric[15], metric[16])
            r = min(r, above(kind(three), c))
    return r


@njit(**INLINED)
def nearest_label(u, labels, i, steps, reached):  # type: ignore[no-untyped-def]
    """Return the label of the neighbour of the smallest time, of several the smallest label; 0 if not reached."""
    best, label = u.dtype.type(math.inf), labels.dtype.type(0)
    for step in steps:
        v, other = u[i + step], labels[i + step]
        nearer = (v < best) | ((v == best) & (other < label))
        best, label = v if nearer else best, other if nearer else label
    return label if reached else labels.dtype.type(0)
