"""Random numbers that a counter fixes: the same for the same seed and place, in any order and on any machine."""

from __future__ import annotations

import math

import numpy as np

from diffusion_ops.block import Floats


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
