"""Score by the distance of what was removed from the noise level (discrepancy principle)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.tuning.criterion import CRITERIA, Criterion


@CRITERIA.register("discrepancy")
class Discrepancy(Criterion):
    """Distance of the root mean square of what was removed from the noise level s: | sqrt(mean |D(f) - f|²) - s |.

    Morozov: On the solution of functional equations by the method of regularization, 1966.
    """

    needs_noise = True

    def disturbed(
        self, image: Floats, valid: Bools | None, noise: float, seed: int, stream: int
    ) -> list[Floats]:
        """Return no copies: one run is enough."""
        return []

    def terms(self, inputs: Sequence[Floats], results: Sequence[Floats], noise: float) -> list[Floats]:
        """Return the squared residual."""
        return [np.subtract(results[0], inputs[0], dtype=np.float64) ** 2]

    def score(self, means: Sequence[float], noise: float) -> float:
        """Return the distance, in image units."""
        return abs(float(np.sqrt(means[0])) - noise)
