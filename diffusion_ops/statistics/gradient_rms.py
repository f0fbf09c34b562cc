"""Contrast from the mean square of the image's gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument
from diffusion_ops.kernels.sums.gradient_square import sum_gradient_square
from diffusion_ops.kernels.sums.measure import valid_cells


@STATISTICS.register("rms")
@dataclass(frozen=True)
class GradientRMS(Statistic):
    """multiple * sqrt(mean |∇u|²), in image units per unit length; exact until it is rounded once at the end.

    Central differences; a neighbour beyond a wall or edge repeats the cell itself. Channels are summed: |∇u|² = Σ_c
    |∇u_c|². ITK's conductance parameter K stands for multiple = K sqrt(2).

    Parameters
    ----------
    multiple : float
        Positive.
    """

    multiple: float = 1.0

    def __post_init__(self) -> None:
        check_argument("rms", "multiple", self.multiple, above=0)

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return the reach of the central difference."""
        return (1,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sum of |∇u|² and the number of cells."""
        sums = sum_gradient_square(block, keep)
        return exact_sum.tally_of(sums, np.dtype(np.float64), valid_cells(block, keep))

    def value(self, tally: Tally) -> float:
        """Return the root of the mean."""
        return self.multiple * math.sqrt(exact_sum.mean(tally, "gradients"))
