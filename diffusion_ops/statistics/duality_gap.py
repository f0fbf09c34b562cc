"""Upper bound of the distance of total variation denoising from its minimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument
from diffusion_ops.kernels.sums.measure import valid_cells
from diffusion_ops.kernels.sums.rof_sums import sum_rof


@STATISTICS.register("duality-gap")
@dataclass(frozen=True)
class DualityGap(Statistic):
    """Mean over the valid cells of |∇u| - ∇u·p + |u - f - weight div p|² / (2 weight), in image units per unit length.

    The primal minus the dual functional of min TV(u) + |u - f|² / (2 weight), summed by parts so that no term is
    negative. It bounds the error: the root mean square of u minus the minimiser is at most sqrt(2 weight gap). The
    operator carries the data f and the dual p; without carried arrays they are the image and 0.

    Parameters
    ----------
    weight : float
        In image units times length, as the operator's.

    References
    ----------
    Zhu, Wright, Chan: Duality-based algorithms for total-variation-regularized image restoration. COAP 2010.
    """

    weight: float

    def __post_init__(self) -> None:
        check_argument("duality-gap", "weight", self.weight, above=0)

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 1: the cells before and after along each axis."""
        return (1,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sum of the cells' terms and the number of cells."""
        sums = sum_rof(block, keep, self.weight, gap=True)
        return exact_sum.tally_of(sums, np.dtype(np.float64), valid_cells(block, keep))

    def value(self, tally: Tally) -> float:
        """Return the mean."""
        return exact_sum.mean(tally, "a duality gap")
