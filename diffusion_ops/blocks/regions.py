"""Measure labelled regions over an image of any size: cells, centroid, box and means, in integers until the end.

A tile contributes, for every label in it, the number of its cells, the sums and the ends of their indices, and the sums
of other channels' values without rounding. So the table of an image is the same however it is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block, row_bands
from diffusion_ops.blocks.statistic import Integers, Reduction, Tally

_LABELS, _MEASURES = 1 << 31, 1 << 20
FRAMES = 1 << 12
"""Largest number of frames: a key has a frame, a label of 31 bits and a measure of 20 bits."""

_CELLS, _AXES, _VALID, _VALUES = 0, 1, 8, 1 << 11
"""Measures: number of cells; sum of the index along an axis; from 8 on and from 2^11 on those of channels."""

_CHANNEL, _LOW = 1 << 10, -1100
CHANNELS = (_MEASURES - _VALUES) // _CHANNEL
"""Largest number of channels whose means are taken."""

_PIECE, _BIN = 27, 8
"""Bits of a piece of a mantissa, and powers of two that share a sum: 2^28 cells of a region do not overflow it."""

_BAND = 1 << 12
"""Regions whose rows are made at a time."""

MOST_CELLS = 1 << 28
"""Largest number of cells of a region whose sums are exact."""


@dataclass(frozen=True)
class RegionSums(Reduction):
    """Numbers of cells, sums of indices, and sums of values, per frame and label.

    The first channel of a block holds labels, 0 for none; those after it values, of which NaN and infinity do not
    count.
    """

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes itself."""
        return (0,) * len(spacing)

    def extra_arrays(self, ndim: int, channels: int) -> float:
        """Return labels, their order, an index and a value with its pieces, all of 8 bytes."""
        return 20.0

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the sums."""
        inside, regions, names = _regions(block, keep)
        if not len(regions):
            return Tally()
        sums = {_CELLS: (names, np.bincount(regions))}
        for axis, index in enumerate(np.nonzero(inside)):
            origin = block.origin[axis] + keep[axis].indices(block.spatial[axis])[0]
            sums[_AXES + axis] = (names, _sums(regions, len(names), index + origin))
        for channel, values in enumerate(block.u[(slice(1, None), *keep)]):
            sums |= _value_sums(channel, values[inside].astype(np.float64), regions, names)
        return _tally(block.frame, sums)


@dataclass(frozen=True)
class RegionEnds(Reduction):
    """Smallest and largest index along each axis, per frame and label; the largest as negative numbers."""

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes itself."""
        return (0,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the ends."""
        inside, regions, names = _regions(block, keep)
        if not len(regions):
            return Tally()
        ends = {}
        for axis, index in enumerate(np.nonzero(inside)):
            place = index + block.origin[axis] + keep[axis].indices(block.spatial[axis])[0]
            for side, sign in enumerate((1, -1)):
                least = np.full(len(names), np.iinfo(np.int64).max)
                np.minimum.at(least, regions, sign * place)
                ends[2 * axis + side] = (names, least)
        return _tally(block.frame, ends)

    def merge(self, first: Tally, second: Tally) -> Tally:
        """Return the smaller of the numbers under a key."""
        return first.merged(second, np.minimum)


def _regions(block: Block, keep: tuple[slice, ...]) -> tuple[NDArray[np.bool_], Integers, Integers]:
    """Return where there is a region, the number of the region of each such cell, and the labels of all."""
    labels = block.u[0][keep]
    inside = labels > 0
    if block.valid is not None:
        inside &= block.valid[keep]
    names, regions = np.unique(labels[inside], return_inverse=True)
    if len(names) and names[-1] >= _LABELS:
        raise ValueError(
            f"The label {names[-1]:,.0f} is too large for a table. Allowed: up to {_LABELS - 1:,}."
        )
    if len(broken := names[names != np.rint(names)]):
        raise ValueError(
            f"The label {broken[0]:g} is no whole number. Give labels that are, 0 where there is none."
        )
    return inside, regions, names.astype(np.int64)


def _sums(regions: Integers, count: int, values: Integers) -> Integers:
    total = np.zeros(count, np.int64)
    np.add.at(total, regions, values)
    return total


def _value_sums(
    channel: int, values: NDArray[np.float64], regions: Integers, names: Integers
) -> dict[int, tuple[Integers, Integers]]:
    """Return the sums of a channel: a value is an integer of 53 bits, in two pieces, times a power of two."""
    valid = np.isfinite(values)
    values, regions = values[valid], regions[valid]
    found = {_VALID + channel: (names, np.bincount(regions, minlength=len(names)))}
    mantissas, powers = np.frexp(values)
    whole, powers = np.ldexp(mantissas, 53).astype(np.int64), powers.astype(np.int64) - 53 - _LOW
    for piece, part in enumerate((whole & ((1 << _PIECE) - 1), whole >> _PIECE)):
        shifted = part << (powers % _BIN)
        for number in np.unique(powers[part != 0] // _BIN):
            some = (powers // _BIN == number) & (part != 0)
            key = _VALUES + channel * _CHANNEL + 2 * int(number) + piece
            found[key] = (names, _sums(regions[some], len(names), shifted[some]))
    return found


def _tally(frame: int, sums: dict[int, tuple[Integers, Integers]]) -> Tally:
    keys = [(frame * _LABELS + names) * _MEASURES + measure for measure, (names, _) in sums.items()]
    every, counts = np.concatenate(keys), np.concatenate([counts for _, counts in sums.values()])
    order = np.argsort(every)
    return Tally(every[order], counts[order])


def region_table(sums: Tally, ends: Tally, ndim: int, channels: int) -> Integers:
    """Return a row for each frame and label in order: frame, label, cells, sums of indices, boxes, means.

    A box is the first index and the end of each axis in turn, a mean the bits of a float64: exact until it is rounded
    once, NaN where no value counted.

    Raises
    ------
    ValueError
        For a region of too many cells.
    """
    every = sums.keys // _MEASURES
    names = every[np.diff(every, prepend=np.int64(-1)) != 0]
    del every
    table = np.zeros((len(names), 3 + 3 * ndim + channels), np.int64)
    for band in row_bands(names.shape, _BAND):
        some = names[band]
        _fill_rows(table[band], some, _of_regions(sums, some), _of_regions(ends, some), ndim, channels)
    return table


def _of_regions(tally: Tally, names: Integers) -> Tally:
    """Return the part of a tally that is of some regions in order."""
    start = np.searchsorted(tally.keys, names[0] * _MEASURES)
    stop = np.searchsorted(tally.keys, names[-1] * _MEASURES + _MEASURES - 1, side="right")
    return Tally(tally.keys[start:stop], tally.counts[start:stop])


def _fill_rows(table: Integers, names: Integers, sums: Tally, ends: Tally, ndim: int, channels: int) -> None:
    """Fill the rows of some regions."""
    table[:, 0], table[:, 1] = names // _LABELS, names % _LABELS
    for measure in range(1 + ndim):
        some = sums.keys % _MEASURES == measure
        table[np.searchsorted(names, sums.keys[some] // _MEASURES), 2 + measure] = sums.counts[some]
    if table[:, 2].max() > MOST_CELLS:
        raise ValueError(
            f"A region of {table[:, 2].max():,} cells is too large for exact means. Allowed: up to {MOST_CELLS:,}."
        )
    for measure in range(2 * ndim):
        some = ends.keys % _MEASURES == measure
        sign, more = (-1, 1) if measure % 2 else (1, 0)
        rows = np.searchsorted(names, ends.keys[some] // _MEASURES)
        table[rows, 3 + ndim + measure] = sign * ends.counts[some] + more
    for channel in range(channels):
        table[:, 3 + 3 * ndim + channel] = _means(sums, names, channel).view(np.int64)


def _means(sums: Tally, names: Integers, channel: int) -> NDArray[np.float64]:
    """Return the means of a channel; the sums of values are integers of Python, in units of the smallest power."""
    measures, first = sums.keys % _MEASURES, _VALUES + channel * _CHANNEL
    inside = (measures >= first) & (measures < first + _CHANNEL)
    numbers, pieces = np.divmod(measures[inside] - first, 2)
    powers = numbers * _BIN + pieces * _PIECE + _LOW
    lowest = int(powers.min(initial=0))
    totals = [0] * len(names)
    rows = np.searchsorted(names, sums.keys[inside] // _MEASURES)
    parts = (rows.tolist(), (powers - lowest).tolist(), sums.counts[inside].tolist())
    for row, shift, count in zip(*parts, strict=True):
        totals[row] += count << shift
    means = np.full(len(names), np.nan)
    valid = measures == _VALID + channel
    rows = np.searchsorted(names, sums.keys[valid] // _MEASURES)
    for row, count in zip(rows.tolist(), sums.counts[valid].tolist(), strict=True):
        if count:
            # Of integers it is rounded once, to the nearest.
            means[row] = totals[row] / (count << -lowest)
    return means
