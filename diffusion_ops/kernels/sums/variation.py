"""Count the coefficient of variation of every window that lies inside the image and is valid."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.histogram import count_row, empty_counts
from diffusion_ops.blocks.statistic import Integers
from diffusion_ops.kernels.lanes import copied, kernel
from diffusion_ops.kernels.sums.measure import span_of, walls_of
from diffusion_ops.kernels.sums.rows import copy_row, narrow_row, set_row

_LEAST = 1e-12
"""A variance below this part of the squared mean is rounding: a constant area."""


@copied
def _add(total, row):  # type: ignore[no-untyped-def]
    for j in range(total.shape[0]):
        total[j] += row[j]


@copied
def _add_powers(sums, squares, row):  # type: ignore[no-untyped-def]
    for j in range(sums.shape[0]):
        value = np.float64(row[j])
        sums[j] += value
        squares[j] += value * value


@functools.cache
def _build_count(masked: bool) -> Callable[..., None]:
    least = _LEAST

    @kernel
    def fill(counts, u, valid, grid, span, radius, depth):  # type: ignore[no-untyped-def]
        """Count the windows whose middle is in the span, `radius` cells around it and `depth` planes."""
        planes, rows, columns, pitch = grid
        j0, j1 = max(span[2, 0] - radius, 0), min(span[2, 1] + radius, columns)
        n, side = j1 - j0 - 2 * radius, 2 * radius + 1
        if n <= 0:
            return
        sums, squares, ok = (
            np.zeros(n + 2 * radius),
            np.zeros(n + 2 * radius),
            np.ones(n + 2 * radius, np.bool_),
        )
        total, power = np.zeros(n), np.zeros(n)
        whole, ratio = np.ones(n, np.bool_), np.zeros(n, np.float32)
        bits, cells = ratio.view(np.int32), float(side * side * (2 * depth + 1))
        for p in range(max(span[0, 0], depth), min(span[0, 1], planes - depth)):
            for m in range(max(span[1, 0], radius), min(span[1, 1], rows - radius)):
                if masked:
                    set_row(ok, True)
                    for plane in range(p - depth, p + depth + 1):
                        for row in range(m - radius, m + radius + 1):
                            a = (plane * rows + row) * pitch + j0
                            narrow_row(ok, valid[0, a : a + ok.shape[0]])
                    copy_row(whole, ok)
                    for k in range(1, side):
                        narrow_row(whole, ok[k:])
                for c in range(u.shape[0]):
                    set_row(sums, 0)
                    set_row(squares, 0)
                    set_row(total, 0)
                    set_row(power, 0)
                    for plane in range(p - depth, p + depth + 1):
                        for row in range(m - radius, m + radius + 1):
                            a = (plane * rows + row) * pitch + j0
                            _add_powers(sums, squares, u[c, a : a + sums.shape[0]])
                    for k in range(side):
                        _add(total, sums[k : k + n])
                        _add(power, squares[k : k + n])
                    kept = 0
                    for j in range(n):
                        mean = total[j] / cells
                        variance = (power[j] - mean * total[j]) / (cells - 1)
                        ratio[kept] = np.float32(np.sqrt(max(variance, 0.0)) / mean)
                        kept += whole[j] & (mean > 0) & (variance > least * mean * mean)
                    count_row(counts, bits, kept)

    return fill


def count_variation(block: Block, keep: tuple[slice, ...], radius: int) -> Integers:
    """Return the histogram of standard deviation / mean of the windows around the cells to keep.

    A window has 2 radius + 1 cells along every axis. Those that reach over a wall or an edge, have a mean that
    is not positive or are constant do not count.
    """
    counts = empty_counts()
    fill = _build_count(block.valid_storage is not None)
    depth = radius if len(block.spatial) == 3 else 0
    fill(counts, block.storage, walls_of(block), block.grid, span_of(block, keep), radius, depth)
    return counts
