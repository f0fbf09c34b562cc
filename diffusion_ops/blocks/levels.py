"""Count the values of an image, whole numbers one by one and others in narrow bins, and cut the counts into classes.

A value that is a whole number of at most 2^17 has a bin of its own: images of bytes and of 16 bits lose nothing. Any
other lies in one of 1024 bins per octave (see `histogram`), of its sign. Bins are fixed, so the counts of an image
are the same for any tiling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks.block import Block, Floats, row_bands
from diffusion_ops.blocks.histogram import BINS, bin_edges, bin_of
from diffusion_ops.blocks.statistic import Integers, Tally

_LARGEST = 1 << 17
"""Largest whole number with a bin of its own."""

_OTHERS = 1 << 40
"""What is added to the keys of the other bins."""

_COARSE = 64
"""Least number of bins that values must spread over where they are not whole numbers."""


@dataclass(frozen=True)
class Levels:
    """The values of an image with their numbers of cells, rising.

    Attributes
    ----------
    values : float64 ndarray
        Whole numbers, and middles of bins.
    tops : float64 ndarray
        Largest value that is counted as each of them.
    counts : int64 ndarray
    """

    values: Floats
    tops: Floats
    counts: Integers


def count_levels(block: Block, keep: tuple[slice, ...]) -> Tally:
    """Return the counts of the valid values to keep of all channels."""
    tally, inside = Tally(), block.u[(slice(None), *keep)]
    valid = None if block.valid is None else block.valid[keep]
    for channel in inside:
        for band in row_bands(channel.shape):
            values = channel[band].ravel() if valid is None else channel[band][valid[band]]
            tally = tally + _counted(values)
    return tally


def _counted(values: Floats) -> Tally:
    whole = (np.rint(values) == values) & (np.abs(values) <= _LARGEST)
    counts = np.bincount(values[whole].astype(np.int64) + _LARGEST, minlength=1)
    keys = np.flatnonzero(counts)
    others = values[~whole].astype(np.float32)
    bins = np.where(others < 0, -1, 1) * bin_of(np.abs(others)) + BINS
    more = np.bincount(bins, minlength=1)
    filled = np.flatnonzero(more)
    return Tally(
        np.concatenate([keys - _LARGEST, filled - BINS + _OTHERS]),
        np.concatenate([counts[keys], more[filled]]),
    )


def levels_of(tally: Tally) -> Levels:
    """Return the values and counts of a tally, rising.

    Raises
    ------
    ValueError
        Where the values are not whole numbers and too near one another for the bins.
    """
    others = tally.keys > _OTHERS // 2
    bins = tally.keys[others] - _OTHERS
    low, high = bin_edges(np.abs(bins))
    tops = np.concatenate([tally.keys[~others].astype(np.float64), np.where(bins < 0, -low, high)])
    middle = np.sign(bins) * (low + high) / 2
    values = np.concatenate([tally.keys[~others].astype(np.float64), middle])
    order = np.argsort(values, kind="stable")
    found = Levels(
        values[order], tops[order], np.concatenate([tally.counts[~others], tally.counts[others]])[order]
    )
    widest = float(np.max(high - low, initial=0.0))
    spread = float(found.values[-1] - found.values[0]) if len(values) else 0.0
    if 0 < spread < _COARSE * widest:
        raise ValueError(
            f"The values lie between {found.values[0]:g} and {found.values[-1]:g}, too near one another for bins of "
            f"0.1 % of a value: {spread / widest:.0f} bins wide, allowed: {_COARSE} or more. Subtract an offset first."
        )
    return found


def best_cuts(levels: Levels, classes: int) -> list[int]:
    """Return the last indices of all classes but the highest, for which the classes' variances add up to least.

    Of equal partitions the one with the lowest cuts. The within-class variance is least where Σ S² / W is largest, S
    the sum and W the number of a class; the best last cut moves up with the end, so each class more takes one search
    that halves the range again and again (Wu 1991).

    Parameters
    ----------
    levels : Levels
        At least as many as classes.
    classes : int
        At least 2.
    """
    weights = np.concatenate([[0], np.cumsum(levels.counts)]).astype(np.float64)
    mean = np.dot(levels.values, levels.counts) / weights[-1]
    sums = np.concatenate([[0.0], np.cumsum((levels.values - mean) * levels.counts)])
    n = len(levels.values)
    best = np.concatenate([[-np.inf], sums[1:] ** 2 / weights[1:]])
    cuts: list[Integers] = []
    for k in range(2, classes + 1):
        best, cut = _one_class_more(best, sums, weights, k)
        cuts.append(cut)
    found = [n]
    for cut in reversed(cuts):
        found.append(int(cut[found[-1]]))
    return [end - 1 for end in reversed(found[1:])]


def _one_class_more(best: Floats, sums: Floats, weights: Floats, k: int) -> tuple[Floats, Integers]:
    """Return the best sums of the first n levels in k classes, and where the last class begins, from those of k - 1."""
    n = len(best) - 1
    after, cut = np.full(n + 1, -np.inf), np.zeros(n + 1, np.int64)
    ranges = [(k, n, k - 1, n - 1)]
    while ranges:
        first, last, low, high = ranges.pop()
        if first > last:
            continue
        end = (first + last) // 2
        starts = np.arange(low, min(high, end - 1) + 1)
        scores = best[starts] + (sums[end] - sums[starts]) ** 2 / (weights[end] - weights[starts])
        i = int(np.argmax(scores))
        after[end], cut[end] = scores[i], starts[i]
        ranges += [(first, end - 1, low, int(starts[i])), (end + 1, last, int(starts[i]), high)]
    return after, cut
