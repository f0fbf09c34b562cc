"""Sum floats without rounding, as integers per power of two, so that order and tiling cannot matter.

A float is an integer mantissa times a power of two. The mantissa is cut into slices of 12 bits, and the
slices are added as integers, one sum per power of two. Sums of 12-bit slices stay inside 64 bits up to 2^51
values.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Integers, Tally, no_valid_cell

NUMBER = -(1 << 20)
"""Key of the number of values; any other key k stands for the power 2**k."""

_NOT_FINITE = NUMBER - 1
_SLICE = 12
# Neighbours often share an exponent: four alternating tables hide the latency between additions to one.
_TABLES = 4

SEGMENT = 4096
"""Largest number of values added in one call; they stay in the first-level cache."""

# Two slices share one 64-bit addition, 32 bits apart; this many of them do not overlap.
_UNDRAINED, _WORD = 1 << 18, 1 << 32


def _layout(dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """Return the mantissa's bits, the largest exponent and the number of slices of a float type."""
    info = np.finfo(dtype)
    return info.nmant, (1 << info.iexp) - 1, -(-(info.nmant + 1) // _SLICE)


def empty_sums(dtype: np.dtype[Any]) -> tuple[Integers, Integers]:
    """Return sums per power of two and tables for `drain`, all zero."""
    _, top, slices = _layout(dtype)
    sums = np.zeros(top + 1 + (slices - 1) * _SLICE, np.int64)
    # The first row counts the values in the tables.
    return sums, np.zeros((top + 2, (slices + 1) // 2 * _TABLES), np.int64)


@njit(nogil=True, cache=True, error_model="numpy")
def drain(sums, table):  # type: ignore[no-untyped-def]
    """Move the content of the tables into the sums; sums[0] counts values that are not finite."""
    top, pairs = table.shape[0] - 2, table.shape[1] // _TABLES
    slices = (sums.shape[0] - top - 1) // _SLICE + 1
    for e in range(top + 1):
        # Subnormal numbers have the exponent of the smallest normal ones.
        power = max(e, 1)
        for i in range(pairs * _TABLES):
            total, pair = table[e + 1, i], i % pairs
            if total == 0:
                continue
            first = ((total + _WORD // 2) & (_WORD - 1)) - _WORD // 2
            sums[power + 2 * _SLICE * pair] += first
            if 2 * pair + 1 < slices:
                sums[power + _SLICE * (2 * pair + 1)] += (total - first) >> 32
            sums[0] += e == top
            table[e + 1, i] = 0
    table[0, 0] = 0


@njit(inline="always")
def _add_row(mantissa, top, pairs, sign, sums, table, bits, n):  # type: ignore[no-untyped-def]
    """Add floats of one layout: the mantissa's bits, the largest exponent, pairs of slices, the sign's bit."""
    hidden, low = 1 << mantissa, (1 << _SLICE) - 1
    if table[0, 0] + n > _UNDRAINED:
        drain(sums, table)
    table[0, 0] += n
    for j in range(n):
        b = np.int64(bits[j])
        e = (b >> mantissa) & top
        m = b & (hidden - 1)
        m = m + hidden if e > 0 else m
        s = -((b >> sign) & 1) if e < top else 0
        for pair in range(pairs):
            x = m >> (2 * _SLICE * pair)
            packed = (x & low) + (((x >> _SLICE) & low) << 32)
            table[e + 1, j % _TABLES * pairs + pair] += (packed ^ s) - s


@njit(nogil=True, cache=True, error_model="numpy")
def add_singles(sums, table, bits, n):  # type: ignore[no-untyped-def]
    """Add the n <= SEGMENT float32 whose bit patterns, uint32, are in `bits`."""
    _add_row(23, 255, 1, 31, sums, table, bits, n)


@njit(nogil=True, cache=True, error_model="numpy")
def add_doubles(sums, table, bits, n):  # type: ignore[no-untyped-def]
    """Add the n <= SEGMENT float64 whose bit patterns, uint64, are in `bits`."""
    _add_row(52, 2047, 3, 63, sums, table, bits, n)


def tally_of(sums: Integers, dtype: np.dtype[Any], number: int) -> Tally:
    """Return the tally of drained sums of `number` values."""
    mantissa, top, _ = _layout(dtype)
    exponents = np.flatnonzero(sums)
    keys = np.where(exponents > 0, exponents - (top >> 1) - mantissa, _NOT_FINITE)
    return Tally(np.array([NUMBER]), np.array([number])) + Tally(keys, sums[exponents])


_ROOM = 1 << 22
"""Number of keys that a sum has to itself where several stand in one tally."""


def side_by_side(tallies: Mapping[int, Tally]) -> Tally:
    """Return one tally of several, each under a number; `apart` takes it apart again."""
    numbers = sorted(tallies)
    keys = [tallies[number].keys + number * _ROOM for number in numbers]
    counts = [tallies[number].counts for number in numbers]
    return Tally(np.concatenate(keys), np.concatenate(counts)) if numbers else Tally()


def apart(tally: Tally) -> dict[int, Tally]:
    """Return the tallies that `side_by_side` has put into one, by their numbers."""
    numbers = (tally.keys + _ROOM // 2) // _ROOM
    return {
        int(n): Tally(tally.keys[numbers == n] - n * _ROOM, tally.counts[numbers == n])
        for n in np.unique(numbers)
    }


def tally_of_values(values: NDArray[np.float64]) -> Tally:
    """Return the tally of an array of float64."""
    sums, table = empty_sums(values.dtype)
    bits = np.ascontiguousarray(values).reshape(-1).view(np.uint64)
    for start in range(0, len(bits), SEGMENT):
        part = bits[start : start + SEGMENT]
        add_doubles(sums, table, part, len(part))
    drain(sums, table)
    return tally_of(sums, values.dtype, len(bits))


def number_of(tally: Tally) -> int:
    """Return the number of summed values."""
    return int(tally.counts[tally.keys == NUMBER].sum())


def total(tally: Tally) -> Fraction:
    """Return the sum without rounding.

    Raises
    ------
    ValueError
        Where one of the values is infinite.
    """
    if (tally.keys == _NOT_FINITE).any():
        raise ValueError(
            "The image holds infinite values, which have no sum. Mask them, or name them in `nodata`."
        )
    powers = tally.keys > NUMBER
    pairs = zip(tally.keys[powers].tolist(), tally.counts[powers].tolist(), strict=True)
    return sum((count * Fraction(2) ** key for key, count in pairs), Fraction(0))


def mean(tally: Tally, what: str) -> float:
    """Return the mean of the summed values, rounded once.

    Raises
    ------
    ValueError
        Where there are no values: the image has no valid cell to take `what` of.
    """
    number = number_of(tally)
    if not number:
        raise no_valid_cell(what)
    return float(total(tally) / number)
