"""Functional that Perona-Malik diffusion decreases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument
from diffusion_ops.evolution.parameters import check_choice
from diffusion_ops.kernels.sums.measure import valid_cells
from diffusion_ops.kernels.sums.potential import POTENTIALS, sum_potential


@STATISTICS.register("potential")
@dataclass(frozen=True)
class Potential(Statistic):
    """Mean over the valid cells of Σ_axes contrast² Ψ(|∂u|² / contrast²), with Ψ(q) = ∫ g from 0 to q.

    ∂u is the difference to the next cell along an axis, 0 across walls, and |·|² the sum over channels. Its gradient
    flow is ∂u/∂t = div(g(|∂u|) ∇u), up to a factor. For g = 1 it is the energy.

    Parameters
    ----------
    contrast : float
        In image units per unit length.
    conductance : str
        Function g: "exponential", "rational", "charbonnier" or "tukey".

    References
    ----------
    You, Xu, Tannenbaum, Kaveh: Behavioral analysis of anisotropic diffusion in image processing. IEEE Trans. Image
    Processing 1996.
    """

    contrast: float
    conductance: str = "exponential"

    def __post_init__(self) -> None:
        check_choice("conductance", self.conductance, POTENTIALS)
        check_argument("potential", "contrast", self.contrast, above=0)

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 1: the next cell along each axis."""
        return (1,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sum of the cells' terms and the number of cells."""
        sums = sum_potential(block, keep, self.conductance, self.contrast)
        return exact_sum.tally_of(sums, np.dtype(np.float64), valid_cells(block, keep))

    def value(self, tally: Tally) -> float:
        """Return the mean."""
        return exact_sum.mean(tally, "an energy")
