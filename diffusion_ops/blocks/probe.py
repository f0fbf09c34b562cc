"""Estimate the divergence of an operator by random signs (Monte-Carlo), which depend on seed and stream alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from diffusion_ops.blocks.block import Floats


def random_words(seed: int, stream: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return `count` words of 64 random bits of a (seed, stream), from Philox (Salmon et al. 2011)."""
    return np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(count)


def uniform_numbers(seed: int, stream: int, count: int) -> Floats:
    """Return random numbers with the uniform distribution on [0, 1)."""
    return (random_words(seed, stream, count) >> np.uint64(11)) * 2.0**-53


def random_signs(seed: int, stream: int, shape: tuple[int, ...]) -> Floats:
    """Return random signs, -1 or +1 with equal probability (Rademacher distribution)."""
    count = math.prod(shape)
    words = random_words(seed, stream, -(-count // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), count=count, bitorder="little")
    return (2.0 * bits - 1.0).reshape(shape)


PROBE_SIZE = 0.05
"""Size of the probe in noise levels: 1 grey level at noise 20, far above rounding and far below edges."""


def add_probe(image: Floats, noise: float, seed: int, stream: int) -> Floats:
    """Return the image plus a probe: random signs times `PROBE_SIZE` noise levels."""
    return (image + PROBE_SIZE * noise * random_signs(seed, stream, image.shape)).astype(image.dtype)


def divergence(inputs: Sequence[Floats], results: Sequence[Floats], noise: float) -> Floats:
    """Return the field whose mean estimates the divergence: the derivative of a result's cell by that of the image.

    It is the probe (after rounding) times the change of the result, over the square of the probe's size. `inputs` and
    `results` are the image without and with the probe, before and after the operator.
    """
    probe, change = (np.subtract(b, a, dtype=np.float64) for a, b in (inputs, results))
    return probe * change / (PROBE_SIZE * noise) ** 2
