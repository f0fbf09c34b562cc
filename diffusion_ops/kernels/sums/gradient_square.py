"""Sum |∇u|² of central differences over a block exactly: one pass, and a row of scratch."""

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


@functools.cache
def build_square(masked: bool) -> Callable[..., None]:
    """Compile the sum for blocks with or without a mask."""

    @kernel
    def fill(sums, table, u, valid, grid, span, scales):  # type: ignore[no-untyped-def]
        """Add |∇u|² of the valid cells of the span; `scales` is 1 / (2 h)² along z, y, x."""
        row = np.zeros(SEGMENT)
        bits = row.view(np.uint64)
        steps = (grid[1] * grid[3], grid[3], 1)
        for p in range(span[0, 0], span[0, 1]):
            for m in range(span[1, 0], span[1, 1]):
                for j0 in range(span[2, 0], span[2, 1], SEGMENT):
                    n = min(SEGMENT, span[2, 1] - j0)
                    set_row(row[:n], 0)
                    for j in range(n):
                        index = (p, m, j0 + j)
                        a = (p * grid[1] + m) * grid[3] + j0 + j
                        if masked and not valid[0, a]:
                            continue
                        for axis in range(3):
                            before = a - steps[axis] if index[axis] > 0 else a
                            after = a + steps[axis] if index[axis] + 1 < grid[axis] else a
                            if masked:
                                before = before if valid[0, before] else a
                                after = after if valid[0, after] else a
                            for c in range(u.shape[0]):
                                d = np.float64(u[c, after]) - np.float64(u[c, before])
                                row[j] += d * d * scales[axis]
                    add_doubles(sums, table, bits, n)
        drain(sums, table)

    return fill


def sum_gradient_square(block: Block, keep: tuple[slice, ...]) -> Integers:
    """Return the exact sums of |∇u|² (all channels together) over the valid cells to keep."""
    sums, table = empty_sums(np.dtype(np.float64))
    scales: Any = np.array([0.0] * (3 - len(block.spatial)) + [0.25 / h**2 for h in block.spacing])
    fill = build_square(block.valid_storage is not None)
    fill(sums, table, block.storage, walls_of(block), block.grid, span_of(block, keep), scales)
    return sums
