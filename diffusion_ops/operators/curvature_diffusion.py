"""Modified curvature diffusion: smoothing by curvature that stops at edges, and even sharpens them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from diffusion_ops.blocks.statistic import Statistic, make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import NumberOrStatistic, parameter
from diffusion_ops.families.edge_stopping import CONDUCTANCE, CONTRAST
from diffusion_ops.families.row_operator import RowOperator
from diffusion_ops.kernels.conductance import CONDUCTANCES
from diffusion_ops.kernels.motions.curvature import CURVATURE_DIFFUSION_ROWS


def _mean_square(values: Mapping[str, Any]) -> Statistic:
    """Return ITK's contrast for a conductance parameter of 1."""
    return make_statistic("rms", 2**0.5)


@register("curvature-diffusion")
class CurvatureDiffusion(RowOperator):
    """Modified curvature diffusion equation, ∂u/∂t = |∇u| div(g(|∇u|) ∇u / |∇u|).

    Level lines move by their curvature where the image is flat, and towards the steepest slope where it is steep. The
    gradient across a face is the difference of its two cells, along it the mean of their central differences; the
    factor in front is upwind, which gives the maximum principle. Channels share g and the |∇u| in the divergence, of
    Σ_c |∇u_c|²; the factor in front is each channel's own.

    ITK's filter has g = exp(-|∇u|² / (2 K² m)) with the conductance parameter K and the mean m of |∇u|² over the image.
    That is `contrast` = K sqrt(2 m), and the statistic {"rms": 1.4142 K}; here it is taken once from the first image,
    where ITK takes it again at each iteration by default.

    Parameters
    ----------
    contrast : float or Statistic
        Gradient magnitude that parts edges from noise, in image units per unit length. A statistic, such as {"rms":
        1.4} or {"quantile": 0.9}, is reduced over the whole image first; "auto" is {"rms": 1.4142}.
    conductance : str
        "exponential" exp(-(s/k)²), "rational" 1 / (1 + (s/k)²), "charbonnier" 1 / sqrt(1 + (s/k)²), "tukey"
        max(1 - s²/(5k²), 0)², "weickert" 1 - exp(-3.31488 (k/s)⁸).

    Raises
    ------
    ValueError
        For a contrast that is not positive, an unknown conductance.

    References
    ----------
    Whitaker, Xue: Variable-conductance, level-set curvature for image denoising. ICIP 2001.
    """

    contrast: NumberOrStatistic = parameter(CONTRAST, automatic=_mean_square)
    conductance: str = parameter(CONDUCTANCE, default="exponential")

    equation = "∂u/∂t = |∇u| div(g(|∇u|) ∇u / |∇u|)"
    reference = "Whitaker and Xue 2001"
    samples = Samples(({"contrast": 1e4}, {"contrast": 60.0, "conductance": "rational"}))
    picture = Picture("noisy man", {"contrast": 20}, {"time": 6})
    couples_channels = True
    keeps_maximum = True
    pace_2d = 8e8

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the limit of the maximum principle, 1 / (2 Σ 1/h sqrt(2 Σ 1/h²)); 1/8 in 2-D.

        A value can only move towards neighbours on one side of it. None of them is farther than d, so |∇u| is at most
        d sqrt(2 Σ 1/h²), and the flux through none of the 2 N faces is more than 1.
        """
        return 1 / (2 * sum(1 / h for h in spacing) * math.sqrt(2 * sum(1 / h**2 for h in spacing)))

    def update(self) -> Callable[..., None]:
        """Return the row for the conductance."""
        return CURVATURE_DIFFUSION_ROWS[CONDUCTANCES.index(self.conductance)]

    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return 1 / contrast²."""
        assert isinstance(self.contrast, int | float)
        return [1 / self.contrast**2]
