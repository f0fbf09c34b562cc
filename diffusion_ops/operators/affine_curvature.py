"""Affine curvature motion: rounds shapes, in the same way from any angle of view."""

from __future__ import annotations

from collections.abc import Callable

from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.families.row_operator import RowOperator
from diffusion_ops.kernels.motions.curvature import affine_curvature_row


@register("affine-curvature")
class AffineCurvature(RowOperator):
    """Affine morphological scale space, ∂u/∂t = |∇u| curv(u)^(1/3) = (|∇u|² u_ξξ)^(1/3).

    Every level line moves inwards by the cube root of its curvature, so that ellipses stay ellipses: a circle of radius
    R0 has R^(4/3) = R0^(4/3) - 4 t / 3. Time is in lengths to the power 4/3, contrast does not matter.

    Straight lines are stiff: u_t = d u_ξξ with d = curvature^(-2/3), which an explicit step dt can follow up to d = 0.4
    h² / dt. Radii of curvature above (0.4 h² / dt)^(3/2), 44 h at the default step, move with that d, slower than they
    should; give a smaller dt where they matter. A new value never leaves the extremes of the 9 cells it is made of.
    Channels move each by themselves.

    References
    ----------
    Alvarez, Guichard, Lions, Morel: Axioms and fundamental equations of image processing. Arch. Rational Mech. Anal.
    1993. Sapiro, Tannenbaum: Affine invariant scale-space. IJCV 1993.
    """

    equation = "∂u/∂t = |∇u| curv(u)^(1/3)"
    reference = "Alvarez, Guichard, Lions and Morel 1993; Sapiro and Tannenbaum 1993"
    samples = Samples(({},))
    picture = Picture("coins", far={"time": 5})
    dimensions = (2,)
    keeps_maximum = True
    pace_2d = 1.7e9

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 0.04 h^(4/3) for the smaller spacing h, a choice of accuracy: any step is stable."""
        return 0.04 * float(min(spacing) ** (4 / 3))

    def update(self) -> Callable[..., None]:
        """Return the row of the cube root."""
        return affine_curvature_row

    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return the largest diffusivity along level lines that a step can follow: 0.8 / Σ 1/h² of it."""
        return [0.8 / (tau * sum(1 / h**2 for h in spacing))]
