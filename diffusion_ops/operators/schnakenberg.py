"""The Schnakenberg reaction: Turing's spots and stripes, by the plainest reaction that makes them."""

from __future__ import annotations

from typing import Any

from diffusion_ops.blocks.block import Floats
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Number, parameter
from diffusion_ops.families.reaction_diffusion import DIFFUSION, RATE, ReactionDiffusion
from diffusion_ops.kernels.reaction import schnakenberg_row

_PEAK = 4.0


@register("schnakenberg")
class Schnakenberg(ReactionDiffusion):
    """Schnakenberg reaction, ∂u/∂t = Du Δu + R (a - u + u² v) and ∂v/∂t = Dv Δv + R (b - u² v).

    The visible field is u: the image over `white`, clipped to 0 ... 4 (a + b); v starts at its rest, b / (a + b)². At
    rest u = a + b. Waves grow where Dv / Du is large enough (above 8.57 for a = 0.1, b = 0.9), so any image that is not
    constant, or a perturbation, becomes spots of period 11 in a time of about 300. Explicit steps keep u >= 0, and
    v >= 0 as long as u <= 4 (a + b).

    Parameters
    ----------
    a, b : float
        Supplies of u and of v; b above 0.
    rate : float
        R of the reaction. Patterns shrink with its root.
    diffusion, other_diffusion : float
        Du and Dv, in squared units of the spacing per unit of time.
    white : float or Statistic
        Image value that stands for u = 1, also in the result; "auto" takes the maximum.
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
    Schnakenberg: Simple chemical reaction systems with limit cycle behaviour. J. Theor. Biol. 1979. Turing: The
    chemical basis of morphogenesis. Phil. Trans. R. Soc. London B 1952.
    """

    diffusion: float = parameter(DIFFUSION, aliases=("Du",), default=1.0)
    other_diffusion: float = parameter(DIFFUSION, aliases=("Dv", "d"), default=10.0)
    a: float = parameter(Number(unit="concentration", least=0), default=0.1)
    b: float = parameter(Number(unit="concentration", above=0), default=0.9)
    rate: float = parameter(RATE, default=1.0)

    equation = "∂u/∂t = Du Δu + R (a - u + u² v), ∂v/∂t = Dv Δv + R (b - u² v)"
    reference = "Schnakenberg 1979; Turing 1952"
    samples = Samples(({"white": 100.0},))
    picture = Picture("grey", {"white": 100, "perturbation": 0.3}, {"time": 100})
    row = staticmethod(schnakenberg_row)

    @property
    def limits(self) -> tuple[float, float]:
        """0 and four times u at rest."""
        return 0.0, _PEAK * (self.a + self.b)

    @property
    def rates(self) -> tuple[float, float]:
        """R of u, R u² of v."""
        return self.rate, self.rate * self.limits[1] ** 2

    def reaction(self, tau: float) -> tuple[float, ...]:
        """Return tau R, tau R a, tau R b."""
        r = tau * self.rate
        return r, r * self.a, r * self.b

    def partner(self, visible: Floats) -> Any:
        """Return v at rest."""
        return self.b / (self.a + self.b) ** 2
