"""Count magnitudes in bins of equal relative width, and compute quantiles from the counts.

A bin is the top bits of the float32 bit pattern: 1024 bins per octave, about 0.1 % wide. Bins are fixed, so
the counts of an image are the same for any tiling.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffusion_ops.blocks.block import Floats
from diffusion_ops.blocks.statistic import Integers, Tally

_SHIFT = 13
BINS = 1 << (32 - 1 - _SHIFT)

_LAST = 0x7F7FFFFF >> _SHIFT


@njit(inline="always")
def count_row(counts, bits, n):  # type: ignore[no-untyped-def]
    """Count n magnitudes, given as float32 bit patterns; infinite ones go into the last finite bin."""
    for j in range(n):
        counts[min(bits[j] >> _SHIFT, _LAST)] += 1


def bin_of(magnitudes: Floats) -> Integers:
    """Return the bins of float32 magnitudes; infinite ones lie in the last finite bin."""
    bins: Integers = np.minimum(magnitudes.view(np.int32) >> _SHIFT, _LAST).astype(np.int64)
    return bins


def empty_counts() -> Integers:
    """Return a count of zero for every bin."""
    return np.zeros(BINS, np.int64)


def tally_of(counts: Integers) -> Tally:
    """Return the tally of the bins that are not empty."""
    keys = np.flatnonzero(counts)
    return Tally(keys, counts[keys])


def bin_edges(keys: Integers) -> tuple[Floats, Floats]:
    """Return the lower and the upper edge of bins; the first bin holds only zeros and has no width."""
    lower = (keys << _SHIFT).astype(np.uint32).view(np.float32).astype(np.float64)
    upper = ((keys + 1) << _SHIFT).astype(np.uint32).view(np.float32).astype(np.float64)
    return lower, np.where(keys == 0, 0.0, np.minimum(upper, np.finfo(np.float32).max))


def quantile(tally: Tally, q: float) -> float:
    """Return the q-quantile, linear inside a bin; 0 < q <= 1 and at least one count."""
    filled = tally.counts > 0
    counts = tally.counts[filled]
    lower, upper = bin_edges(tally.keys[filled])
    reached = np.cumsum(counts)
    wanted = q * float(reached[-1])
    i = min(int(np.searchsorted(reached, wanted)), len(counts) - 1)
    part = (wanted - float(reached[i] - counts[i])) / float(counts[i])
    return float(lower[i] + part * (upper[i] - lower[i]))


def median_deviation(tally: Tally) -> float:
    """Return median(|x - median(x)|), linear inside bins; at least one count.

    The count within r of the median is linear between the distances of the bin edges, except for a jump where the
    interval reaches the zeros.
    """
    centre = quantile(tally, 0.5)
    zeros = float(tally.counts[tally.keys == 0].sum())
    some = (tally.counts > 0) & (tally.keys > 0)
    lower, upper = bin_edges(tally.keys[some])
    edges = np.concatenate([[0.0], np.stack([lower, upper], 1).ravel()])
    shares = np.stack([np.zeros(len(lower)), tally.counts[some].astype(np.float64)], 1).ravel()
    reached = np.concatenate([[0.0], np.cumsum(shares)])
    radii = np.unique(np.abs(np.append(edges, centre) - centre))
    mass = np.interp(centre + radii, edges, reached) - np.interp(centre - radii, edges, reached)
    wanted = (zeros + reached[-1]) / 2
    without = _first(radii, mass, wanted)
    return min(without, max(centre, _first(radii, mass + zeros, wanted)))


def _first(radii: Floats, mass: Floats, wanted: float) -> float:
    """Return the radius where an increasing piecewise linear mass reaches `wanted`; infinity if it never does."""
    i = int(np.searchsorted(mass, wanted))
    if i == len(mass):
        return math.inf
    if i == 0:
        return float(radii[0])
    part = (wanted - mass[i - 1]) / (mass[i] - mass[i - 1])
    return float(radii[i - 1] + part * (radii[i] - radii[i - 1]))
