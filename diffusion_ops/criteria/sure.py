"""Score by Stein's unbiased risk estimate, with a Monte-Carlo estimate of the divergence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.blocks.probe import add_probe, divergence
from diffusion_ops.tuning.criterion import CRITERIA, Criterion


@CRITERIA.register("sure")
class SURE(Criterion):
    """Mean squared error against the unknown clean image, estimated for white Gaussian noise of known level s.

    SURE = mean |D(f) - f|² - s² + 2 s² div, div = mean b (D(f + eps b) - D(f)) / eps, with one field b of
    random signs (Rademacher numbers; Ramani, Blu and Unser: Monte-Carlo SURE, IEEE Trans. Image Process. 2008).
    """

    needs_noise = True
    estimates_error = True

    def disturbed(
        self, image: Floats, valid: Bools | None, noise: float, seed: int, stream: int
    ) -> list[Floats]:
        """Return the image with a probe of random signs added."""
        return [add_probe(image, noise, seed, stream)]

    def terms(self, inputs: Sequence[Floats], results: Sequence[Floats], noise: float) -> list[Floats]:
        """Return the squared residual and 2 s² times the divergence, per cell."""
        residual = np.subtract(results[0], inputs[0], dtype=np.float64)
        return [residual**2 + 2 * noise**2 * divergence(inputs, results, noise)]

    def score(self, means: Sequence[float], noise: float) -> float:
        """Return the estimated mean squared error, in squared image units."""
        return means[0] - noise**2
