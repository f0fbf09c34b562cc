"""Min/max curvature flow: removes noise, and keeps shapes larger than its stencil."""

from __future__ import annotations

from collections.abc import Callable

from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.parameters import EPSILON
from diffusion_ops.families.row_operator import RowOperator
from diffusion_ops.families.stencil import make_stencil
from diffusion_ops.kernels.motions.curvature import flat_numbers
from diffusion_ops.kernels.motions.min_max import disk_cells, min_max_curvature_row


@register("min-max-curvature")
class MinMaxCurvature(RowOperator):
    """Min/max flow, ∂u/∂t = max(u_ξξ, 0) where the mean over a disk is below a threshold, else min(u_ξξ, 0).

    u_ξξ = |∇u| div(∇u / |∇u|) as of mean curvature motion, whose discretisation and maximum principle it shares. The
    threshold of a cell is the mean of the two cells in which the level line through it leaves the disk. What is smaller
    than the disk vanishes; larger shapes stay where they are. ITK's filter is the same with u_ξξ divided by the squared
    radius. Channels move each by themselves.

    Parameters
    ----------
    stencil_radius : int
        Radius of the disk, in cells; 1 to 8. The larger, the more is wiped out.
    epsilon : float
        Gradient magnitude below which the direction of a level line means nothing, in image units per unit length.

    Raises
    ------
    ValueError
        For a radius out of range, an epsilon that is not positive.

    References
    ----------
    Malladi, Sethian: Image processing: flows under min/max curvature and mean curvature. Graph. Models Image Process.
    1996.
    """

    stencil_radius: int = parameter(Choice(range(1, 9), unit="cells"), default=2)
    epsilon: float = parameter(EPSILON, default=1e-3)

    equation = "∂u/∂t = max(u_ξξ, 0) where mean < threshold, else min(u_ξξ, 0)"
    reference = "Malladi and Sethian 1996"
    samples = Samples(
        ({}, {"stencil_radius": 1}, {"stencil_radius": 3}),
        faint="limiters pass the farthest cells over, again and again",
    )
    picture = Picture("peppered man", far={"time": 10})
    dimensions = (2,)
    keeps_maximum = True
    pace_2d = 3.5e8

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 Σ 1/h²), as of the heat equation."""
        return make_stencil(spacing).stable_dt

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the radius of the disk."""
        return Reach((self.stencil_radius,) * len(spacing))

    def update(self) -> Callable[..., None]:
        """Return the row of the flow."""
        return min_max_curvature_row

    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return what stands in for a direction, and the disk."""
        disk = [self.stencil_radius, 1 / disk_cells(self.stencil_radius)]
        return [*flat_numbers(self.epsilon, len(spacing)), *disk]
