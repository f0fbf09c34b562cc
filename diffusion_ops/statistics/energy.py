"""Dirichlet energy, which decreases along a diffusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally
from diffusion_ops.kernels.sums.measure import sum_energy, valid_cells


@STATISTICS.register("energy")
@dataclass(frozen=True)
class Energy(Statistic):
    """Mean of |∇u|² over the valid cells, summed over channels, in (image units per unit length)².

    The gradient is the difference to the next cell along each axis; faces at walls and edges count as zero.
    """

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 1: the next cell along each axis."""
        return (1,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sum of |∇u|² and the number of cells."""
        return exact_sum.tally_of(sum_energy(block, keep), np.dtype(np.float64), valid_cells(block, keep))

    def value(self, tally: Tally) -> float:
        """Return the mean of |∇u|²."""
        return exact_sum.mean(tally, "an energy")
