"""Edge-enhancing diffusion: smoothing along edges, hardly across them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusion_ops.blocks.statistic import Statistic, make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, NumberOrStatistic, parameter
from diffusion_ops.families.edge_stopping import CONTRAST
from diffusion_ops.families.parameters import FEATURE_SCALE, NOISE_SCALE
from diffusion_ops.families.tensor_field import (
    ALPHA,
    CONDITION,
    DISCRETISATION,
    DISCRETISATIONS,
    EXPONENT,
    STENCIL,
    TensorDiffusion,
)
from diffusion_ops.kernels.tensors.diffusivity import LAWS

CONDUCTANCE = Choice(
    LAWS, aliases=("option",), alias_values={"option": {1: "exponential", 2: "rational", 3: "tukey"}}
)

ENHANCEMENT = Choice(
    ("eed", "ceed", "isotropic"),
    aliases=("Enhancement",),
    alias_values={"Enhancement": {"EED": "eed", "cEED": "ceed", "Isotropic": "isotropic"}},
)

_MULTIPLES = {
    "exponential": 0.9,
    "rational": 0.5,
    "charbonnier": 0.2,
    "tukey": 0.8,
    "weickert": 0.8,
    "threshold": 0.7,
}


def _suited(values: Mapping[str, Any]) -> Statistic:
    """Return the contrast that suits the image's noise.

    A multiple of what white noise makes between neighbours (`NoiseGradient`), found on four photographs with noise
    of 15, 25 and 50 grey levels, each at its best time; less suits more noise.
    """
    return make_statistic("noise-gradient", _MULTIPLES[values["conductance"]])


@register("edge-enhancing")
class EdgeEnhancing(TensorDiffusion):
    """Anisotropic diffusion that stops across edges only, ∂u/∂t = div(D ∇u).

    D has the axes of the structure tensor J_rho of the image smoothed with sigma. Its eigenvalue along an axis is
    alpha + (1 - alpha) g(s / contrast²), s depending on the eigenvalues mu of J by `enhancement`: 1 along an edge, so
    that noise on the edge is smoothed too, and g across it. D is made anew at every explicit step and once per FSI
    cycle. Channels share one tensor (Di Zenzo). A guide gives the tensor in the place of the image.

    Parameters
    ----------
    contrast : float or Statistic
        Gradient magnitude that parts edges from noise, in image units per unit length. A statistic, such as
        `GradientQuantile(0.9)` or {"quantile": 0.9}, is reduced over the whole image first. "auto" is a multiple
        of the noise, which depends on the conductance.
    conductance : str
        g of q = s / contrast²: "exponential" exp(-q), "rational" 1 / (1 + q), "charbonnier" 1 / sqrt(1 + q), "tukey"
        max(1 - q/5, 0)², "weickert" 1 - exp(-3.31488 / q⁴), "threshold" 1 - exp(-1 / q^exponent) as in ITK.
    sigma : float
        Noise scale: standard deviation of the smoothing before the gradient, in units of the spacing.
    rho : float
        Feature scale: standard deviation of the smoothing of the tensor, in units of the spacing.
    enhancement : str
        "eed": s = mu - (least mu), "ceed": s = mu, "isotropic": s = greatest mu for every axis. The first two are the
        same where the least mu is 0, as it is for one channel and rho = 0.
    alpha : float
        Least diffusivity, between 0 and 1, without unit.
    exponent : int
        m of "threshold".
    discretisation : str
        "www": nonstandard differences of radius 1, true to directions at any ratio of eigenvalues. "lattice": positive
        weights on far neighbours, so that explicit steps keep the extremes; eigenvalues differ at most by `condition`.
    stencil : float
        α of the nonstandard differences, between 0 and 0.5, without unit.
    condition : float
        Greatest ratio of eigenvalues with "lattice", without unit; the radius of a step grows as its root.

    Raises
    ------
    ValueError
        For a contrast that is not positive, unknown words, numbers out of range.

    References
    ----------
    Weickert: Anisotropic diffusion in image processing. Teubner 1998. Weickert, Welk, Wickert: L2-stable nonstandard
    finite differences for anisotropic diffusion. SSVM 2013. Fehrenbach, Mirebeau: Sparse non-negative stencils for
    anisotropic diffusion. J. Math. Imaging Vis. 2014.
    """

    contrast: NumberOrStatistic = parameter(CONTRAST, aliases=("kappa", "lambda_"), automatic=_suited)
    conductance: str = parameter(CONDUCTANCE, default="rational")
    sigma: float = parameter(NOISE_SCALE, default=0.5)
    rho: float = parameter(FEATURE_SCALE, default=0.0)
    enhancement: str = parameter(ENHANCEMENT, default="eed")
    alpha: float = parameter(ALPHA, default=0.0)
    exponent: int = parameter(EXPONENT, default=2)
    discretisation: str = parameter(DISCRETISATION, default=DISCRETISATIONS[0])
    stencil: float = parameter(STENCIL, default=0.4)
    condition: float = parameter(CONDITION, default=10.0)

    equation = "∂u/∂t = div(D(J_rho(∇u_sigma)) ∇u)"
    reference = "Weickert 1998; Weickert, Welk and Wickert 2013; Fehrenbach and Mirebeau 2014"
    samples = Samples(
        (
            {"contrast": 1e4},
            {"contrast": 60.0, "sigma": 0.0},
            {"contrast": 40.0, "rho": 0.75, "conductance": "weickert"},
            {"contrast": 40.0, "sigma": 0.0, "discretisation": "lattice", "condition": 3.0},
        )
    )
    picture = Picture("noisy man", {"contrast": 6, "sigma": 1.0}, {"time": 10})

    @property
    def law(self) -> str:
        """How the flow depends on the contrast."""
        return self.conductance
