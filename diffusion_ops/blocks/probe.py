"""Probe an operator with random signs that a counter fixes: the same for the same seed, in any order and anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from diffusion_ops.blocks.block import Floats


def random_words(seed: int, stream: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return `count` words of 64 random bits (Philox, Salmon et al. 2011); each (seed, stream) has its own."""
    return np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(count)


def random_parts(seed: int, stream: int, count: int) -> Floats:
    """Return numbers evenly spread over [0, 1)."""
    return (random_words(seed, stream, count) >> np.uint64(11)) * 2.0**-53


def random_signs(seed: int, stream: int, shape: tuple[int, ...]) -> Floats:
    """Return -1 and +1 with even chances."""
    count = math.prod(shape)
    words = random_words(seed, stream, -(-count // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), count=count, bitorder="little")
    return (2.0 * bits - 1.0).reshape(shape)


PROBE = 0.05
"""Size of a probe in noise levels: 1 grey level at noise 20, far above rounding and far below what edges are."""


def probed(image: Floats, noise: float, seed: int, stream: int) -> Floats:
    """Return the image with random signs of the probe's size added."""
    return (image + PROBE * noise * random_signs(seed, stream, image.shape)).astype(image.dtype)


def divergence(inputs: Sequence[Floats], results: Sequence[Floats], noise: float) -> Floats:
    """Return the field whose mean estimates the derivative of a result's cell by the same cell of the image.

    It is the probe, as rounding left it, times the change of the result, by the square of the probe's size.
    """
    probe, change = (np.subtract(b, a, dtype=np.float64) for a, b in (inputs, results))
    return probe * change / (PROBE * noise) ** 2
