"""Conjugate gradients with one reduction per iteration (Chronopoulos and Gear 1989), in a fixed order of sums.

An iteration knows r = b - A x, always made anew, and z = M r. With gamma = r·z and delta = z·(A z),

    beta = gamma / gamma_before,  alpha = gamma / (delta - beta gamma / alpha_before),
    p = z + beta p,  x = x + alpha p.

Products are summed within cells of 32 pixels and then without rounding, so that no tiling changes a bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Steps:
    """The steps of an iteration.

    Attributes
    ----------
    alpha, beta : float
        Length of the step, and part of the direction before.
    gamma : float
        The product r·z that they follow from.
    """

    alpha: float
    beta: float
    gamma: float

    @classmethod
    def after(cls, gamma: float, delta: float, before: Steps | None) -> Steps:
        """Return the steps for the products of an iteration; steps of 0 where there is nothing left to do."""
        beta = gamma / before.gamma if before is not None and before.gamma > 0 else 0.0
        curvature = delta - beta * gamma / before.alpha if before is not None and before.alpha > 0 else delta
        if not (gamma > 0 and curvature > 0 and math.isfinite(gamma / curvature)):
            return cls(0.0, 0.0, 0.0)
        return cls(gamma / curvature, beta, gamma)
