"""Forward-and-backward diffusion: smoothing where slopes are small, sharpening where they are larger."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, Number, parameter
from diffusion_ops.families.edge_stopping import CONTRAST
from diffusion_ops.families.row_operator import RowOperator
from diffusion_ops.kernels.motions.enhancement import DIFFUSIVITY_ROWS, forward_backward_row


@register("forward-backward")
class ForwardBackward(RowOperator):
    """Forward-and-backward (FAB) diffusion, ∂u/∂t = div(g(|∇u|) ∇u) with g negative in a band of slopes.

    "exponential": g(s) = 2 exp(-a s²) - exp(-a s² / r²), r = `ratio`, a such that g(contrast) = 0 (Welk, Weickert and
    Gilboa). "rational": g(s) = 1 / (1 + (s/k)⁴) - d / (1 + ((s - b) / w)²), k = contrast, b = ratio k, w = b / 4, d =
    k / (2 (b + w)) (Gilboa, Sochen and Zeevi).

    |∇u|² at a cell is the sum over the axes of the products of the differences at its two sides where these have one
    sign, so that it is 0 at extrema, and g is the mean of the two cells at a face. With that, and steps as small as
    `stable_dt`, no value leaves the image's extremes and the process is well-posed (Welk, Weickert and Gilboa).
    Channels diffuse each by themselves: an extremum of one is in general none of the others.

    Parameters
    ----------
    contrast : float
        Slope up to which diffusion goes forward, in image units per unit length.
    extent : float
        Largest minus smallest value of the image, or more, in image units. The steps are as small as it asks for.
    diffusivity : str
        "exponential" or "rational".
    ratio : float
        More than 1; the larger, the wider the band in which diffusion goes backward.

    Raises
    ------
    ValueError
        For an unknown diffusivity, a number out of range.

    References
    ----------
    Gilboa, Sochen, Zeevi: Forward-and-backward diffusion processes for adaptive image enhancement and denoising. IEEE
    Trans. Image Process. 2002. Welk, Weickert, Gilboa: A discrete theory and efficient algorithms for
    forward-and-backward diffusion filtering. J. Math. Imaging Vis. 2018.
    """

    contrast: float = parameter(CONTRAST, statistic=False, aliases=("kappa", "k"))
    extent: float = parameter(Number(unit="image units", above=0))
    diffusivity: str = parameter(Choice(tuple(DIFFUSIVITY_ROWS)), default="exponential")
    ratio: float = parameter(Number(unit="1", above=1), default=2.0)

    equation = "∂u/∂t = div(g(|∇u|) ∇u), g < 0 in a band"
    reference = "Gilboa, Sochen and Zeevi 2002; Welk, Weickert and Gilboa 2018"
    samples = Samples(
        (
            {"contrast": 5e3, "extent": 2.1e4},
            {"contrast": 5e3, "extent": 2.1e4, "diffusivity": "rational"},
        )
    )
    picture = Picture("noisy man", {"contrast": 20, "extent": 255}, {"time": 2})
    radius = 2
    keeps_maximum = True
    keeps_mean = True
    pace_2d = 1.3e9

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 S max(1, S K extent² / 2)), S = Σ 1/h², which keeps the maximum principle.

        Let a cell be d below the largest value. Its |∇u|² is at most d extent S, so it is pushed up by backward
        diffusion with a flux of at most K |∇u|² / 2 extent, where K = max (c - g) / s² and -c is the least g;
        neighbours above it pull by at most d. Both together are less than d / dt.
        """
        total = sum(1 / h**2 for h in spacing)
        return 1 / (2 * total * max(1.0, total * self._bound * self.extent**2 / 2))

    @property
    def _bound(self) -> float:
        """K = max (c - g(s)) / s² over all slopes, c = -min g."""
        q = np.geomspace(1e-4, 1e4, 100_001) * self.contrast**2
        g = self._diffusivity(q)
        # Between the samples, a ten-thousandth apart, neither changes by more than this.
        return 1.001 * float(np.max((-g.min() - g) / q))

    def _diffusivity(self, q: Any) -> Any:
        """Return g of s² = q."""
        numbers = self.numbers((1.0,), 0.0)
        if self.diffusivity == "exponential":
            return 2 * np.exp(-numbers[0] * q) - np.exp(-numbers[1] * q)
        forward, b, w, d = numbers
        return 1 / (1 + (forward * q) ** 2) - d / (1 + ((np.sqrt(q) - b) * w) ** 2)

    def update(self) -> Callable[..., None]:
        """Return the row of fluxes."""
        return forward_backward_row

    def prepare(self) -> Callable[..., None]:
        """Return the row of the diffusivity."""
        return DIFFUSIVITY_ROWS[self.diffusivity]

    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return the numbers of g, see its function."""
        k, r = self.contrast, self.ratio
        if self.diffusivity == "exponential":
            a = math.log(2) * r**2 / (r**2 - 1) / k**2
            return [a, a / r**2]
        b, w = r * k, r * k / 4
        return [1 / k**2, b, 1 / w, k / (2 * (b + w))]
