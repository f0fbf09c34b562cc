"""Score by the correlation of what was removed with the result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.tuning.criterion import CRITERIA, Criterion


@CRITERIA.register("decorrelation")
class Decorrelation(Criterion):
    """Correlation coefficient of what was removed, f - D(f), with the result D(f).

    It needs no noise level and a single run, and is less reliable than the other criteria (Mrazek and Navara: Selection
    of optimal stopping time for nonlinear diffusion filtering, Int. J. Comput. Vision 2003).
    """

    needs_noise = False

    def disturbed(
        self, image: Floats, valid: Bools | None, noise: float, seed: int, stream: int
    ) -> list[Floats]:
        """Return no copies: one run is enough."""
        return []

    def terms(self, inputs: Sequence[Floats], results: Sequence[Floats], noise: float) -> list[Floats]:
        """Return the two fields, their squares and their product."""
        left = results[0].astype(np.float64)
        removed = inputs[0] - left
        return [removed, left, removed**2, left**2, removed * left]

    def score(self, means: Sequence[float], noise: float) -> float:
        """Return the correlation coefficient; 1, the worst, where what was removed or the result is constant."""
        removed, left, removed_squared, left_squared, product = means
        variances = (removed_squared - removed**2) * (left_squared - left**2)
        return (product - removed * left) / math.sqrt(variances) if variances > 0 else 1.0

    def best(self, scores: Sequence[float]) -> int:
        """Return the index of the first minimum; later ones come from nearly constant results."""
        rising = (i for i, (here, following) in enumerate(itertools.pairwise(scores)) if following > here)
        return next(rising, len(scores) - 1)
