"""The heat equation: linear, isotropic smoothing."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic
from diffusion_ops.evolution.examples import Picture
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.stencil import make_stencil, take_cycle
from diffusion_ops.kernels.conductance import CONSTANT


@register("heat")
class Heat(Operator):
    """Linear diffusion, ∂u/∂t = Δu: smoothing with a Gaussian of standard deviation sqrt(2 time).

    References
    ----------
    Witkin: Scale-space filtering. IJCAI 1983.
    """

    equation = "∂u/∂t = Δu"
    reference = "Witkin 1983"
    picture = Picture("noisy man", far={"time": 2})
    keeps_maximum = True
    keeps_mean = True

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 Σ 1/h²)."""
        return make_stencil(spacing).stable_dt

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 9e9 / (ndim - 1)

    def energy(self) -> Statistic:
        """Return the Dirichlet energy, whose gradient flow the heat equation is."""
        return STATISTICS["energy"]()

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the steps in the compiled flux-form kernel."""
        take_cycle(block, cycle, count, CONSTANT, make_stencil(block.spacing))
