"""Mean curvature motion: rounds the outlines of shapes, and removes small ones."""

from __future__ import annotations

from collections.abc import Callable

from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import parameter
from diffusion_ops.families.parameters import EPSILON
from diffusion_ops.families.row_operator import RowOperator
from diffusion_ops.families.stencil import make_stencil
from diffusion_ops.kernels.motions.curvature import flat_numbers, mean_curvature_row


@register("mean-curvature")
class MeanCurvature(RowOperator):
    """Motion by mean curvature, ∂u/∂t = |∇u| div(∇u / |∇u|) = u_ξξ.

    Every level line moves inwards by its curvature, every level surface by the sum of its two: a circle of radius R0
    has R² = R0² - 2 t, a sphere R² = R0² - 4 t. Contrast does not matter. Central differences; where the gradient is
    far below `epsilon` there is no direction, and the mean over all of them, (N - 1) / N Δu, is taken. A new value
    never leaves the extremes of the 9 (19) cells it is made of: the equation has a maximum principle, plain central
    differences have not. ITK's CurvatureFlow is the same without these two. Channels move each by themselves.

    Parameters
    ----------
    epsilon : float
        Gradient magnitude below which the direction of a level line means nothing, in image units per unit length.

    Raises
    ------
    ValueError
        For an epsilon that is not positive.

    References
    ----------
    Alvarez, Lions, Morel: Image selective smoothing and edge detection by nonlinear diffusion II. SIAM J. Numer. Anal.
    1992.
    """

    epsilon: float = parameter(EPSILON, default=1e-3)

    equation = "∂u/∂t = |∇u| div(∇u / |∇u|)"
    reference = "Alvarez, Lions and Morel 1992"
    samples = Samples(({}, {"epsilon": 50.0}))
    picture = Picture("noisy man", far={"time": 4})
    keeps_maximum = True
    pace_2d = 2.8e9

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 Σ 1/h²), as of the heat equation."""
        return make_stencil(spacing).stable_dt

    def update(self) -> Callable[..., None]:
        """Return the row of u_ξξ."""
        return mean_curvature_row

    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return what stands in for a direction."""
        return flat_numbers(self.epsilon, len(spacing))
