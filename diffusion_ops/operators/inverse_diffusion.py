"""Inverse diffusion: sharpening by the heat equation run backwards, within the image's own extremes."""

from __future__ import annotations

from collections.abc import Callable

from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.families.row_operator import RowOperator
from diffusion_ops.kernels.motions.enhancement import inverse_diffusion_row


@register("inverse-diffusion")
class InverseDiffusion(RowOperator):
    """Stabilised inverse linear diffusion, ∂u/∂t = -Δu, the sharpening that an unsharp mask is one step of.

    The flux through a face is the smallest of the difference across it and those across the next faces of its axis,
    if all three have one sign, and 0 otherwise. So extrema stand still, a value never leaves the extremes of its
    neighbours, and the mean is kept; edges become jumps, between which the image is flat. Where slopes are smooth this
    is the heat equation backwards. Channels sharpen each by themselves.

    References
    ----------
    Osher, Rudin: Shocks and other nonlinear filtering applied to image processing. Proc. SPIE 1567, 1991. Breuß, Welk:
    Staircasing in semidiscrete stabilised inverse linear diffusion algorithms. J. Comput. Appl. Math. 2007.
    """

    equation = "∂u/∂t = -Δu, fluxes limited"
    reference = "Osher and Rudin 1991; Breuß and Welk 2007"
    samples = Samples(({},), faint="limiters pass the farthest cells over, again and again")
    picture = Picture("blurred text", far={"time": 1.5, "dt": 0.05})
    radius = 2
    keeps_maximum = True
    keeps_mean = True
    pace_2d = 2.7e9

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the limit of the maximum principle, 1 / Σ 1/h².

        Both fluxes of an axis have one sign, and neither is more than the difference to a neighbour.
        """
        return 1 / sum(1 / h**2 for h in spacing)

    def update(self) -> Callable[..., None]:
        """Return the row of limited fluxes."""
        return inverse_diffusion_row

    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return nothing more."""
        return []
