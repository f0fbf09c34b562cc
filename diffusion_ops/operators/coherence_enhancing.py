"""Coherence-enhancing diffusion: smoothing along lines only, so that interrupted ones close."""

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

ENHANCEMENT = Choice(
    ("ced", "cced"), aliases=("Enhancement",), alias_values={"Enhancement": {"CED": "ced", "cCED": "cced"}}
)


def _noise_gradient(values: Mapping[str, Any]) -> Statistic:
    """Return the gradient that the noise makes: what is no clearer than noise is no direction."""
    return make_statistic("noise-gradient", 1.0)


@register("coherence-enhancing")
class CoherenceEnhancing(TensorDiffusion):
    """Anisotropic diffusion that closes interrupted lines and flow-like patterns, ∂u/∂t = div(D ∇u).

    D has the axes of the structure tensor J_rho of the image smoothed with sigma. Its eigenvalue along an axis is
    alpha + (1 - alpha) exp(-(contrast² / s)^exponent), s depending on the eigenvalues mu of J by `enhancement`: alpha
    across the structures, near 1 along them where they are much clearer than `contrast`, alpha everywhere else. D is
    made anew at every explicit step and once per FSI cycle. Channels share one tensor (Di Zenzo). A guide gives the
    tensor in the place of the image.

    Parameters
    ----------
    contrast : float or Statistic
        Gradient magnitude whose square the eigenvalues must differ by to be a direction, in image units per unit
        length. A statistic, such as {"quantile": 0.9}, is reduced over the whole image first. "auto" is a multiple of
        the noise.
    sigma : float
        Noise scale: standard deviation of the smoothing before the gradient, in units of the spacing.
    rho : float
        Feature scale: standard deviation of the smoothing of the tensor, in units of the spacing; as wide as the gaps
        to be closed.
    enhancement : str
        "ced": s = (greatest mu) - mu; "cced": s = ((greatest mu) - mu) / (1 + mu / contrast²), which spares corners.
    alpha : float
        Least diffusivity, between 0 and 1, without unit.
    exponent : int
        2 for exp(-C / s²) with C = contrast⁴, the form of Weickert 1999 and of ITK.
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
    Weickert: Coherence-enhancing diffusion filtering. Int. J. Comput. Vis. 1999. Fehrenbach, Mirebeau: Sparse
    non-negative stencils for anisotropic diffusion. J. Math. Imaging Vis. 2014.
    """

    contrast: NumberOrStatistic = parameter(CONTRAST, aliases=(), automatic=_noise_gradient, default=1.0)
    sigma: float = parameter(NOISE_SCALE, default=0.5)
    rho: float = parameter(FEATURE_SCALE, default=2.0)
    enhancement: str = parameter(ENHANCEMENT, default="ced")
    alpha: float = parameter(ALPHA, default=0.01)
    exponent: int = parameter(EXPONENT, default=2)
    discretisation: str = parameter(DISCRETISATION, default=DISCRETISATIONS[0])
    stencil: float = parameter(STENCIL, default=0.4)
    condition: float = parameter(CONDITION, default=10.0)

    equation = "∂u/∂t = div(D(J_rho(∇u_sigma)) ∇u)"
    reference = "Weickert 1999; Fehrenbach and Mirebeau 2014"
    samples = Samples(
        ({"contrast": 40.0, "rho": 1.0}, {"contrast": 40.0, "rho": 0.75, "enhancement": "cced"})
    )
    picture = Picture("noisy vessels", {"contrast": 6, "sigma": 1.0, "rho": 4}, {"time": 20})

    @property
    def law(self) -> str:
        """How the flow depends on the contrast."""
        return "threshold"
