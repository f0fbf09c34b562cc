"""Means of what is known in 2 cells along every axis."""

from __future__ import annotations

import numpy as np

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.kernels.lanes import copied, kernel


@copied
def _mean(u, known, first, shape):  # type: ignore[no-untyped-def]
    """Return the mean of what is known of 2 cells along every axis from the first one on, and their number.

    Sums go along the first axis first, and begin at -0, which changes no number.
    """
    total, count, least, most = -0.0, 0, np.inf, -np.inf
    for x in range(first[2], min(first[2] + 2, shape[2])):
        row = -0.0
        for y in range(first[1], min(first[1] + 2, shape[1])):
            column = -0.0
            for z in range(first[0], min(first[0] + 2, shape[0])):
                value = 0.0
                if known[z, y, x]:
                    value = np.float64(u[z, y, x])
                    count += 1
                    least, most = min(least, value), max(most, value)
                column += value
            row += column
        total += row
    if count:
        # Rounding: the mean of three 0.1 is above 0.1.
        total = min(max(total / count, least), most)
    return total, count


@kernel
def fill_means(means, has, u, known):  # type: ignore[no-untyped-def]
    """Fill means and has, (planes, rows, columns) of half the size; means are 0 where nothing is known."""
    for p in range(means.shape[0]):
        for m in range(means.shape[1]):
            for j in range(means.shape[2]):
                mean, count = _mean(u, known, (2 * p, 2 * m, 2 * j), u.shape)
                means[p, m, j] = mean
                has[p, m, j] = count > 0


def known_means(fields: Floats, known: Bools) -> tuple[Floats, Bools]:
    """Return the means of what is known in 2 cells along every axis, 0 where nothing is, and where something is.

    The last one of an odd number stands alone. Sums are taken in float64.

    Parameters
    ----------
    fields : ndarray of shape (channels, *spatial)
    known : bool ndarray of shape `spatial`
    """
    spatial = (1,) * (3 - known.ndim) + known.shape
    half = tuple([-(-n // 2) for n in known.shape])
    means, has = np.zeros((len(fields), *half)), np.empty(half, bool)
    flags = np.ascontiguousarray(known).reshape(spatial)
    into = has.reshape((1,) * (3 - known.ndim) + half)
    for mean, channel in zip(means, fields, strict=True):
        fill_means(mean.reshape(into.shape), into, np.ascontiguousarray(channel).reshape(spatial), flags)
    return means, has
