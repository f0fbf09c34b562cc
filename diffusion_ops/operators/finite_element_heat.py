"""The heat equation by finite elements: linear smoothing on bilinear and trilinear elements."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.parameters import parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.elements import (
    MASS_KIND,
    mass_arrays,
    stable_step,
    step_reach,
    take_element_steps,
)


@register("finite-element-heat")
class FiniteElementHeat(Operator):
    """Linear diffusion, ∂u/∂t = Δu, in bilinear or trilinear elements whose nodes are the cells.

    A wave of wavenumber k decays by k² but for a part of (k h)²: with the lumped mass -1/12 along an axis and -1/8
    along a diagonal, with the consistent mass 1/12 and 1/24, with differences along the axes (`Heat`) -1/12 and -1/24.
    The sum over the image stays. The consistent mass is inverted by 25 (in 3-D 44) Chebyshev steps, to 1e-7; a step
    reads that many cells, and is stable up to 1/4 of the lumped one (2/9 in 3-D, at equal spacing).

    Parameters
    ----------
    mass : str
        "lumped", one number per cell, or "consistent", the exact integrals of the elements.

    Raises
    ------
    ValueError
        For another mass.

    References
    ----------
    Zienkiewicz, Taylor: The finite element method, 1989; Wathen: Realistic eigenvalue bounds for the Galerkin mass
    matrix. IMA J. Numer. Anal. 1987.
    """

    mass: str = parameter(MASS_KIND, default="lumped")

    equation = "∂u/∂t = Δu, as M ∂u/∂t = -K u"
    reference = "Zienkiewicz and Taylor 1989; Wathen 1987"
    samples = Samples(({},))
    picture = Picture("noisy man", far={"time": 2})
    keeps_mean = True

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 2 over the largest eigenvalue of an element, also of one cut by walls; 1/3 h² in 2-D, lumped."""
        return stable_step(self.mass, spacing)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 1, or with the consistent mass the reach of its inversion."""
        return Reach((step_reach(self.mass, len(spacing)),) * len(spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the state before, what solves for the mass, and the rows of a sweep."""
        return channels * inertial + mass_arrays(self.mass, ndim, channels)

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return _PACE[self.mass] / (1.0 if ndim == 2 else 4.0)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the steps in the compiled sweep over elements."""
        take_element_steps(block, cycle, count, self.mass)


_PACE = {"lumped": 9e8, "consistent": 3e7}
