"""Sum the functional that Perona-Malik diffusion descends over a block, exactly."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.exact_sum import SEGMENT, add_doubles, drain, empty_sums
from diffusion_ops.blocks.statistic import Integers
from diffusion_ops.kernels.conductance import exp_negative
from diffusion_ops.kernels.lanes import inlined, kernel
from diffusion_ops.kernels.logarithm import log64
from diffusion_ops.kernels.sums.measure import span_of, walls_of
from diffusion_ops.kernels.sums.rows import set_row

POTENTIALS: tuple[str, ...] = ("exponential", "rational", "charbonnier", "tukey")
"""Conductances whose integral is known; the position is the number that the kernel knows it by."""


@inlined
def _potential(kind, q):  # type: ignore[no-untyped-def]
    """Return ∫ g from 0 to q = (s / contrast)²."""
    if kind == 0:
        return 1.0 - exp_negative(q)
    if kind == 1:
        return log64(1.0 + q)
    if kind == 2:
        return 2.0 * (math.sqrt(1.0 + q) - 1.0)
    rest = max(1.0 - q * 0.2, 0.0)
    return (1.0 - rest * rest * rest) * (5.0 / 3.0)


@functools.cache
def _build_fill(kind: int, masked: bool) -> Callable[..., None]:
    @kernel
    def fill(sums, table, u, valid, grid, span, scales, weights):  # type: ignore[no-untyped-def]
        """Add Σ_axes weight Ψ(|d|² scale) of every cell of the span; d is the float64 difference to the next cell."""
        row, squares = np.zeros(SEGMENT), np.zeros(SEGMENT)
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
                        b = a + steps[axis]
                        set_row(squares[:length], 0)
                        for c in range(u.shape[0]):
                            for j in range(n):
                                d = np.float64(u[c, b + j]) - np.float64(u[c, a + j])
                                squares[j] += d * d
                        for j in range(n):
                            open_face = (valid[0, a + j] & valid[0, b + j]) if masked else True
                            q = squares[j] * scales[axis] if open_face else 0.0
                            row[j] += _potential(kind, q) * weights[axis]
                    add_doubles(sums, table, bits, length)
        drain(sums, table)

    return fill


def sum_potential(block: Block, keep: tuple[slice, ...], conductance: str, contrast: float) -> Integers:
    """Return the exact sums over the cells to keep of Σ_axes contrast² Ψ(|∂u|² / contrast²)."""
    sums, table = empty_sums(np.dtype(np.float64))
    lengths = [0.0] * (3 - len(block.spatial)) + list(block.spacing)
    scales = np.array([1 / (contrast * h) ** 2 if h else 0.0 for h in lengths])
    weights = np.array([contrast**2 if h else 0.0 for h in lengths])
    fill = _build_fill(POTENTIALS.index(conductance), block.valid_storage is not None)
    fill(sums, table, block.storage, walls_of(block), block.grid, span_of(block, keep), scales, weights)
    return sums
