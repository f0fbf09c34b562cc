"""Sum the functional of total variation denoising, or its duality gap, over a block, exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.exact_sum import SEGMENT, add_doubles, drain, empty_sums
from diffusion_ops.blocks.statistic import Integers
from diffusion_ops.kernels.lanes import kernel
from diffusion_ops.kernels.sums.measure import span_of, walls_of
from diffusion_ops.kernels.sums.rows import set_row

_DOUBLE: np.dtype[Any] = np.dtype(np.float64)


@functools.cache
def _build_fill(masked: bool, gap: bool) -> Callable[..., None]:
    @kernel
    def fill(sums, table, u, carried, valid, grid, span, scales, weight, half):  # type: ignore[no-untyped-def]
        """Add |∇u| + half (u - f)², or with a gap |∇u| - ∇u·p + half (u - f - weight div p)², of every cell.

        All in float64 by differences to the next cell of each axis; `carried` is as `total_variation.start`
        makes it, `scales` is 1 / h along z, y, x.
        """
        row, squares, flow = np.zeros(SEGMENT), np.zeros(SEGMENT), np.zeros(SEGMENT)
        bits, channels = row.view(np.uint64), u.shape[0]
        steps = (grid[1] * grid[3], grid[3], 1)
        for p in range(span[0, 0], span[0, 1]):
            for m in range(span[1, 0], span[1, 1]):
                for j0 in range(span[2, 0], span[2, 1], SEGMENT):
                    a, length = (p * grid[1] + m) * grid[3] + j0, min(SEGMENT, span[2, 1] - j0)
                    set_row(row[:length], 0)
                    set_row(squares[:length], 0)
                    for c in range(channels):
                        set_row(flow[:length], 0)
                        for axis in range(3):
                            index, scale = (p, m, j0)[axis], scales[axis]
                            n = length if axis < 2 else min(length, grid[2] - 1 - j0)
                            if axis < 2 and index + 1 >= grid[axis]:
                                n = 0
                            b, dual = a + steps[axis], carried[(4 - axis) * channels + c] if gap else u[c]
                            for j in range(n):
                                d = (np.float64(u[c, b + j]) - np.float64(u[c, a + j])) * scale
                                if masked:
                                    d = d if valid[0, a + j] & valid[0, b + j] else np.float64(0)
                                squares[j] += d * d
                                if gap:
                                    row[j] -= d * dual[a + j]
                                    flow[j] += dual[a + j] * scale
                            if gap and (axis == 2 or index > 0):
                                for j in range(1 if axis == 2 and j0 == 0 else 0, length):
                                    flow[j] -= dual[a - steps[axis] + j] * scale
                        for j in range(length):
                            d = np.float64(u[c, a + j]) - np.float64(carried[c, a + j]) - weight * flow[j]
                            row[j] += d * d * half
                    for j in range(length):
                        row[j] += np.sqrt(squares[j])
                        if masked:
                            row[j] = row[j] if valid[0, a + j] else np.float64(0)
                    add_doubles(sums, table, bits, length)
        drain(sums, table)

    return fill


def sum_rof(block: Block, keep: tuple[slice, ...], weight: float | None, gap: bool) -> Integers:
    """Return the exact sums over the cells to keep of the functional (without data for no weight), or of the gap.

    A block that carries nothing is at its start, where the state is the data and the dual is 0.
    """
    sums, table = empty_sums(_DOUBLE)
    scales = np.array([0.0] * (3 - len(block.spatial)) + [1 / h for h in block.spacing])
    carried = block.storage if block.carried is None else block.carried
    half = 0.0 if weight is None else 1 / (2 * weight)
    fill = _build_fill(block.valid_storage is not None, gap and block.carried is not None)
    walls, span = walls_of(block), span_of(block, keep)
    fill(sums, table, block.storage, carried, walls, block.grid, span, scales, weight or 0.0, half)
    return sums
