"""Read a block row by row into sums and histograms: one pass, and a few rows of scratch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block, Bools
from diffusion_ops.blocks.exact_sum import SEGMENT, add_doubles, add_singles, drain, empty_sums
from diffusion_ops.blocks.histogram import count_row, empty_counts
from diffusion_ops.blocks.statistic import Integers
from diffusion_ops.kernels.lanes import begin, copied, element, kernel, shift
from diffusion_ops.kernels.sums.rows import copy_row, narrow_row, set_row

_A, _B = (1 - math.sqrt(3)) / (4 * math.sqrt(2)), (-1 - math.sqrt(3)) / (4 * math.sqrt(2))
"""The db2 high-pass filter is (1, -2, 1) after these two taps (Daubechies 1992)."""


def span_of(block: Block, keep: tuple[slice, ...]) -> Any:
    """Return first and last + 1 of the planes, rows and columns to keep, of shape (3, 2)."""
    ends = [slice_.indices(size)[:2] for slice_, size in zip(keep, block.spatial, strict=True)]
    return np.array([(0, 1)] * (3 - len(ends)) + ends, np.int64)


def valid_cells(block: Block, keep: tuple[slice, ...]) -> int:
    """Return how many cells to keep are valid."""
    if block.valid is None:
        return int(np.prod([len(range(*s.indices(n))) for s, n in zip(keep, block.spatial, strict=True)]))
    return int(np.count_nonzero(block.valid[keep]))


def walls_of(block: Block) -> Bools:
    """Return the mask for a kernel; where there is none, something of its type that is not read."""
    return np.ones((1, 1), np.bool_) if block.valid_storage is None else block.valid_storage


@functools.cache
def _build_sum(double: bool, masked: bool) -> Callable[..., None]:
    @kernel
    def fill(sums, table, u, valid, grid, span):  # type: ignore[no-untyped-def]
        """Add the valid cells of the span of every channel."""
        row = np.zeros(SEGMENT, u.dtype)
        bits = row.view(np.uint64) if double else row.view(np.uint32)
        for c in range(u.shape[0]):
            for p in range(span[0, 0], span[0, 1]):
                for m in range(span[1, 0], span[1, 1]):
                    for j0 in range(span[2, 0], span[2, 1], SEGMENT):
                        a, n = (p * grid[1] + m) * grid[3] + j0, min(SEGMENT, span[2, 1] - j0)
                        for j in range(n):
                            row[j] = u[c, a + j]
                        if masked:
                            for j in range(n):
                                row[j] = row[j] if valid[0, a + j] else u.dtype.type(0)
                        if double:
                            add_doubles(sums, table, bits, n)
                        else:
                            add_singles(sums, table, bits, n)
        drain(sums, table)

    return fill


def sum_cells(block: Block, keep: tuple[slice, ...]) -> Integers:
    """Return the exact sums over the valid cells to keep of all channels, for `exact_sum.tally_of`."""
    dtype = block.storage.dtype
    sums, table = empty_sums(dtype)
    fill = _build_sum(dtype == np.float64, block.valid_storage is not None)
    fill(sums, table, block.storage, walls_of(block), block.grid, span_of(block, keep))
    return sums


@functools.cache
def _build_energy(masked: bool) -> Callable[..., None]:
    @kernel
    def fill(sums, table, u, valid, grid, span, scales):  # type: ignore[no-untyped-def]
        """Add |∇u|² of every cell of the span, by float64 differences to the next cell of each axis."""
        row = np.zeros(SEGMENT)
        bits = row.view(np.uint64)
        steps = (grid[1] * grid[3], grid[3], 1)
        for p in range(span[0, 0], span[0, 1]):
            for m in range(span[1, 0], span[1, 1]):
                for j0 in range(span[2, 0], span[2, 1], SEGMENT):
                    a, length = (p * grid[1] + m) * grid[3] + j0, min(SEGMENT, span[2, 1] - j0)
                    set_row(row[:length], 0)
                    for axis in range(3):
                        if (p, m, j0)[axis] + 1 >= grid[axis] and axis < 2:
                            continue
                        n = min(length, grid[2] - 1 - j0) if axis == 2 else length
                        b, scale = a + steps[axis], scales[axis]
                        for c in range(u.shape[0]):
                            for j in range(n):
                                d = np.float64(u[c, b + j]) - np.float64(u[c, a + j])
                                if masked:
                                    d = d if valid[0, a + j] & valid[0, b + j] else np.float64(0)
                                row[j] += d * d * scale
                    add_doubles(sums, table, bits, length)
        drain(sums, table)

    return fill


def sum_energy(block: Block, keep: tuple[slice, ...]) -> Integers:
    """Return the exact sums of |∇u|² at the cells to keep; the differences themselves are in float64."""
    sums, table = empty_sums(np.dtype(np.float64))
    scales = np.array([0.0] * (3 - len(block.spatial)) + [1 / h**2 for h in block.spacing])
    fill = _build_energy(block.valid_storage is not None)
    fill(sums, table, block.storage, walls_of(block), block.grid, span_of(block, keep), scales)
    return sums


@copied
def _add_squares(masked, squares, n, lower, x, upper, lower_valid, upper_valid, scale):  # type: ignore[no-untyped-def]
    """Add the scaled squares of n central differences; a neighbour beyond a wall repeats the cell itself."""
    for j in range(n):
        before, after, here = element(lower, j), element(upper, j), element(x, j)
        if masked:
            before = before if element(lower_valid, j) else here
            after = after if element(upper_valid, j) else here
        d = after - before
        squares[j] += d * d * scale


@functools.cache
def _build_gradient(masked: bool) -> Callable[..., None]:
    @kernel
    def fill(counts, u, valid, grid, span, scales, row, line, line_valid, magnitude, bits):  # type: ignore[no-untyped-def]
        """Count |∇u| at the valid cells of the span; `scales` is 1 / (2 h)² along z, y, x.

        Arrays made here, and slices of arrays, would take half of the time that this compiles for.

        Parameters
        ----------
        valid, line_valid : uint8
        row, line, line_valid, magnitude : scratch of the span's part of a row, lines with a cell more at both ends
        bits : the bytes of `magnitude` as integers
        """
        rows, columns, pitch = grid[1], grid[2], grid[3]
        j0, n = span[2, 0], span[2, 1] - span[2, 0]
        left, right = (1 if j0 > 0 else 0), (1 if j0 + n < columns else 0)
        state, walls, ring, ring_walls = begin(u), begin(valid), begin(line), begin(line_valid)
        for p in range(span[0, 0], span[0, 1]):
            for m in range(span[1, 0], span[1, 1]):
                a = (p * rows + m) * pitch + j0
                set_row(row, 0)
                if masked:
                    line_valid[0], line_valid[n + 1] = (
                        element(walls, a - left),
                        element(walls, a + n - 1 + right),
                    )
                    for j in range(n):
                        line_valid[j + 1] = element(walls, a + j)
                for c in range(u.shape[0]):
                    x = shift(state, c * u.shape[1] + a)
                    for axis in range(2):
                        step = pitch if axis else rows * pitch
                        down = -step if (p, m)[axis] > 0 else 0
                        up = step if (p, m)[axis] + 1 < grid[axis] else 0
                        if up > down:
                            low, high = shift(x, down), shift(x, up)
                            w, v = shift(walls, a + down), shift(walls, a + up)
                            _add_squares(masked, row, n, low, x, high, w, v, scales[axis])
                    # The row with one more cell at both ends, which is the end itself where the image ends.
                    line[0], line[n + 1] = element(x, -left), element(x, n - 1 + right)
                    for j in range(n):
                        line[j + 1] = element(x, j)
                    high, v = shift(ring, 2), shift(ring_walls, 2)
                    _add_squares(masked, row, n, ring, x, high, ring_walls, v, scales[2])
                for j in range(n):
                    magnitude[j] = np.float32(np.sqrt(row[j]))
                count_row(counts, bits, _compress(masked, magnitude, line_valid, 1, n))

    return fill


@copied
def _compress(masked, row, valid, first, n):  # type: ignore[no-untyped-def]
    """Move the valid values of a row to its front and return how many there are; their mask begins at `first`."""
    if not masked:
        return n
    k = 0
    for j in range(n):
        row[k] = row[j]
        k += valid[first + j]
    return k


def count_gradient(block: Block, keep: tuple[slice, ...]) -> Integers:
    """Return the histogram of |∇u| (all channels in one magnitude) over the valid cells to keep."""
    counts, u, span = empty_counts(), block.storage, span_of(block, keep)
    scales = np.array([0.0] * (3 - len(block.spatial)) + [0.25 / h**2 for h in block.spacing], u.dtype)
    n = max(0, span[2, 1] - span[2, 0])
    row, line, line_valid = np.zeros(n, u.dtype), np.zeros(n + 2, u.dtype), np.ones(n + 2, np.uint8)
    magnitude = np.zeros(n, np.float32)
    scratch = row, line, line_valid, magnitude, magnitude.view(np.int32)
    fill = _build_gradient(block.valid_storage is not None)
    fill(counts, u, walls_of(block).view(np.uint8), block.grid, span, scales, *scratch)
    return counts


@copied
def _detail(out, r0, r1, r2, r3):  # type: ignore[no-untyped-def]
    """Fill out with the db2 high-pass of four rows; second differences first: a flat area gives exactly 0."""
    a, b, two = out.dtype.type(_A), out.dtype.type(_B), out.dtype.type(2)
    for j in range(out.shape[0]):
        out[j] = a * (r0[j] - two * r1[j] + r2[j]) + b * (r1[j] - two * r2[j] + r3[j])


@functools.cache
def _build_noise(volume: bool, masked: bool) -> Callable[..., None]:
    @kernel
    def fill(counts, u, valid, grid, span):  # type: ignore[no-untyped-def]
        """Count |HH| at the cells of the span whose patch (1 cell before to 2 after, per axis) is valid."""
        rows, columns, pitch = grid[1], grid[2], grid[3]
        j0, j1 = max(span[2, 0] - 1, 0), min(span[2, 1] + 2, columns)
        n = j1 - j0
        if n < 4:
            return
        deep, tall, wide = np.zeros((4, n), u.dtype), np.zeros(n, u.dtype), np.zeros(n - 3, u.dtype)
        magnitude, ok = np.zeros(n - 3, np.float32), np.ones(n, np.bool_)
        bits = magnitude.view(np.int32)
        planes = range(max(span[0, 0], 1), min(span[0, 1], grid[0] - 2)) if volume else range(1)
        for p in planes:
            for m in range(max(span[1, 0], 1), min(span[1, 1], rows - 2)):
                first = ((p - 1 if volume else p) * rows + m - 1) * pitch + j0
                if masked:
                    set_row(ok, True)
                    for plane in range(4 if volume else 1):
                        for row in range(4):
                            a = first + (plane * rows + row) * pitch
                            narrow_row(ok, valid[0, a : a + n])
                    for j in range(n - 3):
                        ok[j] = ok[j] & ok[j + 1] & ok[j + 2] & ok[j + 3]
                for c in range(u.shape[0]):
                    for row in range(4):
                        a, step = first + row * pitch, rows * pitch
                        if volume:
                            b, d, e = a + step, a + 2 * step, a + 3 * step
                            x = u[c]
                            _detail(deep[row], x[a : a + n], x[b : b + n], x[d : d + n], x[e : e + n])
                        else:
                            copy_row(deep[row], u[c, a : a + n])
                    _detail(tall, deep[0], deep[1], deep[2], deep[3])
                    _detail(wide, tall, tall[1:], tall[2:], tall[3:])
                    for j in range(n - 3):
                        magnitude[j] = np.float32(abs(wide[j]))
                    count_row(counts, bits, _compress(masked, magnitude, ok, 0, n - 3))

    return fill


def count_noise(block: Block, keep: tuple[slice, ...]) -> Integers:
    """Return the histogram of the diagonal db2 detail |HH| (|HHH| in 3-D) of all channels."""
    counts = empty_counts()
    fill = _build_noise(len(block.spatial) == 3, block.valid_storage is not None)
    fill(counts, block.storage, walls_of(block), block.grid, span_of(block, keep))
    return counts
