"""Stein's unbiased estimate of the error, with a random probe for the divergence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffusion_ops.block import Bools, Floats
from diffusion_ops.criterion import CRITERIA, Criterion
from diffusion_ops.probe import random_signs

_PROBE = 0.05
"""Size of the probe in noise levels: 1 grey level at noise 20, far above rounding and far below what g tells apart."""


@CRITERIA.register("sure")
class SURE(Criterion):
    """Mean squared error against the unknown clean image, estimated from white Gaussian noise of known level s.

    SURE = mean |D(f) - f|² - s² + 2 s² div, div = mean b (D(f + eps b) - D(f)) / eps, with one field b of
    random signs (Ramani, Blu and Unser: Monte-Carlo SURE, IEEE Trans. Image Process. 2008).
    """

    needs_noise = True

    def disturbed(
        self, image: Floats, valid: Bools | None, noise: float, seed: int, stream: int
    ) -> list[Floats]:
        """Return the image with the probe added."""
        signs = random_signs(seed, stream, image.shape)
        return [(image + _PROBE * noise * signs).astype(image.dtype)]

    def terms(self, inputs: Sequence[Floats], results: Sequence[Floats]) -> list[Floats]:
        """Return the squared residual, and the product of the probe with its response."""
        image, result = inputs[0].astype(np.float64), results[0].astype(np.float64)
        return [(result - image) ** 2, probe_response(inputs, results)]

    def score(self, means: Sequence[float], noise: float) -> float:
        """Return the estimated mean squared error, in squared image units."""
        residual, response = means
        return residual - noise**2 + 2 * noise**2 * divergence(response, noise)


def probe_response(inputs: Sequence[Floats], results: Sequence[Floats]) -> Floats:
    """Return the product of the probe, as it came out of rounding, with the change of the result."""
    probe = inputs[1].astype(np.float64) - inputs[0]
    return probe * (results[1].astype(np.float64) - results[0])


def divergence(response: float, noise: float) -> float:
    """Return the mean derivative of a result's cell by the same cell of the image."""
    return response / (_PROBE * noise) ** 2
