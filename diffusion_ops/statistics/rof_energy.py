"""Functional that total variation denoising decreases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument
from diffusion_ops.kernels.sums.measure import valid_cells
from diffusion_ops.kernels.sums.rof_sums import sum_rof


@STATISTICS.register("rof-energy")
@dataclass(frozen=True)
class RofEnergy(Statistic):
    """Mean over the valid cells of |∇u| + |u - f|² / (2 weight), in image units per unit length.

    |∇u| is one norm over axes and channels of the differences to the next cell, which are 0 across walls; f is
    the data that the operator carries, or the image itself without carried arrays.

    Parameters
    ----------
    weight : float or None
        In image units times length; None for the total variation alone.
    """

    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None:
            check_argument("rof-energy", "weight", self.weight, above=0)

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 1: the next cell along each axis."""
        return (1,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sum of the cells' terms and the number of cells."""
        sums = sum_rof(block, keep, self.weight, gap=False)
        return exact_sum.tally_of(sums, np.dtype(np.float64), valid_cells(block, keep))

    def value(self, tally: Tally) -> float:
        """Return the mean."""
        return exact_sum.mean(tally, "an energy")
