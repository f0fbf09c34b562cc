"""Allen-Cahn equation: an image parts into two phases, whose borders then shorten."""

from __future__ import annotations

import math
from collections.abc import Callable

from diffusion_ops.blocks.statistic import make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import AUTO, Automatic, Number, NumberOrStatistic, number, parameter
from diffusion_ops.families.row_operator import RowOperator
from diffusion_ops.families.stencil import make_stencil
from diffusion_ops.kernels.motions.phase_field import allen_cahn_row

PHASE = Number(unit="image units", statistic=True)

_SMALLEST = 1e-30
"""Least value of exp(-2 τ / ε²), so that no phase is 0 / 0."""


def _extreme(name: str) -> Automatic:
    """Return the rule for an extreme of the image."""
    return lambda values: make_statistic(name)


@register("allen-cahn")
class AllenCahn(RowOperator):
    """Allen-Cahn equation, ∂u/∂t = Δu - W'(u) / ε², W the double well with its minima at two phases.

    With v = -1 and 1 at the phases, ∂v/∂t = Δv - (v³ - v) / ε². Each cell first goes to the nearer phase; between the
    phases a border v = tanh(x / (√2 ε)) forms, which then moves by its curvature as in mean curvature motion. Steps
    are split: an explicit one of the heat equation, then the exact solution of the reaction, so that no step is too
    long for it. An ε below about a cell pins the borders to the grid. Channels part each by themselves, with the same
    phases.

    Parameters
    ----------
    epsilon : float
        Width of the borders, in units of the spacing.
    low, high : float or Statistic, or "auto"
        The two phases, in image units. "auto" are the extremes of the image.

    Raises
    ------
    ValueError
        For a width that is not positive, a low phase that is not below the high one.

    References
    ----------
    Allen, Cahn: A microscopic theory for antiphase boundary motion. Acta Metallurgica 1979. Rubinstein, Sternberg,
    Keller: Fast reaction, slow diffusion, and curve shortening. SIAM J. Appl. Math. 1989.
    """

    epsilon: float = parameter(Number(unit="unit length", above=0), default=2.0)
    low: NumberOrStatistic = parameter(PHASE, automatic=_extreme("minimum"), default=AUTO)
    high: NumberOrStatistic = parameter(PHASE, automatic=_extreme("maximum"), default=AUTO)

    equation = "∂u/∂t = Δu - W'(u) / ε²"
    reference = "Allen and Cahn 1979"
    samples = Samples(({"low": 0.0, "high": 200.0, "epsilon": 3.0}, {"low": 50.0, "high": 150.0}))
    picture = Picture("noisy man", {"epsilon": 1.5}, {"time": 5})
    pace_2d = 4e9

    def __post_init__(self) -> None:
        if isinstance(self.low, int | float) and isinstance(self.high, int | float) and self.low >= self.high:
            raise ValueError(f"low={self.low!r} is not possible. Allowed: below high={self.high!r}.")

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 Σ 1/h²), as of the heat equation."""
        return make_stencil(spacing).stable_dt

    def update(self) -> Callable[..., None]:
        """Return the row of a split step."""
        return allen_cahn_row

    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return the phases and how far the reaction goes."""
        low, high = number(self.low), number(self.high)
        left = max(math.exp(-2 * tau / self.epsilon**2), _SMALLEST)
        half = (high - low) / 2
        return [low + half, half, 1 / half, left, 1 - left]
