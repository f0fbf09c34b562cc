"""Speckle reducing anisotropic diffusion (SRAD): smoothing for multiplicative noise."""

from __future__ import annotations

import math

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.parameters import AUTO, Choice, Number, NumberOrStatistic, parameter
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.stencil import make_stencil
from diffusion_ops.kernels.pixels.speckle import EXPONENTIAL, RATIONAL, reduce_speckle

_FORMS = {"rational": RATIONAL, "exponential": EXPONENTIAL}


LEVEL = Number(
    unit="1",
    above=0,
    statistic=True,
    aliases=("q0",),
    automatic=lambda values: make_statistic("speckle"),
)


@register("speckle-reducing")
class SpeckleReducing(Operator):
    """Diffusion that smooths speckle and stops at edges, ∂u/∂t = div(c(q) ∇u).

    q is the instantaneous coefficient of variation: the standard deviation of the 2 N neighbours of a cell over their
    mean, for equal spacing as in Yu and Acton, otherwise each neighbour weighed by 1/h². A neighbour beyond a wall
    repeats the cell. With x = (q² - q0²) / (q0² (1 + q0²)), c is 1 / (1 + x) or exp(-x), at most 1. Where q is at
    the level of speckle q0(t) = level exp(-decay t) or below, the image is smoothed as by heat; edges have a larger q.
    The coefficients are new at every step; a face has the mean of its two cells, so that no direction is preferred
    and the mean is kept. A channel is smoothed on its own.

    Speckle multiplies the signal, so values must be positive: intensities or amplitudes, not decibels. Zeros are
    allowed. Below zero a mean's square stands for it, so that the result is defined, but it means nothing.

    Parameters
    ----------
    level : float, Statistic or "auto"
        q0 at time 0: the coefficient of variation of homogeneous areas. 1 / sqrt(L) for intensities of L looks,
        0.5227 / sqrt(L) for amplitudes. "auto" is the statistic `SpeckleLevel`.
    decay : float
        Rate at which q0 falls while speckle vanishes, per unit time. With 1 the image settles after a time of about 4;
        without decay edges go on to blur.
    conductance : str
        "rational" or "exponential".

    Raises
    ------
    ValueError
        For a level that is not positive, a negative decay, an unknown conductance.

    References
    ----------
    Yu, Acton: Speckle reducing anisotropic diffusion. IEEE Trans. Image Processing 2002.
    """

    level: NumberOrStatistic = parameter(LEVEL, default=AUTO)
    decay: float = parameter(Number(unit="1 / squared unit length", least=0, aliases=("rho",)), default=1.0)
    conductance: str = parameter(Choice(tuple(_FORMS)), default="rational")

    equation = "∂u/∂t = div(c(q) ∇u), q = local standard deviation / local mean"
    reference = "Yu and Acton 2002"
    samples = Samples(({"level": 0.3, "decay": 0.0}, {"level": 0.3, "conductance": "exponential"}))
    picture = Picture("speckled man", far={"time": 6})
    inertial_cycles = False
    radius = 2
    keeps_maximum = True
    keeps_mean = True

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 Σ 1/h²), as for heat: c is at most 1."""
        return make_stencil(spacing).stable_dt

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return (2.5e9 if self.conductance == "rational" else 1.5e9) * (1.0 if ndim == 2 else 0.5)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the steps in the compiled kernel."""
        assert isinstance(self.level, int | float)
        steps = range(block.step, block.step + count * cycle.steps)
        levels = [self.level * math.exp(-self.decay * cycle.tau * k) for k in steps]
        reduce_speckle(block, _FORMS[self.conductance], cycle.tau, levels)
