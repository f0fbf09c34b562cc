"""Variance of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument
from diffusion_ops.kernels.sums.measure import sum_cells, valid_cells


@STATISTICS.register("variance")
@dataclass(frozen=True)
class Variance(Statistic):
    """Mean squared distance from the mean, of all valid cells of all channels, in squared image units.

    Values are squared in float64; the sums of values and of squares are exact. Where there is a guide, it is the
    guide's variance.

    Parameters
    ----------
    multiple : float
        Factor on it; 4 times the variance of an image of two values in equal areas is their squared difference.
    """

    multiple: float = 1.0

    def __post_init__(self) -> None:
        check_argument("variance", "multiple", self.multiple, above=0)

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own value."""
        return (0,) * len(spacing)

    def extra_arrays(self, ndim: int, channels: int) -> float:
        """Return the squares of a channel in float64."""
        return 2.0

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sums of values and of squares, each with the number of values."""
        values = squares = Tally()
        for channel in block.structure:
            one = replace(block, storage=channel[None])
            number = valid_cells(one, keep)
            values = values + exact_sum.tally_of(sum_cells(one, keep), one.storage.dtype, number)
            square = replace(one, storage=np.square(one.storage, dtype=np.float64))
            squares = squares + exact_sum.tally_of(sum_cells(square, keep), np.dtype(np.float64), number)
        return exact_sum.side_by_side({0: values, 1: squares})

    def value(self, tally: Tally) -> float:
        """Return the variance, rounded once."""
        sums = exact_sum.apart(tally)
        exact_sum.mean(sums.get(0, Tally()), "a variance")  # refuses an image without valid cells
        number = exact_sum.number_of(sums[0])
        mean = exact_sum.total(sums[0]) / number
        return self.multiple * float(exact_sum.total(sums[1]) / number - mean * mean)
