"""The heat equation driven by white noise: a surface that grows rough and smooth at once."""

from __future__ import annotations

import math

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.parameters import Number, parameter
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.parameters import SEED
from diffusion_ops.families.stencil import make_stencil, take_cycle
from diffusion_ops.kernels.conductance import CONSTANT
from diffusion_ops.kernels.pixels.noise import put_noise

LEVEL = Number(unit="image units x unit length^(axes / 2) / sqrt(time)", least=0)


@register("stochastic-heat")
class StochasticHeat(Operator):
    """Heat equation with additive space-time white noise, du = Δu dt + level dW (Edwards and Wilkinson).

    A step is u + dt Δu + level sqrt(dt / Π h) n with a standard normal number n of its own in every cell (Euler and
    Maruyama). For cells of volume 1 a mode whose Laplacian has the eigenvalue -λ comes to rest at the variance
    level² / (2 λ (1 - dt λ / 2)), which goes to level² / (2 λ); the mean walks at random. The numbers depend on the
    seed, the place in the image and the number of the step alone.

    Parameters
    ----------
    level : float
        Strength of the noise: after the time t the noise alone has the standard deviation level sqrt(t) in
        cells of volume 1.
    seed : int
        From 0 to 2**64 - 1.

    Raises
    ------
    ValueError
        For a level or a seed out of range.

    References
    ----------
    Edwards, Wilkinson: The surface statistics of a granular aggregate. Proc. R. Soc. London A 1982.
    """

    level: float = parameter(LEVEL, default=1.0)
    seed: int = parameter(SEED, default=0)

    equation = "du = Δu dt + level dW"
    reference = "Edwards and Wilkinson 1982"
    samples = Samples(
        ({"level": 5.0},),
        lopsided="every cell draws its own numbers",
        placed="every cell draws its own numbers",
    )
    picture = Picture("grey", {"level": 60}, {"time": 30})
    inertial_cycles = False

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 Σ 1/h²), as without noise."""
        return make_stencil(spacing).stable_dt

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32: the random numbers take nearly all of it."""
        return 5e8

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take steps of the heat equation and put the noise of each on top."""
        stencil = make_stencil(block.spacing)
        deviation = self.level * math.sqrt(cycle.tau / math.prod(block.spacing))
        for step in range(count):
            take_cycle(block, Cycle(cycle.tau), 1, CONSTANT, stencil, before=step)
            # Number 0 is for what is done once, such as a start from noise of the same seed.
            put_noise(block, "gaussian", (deviation,), self.seed, draw=block.step + step + 1)
