"""Reduce a block to the next level of a pyramid: the same bits for any tiling."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray


def reduce_block(
    block: NDArray[Any], factors: tuple[int, ...], labels: bool = False, nodata: float | None = None
) -> NDArray[Any]:
    """Return the mean (of labels: the commonest value) of every window of `factors` cells.

    Parameters
    ----------
    block : ndarray
        Its first cell must lie at a multiple of `factors` in the image: windows are anchored to the image, so
        that any tiling gives the same bits.
    factors : tuple of int
        Length of a window per axis; the last window of an axis may be shorter.
    labels : bool
        Take the value that occurs most often; the smallest of those that tie.
    nodata : float, optional
        Value of cells that do not count; NaN never counts. A window without valid cells becomes nodata (NaN
        if None).

    Returns
    -------
    ndarray
        Of the block's dtype and shape ceil(n / factor). Integers are rounded to nearest, ties to even, from
        the exact mean; floats are summed in float64, in row-major order of the window. A mean never equals
        nodata: it moves to the next value.

    Examples
    --------
    >>> reduce_block(np.array([[1, 2, 9], [4, 4, 0]], dtype=np.uint8), (2, 2), nodata=0)
    array([[3, 9]], dtype=uint8)
    """
    if block.ndim != len(factors) or min(factors, default=1) < 1:
        raise ValueError(
            f"factors={factors} does not fit a block of shape {block.shape}. Give one length >= 1 per axis."
        )
    if all(f == 1 for f in factors) or block.size == 0:
        return block[tuple(slice(None, None, f) for f in factors)].copy()
    if labels:
        return _mode(block, factors, nodata)
    if block.dtype.kind == "f":
        return _float_mean(block, factors, nodata)
    if block.dtype.kind in "iu":
        return _integer_mean(block, factors, nodata)
    raise ValueError(f"A pyramid of {block.dtype} is not possible. Allowed: integers and floats.")


def reduced_shape(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the next level: partial windows count."""
    return tuple(math.ceil(n / f) for n, f in zip(shape, factors, strict=True))


def _members(block: NDArray[Any], factors: tuple[int, ...]) -> list[NDArray[Any]]:
    """Return one view per position in a window, with that cell of every window; shorter where windows end early."""
    return [
        block[tuple(slice(o, None, f) for o, f in zip(offset, factors, strict=True))]
        for offset in product(*(range(min(f, n)) for f, n in zip(factors, block.shape, strict=True)))
    ]


def _valid(values: NDArray[Any], nodata: float | None) -> Any:
    """Return a mask of the valid values, or True where all are valid."""
    if values.dtype.kind == "f":
        known = ~np.isnan(values)
        plain = nodata is None or math.isnan(nodata)
        return known if plain else known & (values != values.dtype.type(nodata))
    code = _as_integer(values.dtype, nodata)
    return True if code is None else values != values.dtype.type(code)


def _as_integer(dtype: np.dtype[Any], nodata: float | None) -> int | None:
    """Return nodata as a value of an integer dtype, None where no cell can have it."""
    if nodata is None or not float(nodata).is_integer():
        return None
    limits = np.iinfo(dtype)
    return int(nodata) if limits.min <= int(nodata) <= limits.max else None


def _corner(array: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    return array[tuple(slice(0, n) for n in like.shape)]


def _float_mean(block: NDArray[Any], factors: tuple[int, ...], nodata: float | None) -> NDArray[Any]:
    shape = reduced_shape(block.shape, factors)
    total, count = np.zeros(shape), np.zeros(shape, np.int32)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are values like any other
        for values in _members(block, factors):
            valid = _valid(values, nodata)
            part = _corner(total, values)
            np.add(part, values, out=part, where=valid)
            _corner(count, values)[...] += valid
    mean = np.full(shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    result: NDArray[Any] = mean.astype(block.dtype)
    if nodata is None or math.isnan(nodata):
        return result
    code = block.dtype.type(nodata)
    hit = (result == code) & (count > 0)
    if hit.any():
        result[hit] = np.nextafter(code, block.dtype.type(0 if code else 1))
    result[count == 0] = code
    return result


def _integer_mean(block: NDArray[Any], factors: tuple[int, ...], nodata: float | None) -> NDArray[Any]:
    shape = reduced_shape(block.shape, factors)
    wide = block.dtype.itemsize > 4
    # 64-bit values are summed as two halves: their sum need not fit into 64 bits.
    high, low = np.zeros(shape if wide else (), np.int64), np.zeros(shape, np.int64)
    count = np.zeros(shape, np.int64)
    for values in _members(block, factors):
        valid = _valid(values, nodata)
        if wide:
            part = _corner(high, values)
            np.add(part, (values >> 32).astype(np.int64), out=part, where=valid)
            values = (values & 0xFFFFFFFF).astype(np.int64)
        part = _corner(low, values)
        np.add(part, values, out=part, where=valid)
        _corner(count, values)[...] += valid
    empty = count == 0
    count[empty] = 1
    if wide:
        high, rest = np.divmod(high, count)
        low += rest << 32
    return _rounded(high, low, count, empty, block.dtype, _as_integer(block.dtype, nodata))


def _rounded(
    high: NDArray[np.int64],
    low: NDArray[np.int64],
    count: NDArray[np.int64],
    empty: NDArray[np.bool_],
    dtype: np.dtype[Any],
    code: int | None,
) -> NDArray[Any]:
    """Return high 2^32 + low / count to nearest, ties to even; next to nodata where that would be nodata."""
    mean, rest = np.divmod(low, count)
    twice = 2 * rest
    up = (twice > count) | ((twice == count) & (mean & 1 == 1))
    mean += up
    # The halves meet modulo 2^64, which is what the dtype holds.
    result: NDArray[Any] = ((high << 32) + mean if high.ndim else mean).astype(dtype)
    if code is None:
        return result
    hit = (result == dtype.type(code)) & ~empty
    if hit.any():
        above = ~up & (rest > 0) | (rest == 0)
        limits = np.iinfo(dtype)
        upper, lower = dtype.type(min(code + 1, int(limits.max))), dtype.type(max(code - 1, int(limits.min)))
        result[hit] = np.where(above[hit], upper, lower)
    result[empty] = code
    return result


def _mode(block: NDArray[Any], factors: tuple[int, ...], nodata: float | None) -> NDArray[Any]:
    members = _members(block, factors)
    best: NDArray[Any] = members[0].copy()
    most = np.zeros(best.shape, np.int32)
    for values in members:
        count = np.zeros(values.shape, np.int32)
        for others in members:
            common = tuple(slice(0, min(m, n)) for m, n in zip(values.shape, others.shape, strict=True))
            count[common] += values[common] == others[common]
        valid = _valid(values, nodata)
        count *= valid
        top, chosen = _corner(most, values), _corner(best, values)
        better = (count > top) | ((count == top) & (count > 0) & (values < chosen))
        chosen[better] = values[better]
        top[better] = count[better]
    return best
