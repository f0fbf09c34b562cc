"""Standard deviation of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, no_valid_cell
from diffusion_ops.kernels.sums.measure import sum_cells, valid_cells

_SQUARES = 1 << 20
"""Added to the keys of the sum of squares, so that one tally holds both sums."""


@STATISTICS.register("standard-deviation")
@dataclass(frozen=True)
class StandardDeviation(Statistic):
    """Root of the mean square of the differences to the mean, over all valid cells of all channels, in image units.

    Both sums are exact; squares of float64 are rounded once each.
    """

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own value."""
        return (0,) * len(spacing)

    def extra_arrays(self, ndim: int, channels: int) -> float:
        """Return the squares, in float64 where the image is float32."""
        return 2.0 * channels

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sums of the values and of their squares, and the number of values."""
        number = valid_cells(block, keep) * block.storage.shape[0]
        values = exact_sum.tally_of(sum_cells(block, keep), block.storage.dtype, number)
        squares = Block(block.storage.astype(np.float64), block.spatial, block.spacing, block.valid_storage)
        squares.storage *= squares.storage
        sums = exact_sum.tally_of(sum_cells(squares, keep), squares.storage.dtype, 0)
        return values + Tally(sums.keys + 2 * _SQUARES, sums.counts)

    def value(self, tally: Tally) -> float:
        """Return the deviation, rounded once before the root."""
        number = exact_sum.number_of(tally)
        if not number:
            raise no_valid_cell("a standard deviation")
        first = tally.keys < _SQUARES // 2
        mean = exact_sum.total(_part(tally, first, 0)) / number
        square = exact_sum.total(_part(tally, ~first, 2 * _SQUARES)) / number
        return math.sqrt(max(0.0, float(square - mean * mean)))


def _part(tally: Tally, chosen: NDArray[np.bool_], above: int) -> Tally:
    return Tally(tally.keys[chosen] - above, tally.counts[chosen])
