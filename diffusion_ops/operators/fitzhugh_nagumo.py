"""The FitzHugh-Nagumo reaction: labyrinths, spots and waves, from an activator and its inhibitor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from diffusion_ops.blocks.block import Floats
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Number, parameter
from diffusion_ops.families.reaction_diffusion import DIFFUSION, RATE, ReactionDiffusion
from diffusion_ops.kernels.reaction import fitzhugh_nagumo_row


@register("fitzhugh-nagumo")
class FitzHughNagumo(ReactionDiffusion):
    """FitzHugh-Nagumo reaction, ∂u/∂t = Du Δu + u - u³ - w and ∂w/∂t = Dw Δw + E (u - G w - B).

    The visible field is u: an image of 0 ... `white` becomes -1 ... 1, clipped to it; w starts as 0. The defaults make
    a labyrinth of period 10 in a time of about 100, from any image that is not constant, or from a perturbation.
    Explicit steps keep |u| <= U and |w| <= (U + |B|) / G, where U is the root of U³ = U + (U + |B|) / G.

    Parameters
    ----------
    rate : float
        E, how fast the inhibitor follows.
    decay : float
        G, how fast it decays; above 0.
    threshold : float
        B; away from 0 one phase outweighs the other. Beyond 0.1 the other defaults make no pattern.
    diffusion, other_diffusion : float
        Du and Dw, in squared units of the spacing per unit of time. Patterns grow with their roots.
    white : float or Statistic
        Image value that stands for u = 1, also in the result, where 0 stands for -1; "auto" takes the maximum.
    perturbation : float
        Standard deviation of the noise that u starts with, in concentration.
    grain : int
        Width in cells of its squares, 1, 2, 4 ... 64.
    seed : int
        Key of that noise, from 0 to 2**64 - 1.
    anisotropy : float
        How much less both fields diffuse across the structures of the image, or of a guide, than along them: 0 to 1.
        Stripes then follow them, and values may leave their bounds a little.
    sigma, rho : float
        Noise scale and feature scale at which structures are found at the start, in units of the spacing.

    Raises
    ------
    ValueError
        For a number out of range.

    References
    ----------
    FitzHugh: Impulses and physiological states in theoretical models of nerve membrane. Biophys. J. 1961. Nagumo,
    Arimoto, Yoshizawa: An active pulse transmission line simulating nerve axon. Proc. IRE 1962.
    """

    diffusion: float = parameter(DIFFUSION, aliases=("Du",), default=0.5)
    other_diffusion: float = parameter(DIFFUSION, aliases=("Dw", "Dv"), default=5.0)
    rate: float = parameter(RATE, aliases=("epsilon",), default=2.0)
    decay: float = parameter(Number(unit="1", above=0), default=0.8)
    threshold: float = parameter(Number(unit="concentration"), default=0.0)

    equation = "∂u/∂t = Du Δu + u - u³ - w, ∂w/∂t = Dw Δw + E (u - G w - B)"
    reference = "FitzHugh 1961; Nagumo et al. 1962"
    samples = Samples(({"white": 200.0},))
    picture = Picture("grey", {"white": 255, "perturbation": 0.5}, {"time": 200})
    row = staticmethod(fitzhugh_nagumo_row)
    ends = (-1.0, 1.0)
    limits: ClassVar[Any] = (-1.0, 1.0)

    @property
    def rates(self) -> tuple[float, float]:
        """3 U² - 1 of u, E G of w."""
        roots = np.roots([1.0, 0.0, -(1 + 1 / self.decay), -abs(self.threshold) / self.decay])
        return 3 * float(roots.real.max()) ** 2 - 1, self.rate * self.decay

    def reaction(self, tau: float) -> tuple[float, ...]:
        """Return tau, tau E, tau E G, tau E B."""
        e = tau * self.rate
        return tau, e, e * self.decay, e * self.threshold

    def partner(self, visible: Floats) -> Any:
        """Return 0."""
        return 0
