"""Random numbers that depend on the seed and on the position in the image only: Philox4x32-10 by counters.

The four words that a cell draws are a function of the key and of the counter (x, y, z, draw), where x, y, z
is the cell's index in the image. So every tile, batch, thread and machine finds the same numbers, and
nothing has to be kept or skipped. The cosine is an own polynomial, because that of a library differs from
machine to machine and does not vectorise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from diffusion_ops.blocks.block import Block
from diffusion_ops.kernels.lanes import copied
from diffusion_ops.kernels.logarithm import log32, log64

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW_WORD, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
_DROP1, _DROP8, _DROP10 = np.uint64(1), np.uint64(8), np.uint64(10)

# An odd number: streams of one seed never share a key.
_STRIDE = 0x9E3779B97F4A7C15
_CHANNELS = 1 << 20


@copied
def philox(x, y, z, w, k0, k1):  # type: ignore[no-untyped-def]
    """Return the four words of Philox4x32-10 for a counter (x, y, z, w) and a key (k0, k1).

    All are 32-bit words in uint64, the form in which a product is one instruction of eight lanes.

    References
    ----------
    Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
    """
    for _ in range(10):
        p, q = x * _M0, z * _M1
        x, y, z, w = (q >> _WORD) ^ y ^ k0, q & LOW_WORD, (p >> _WORD) ^ w ^ k1, p & LOW_WORD
        k0, k1 = (k0 + _W0) & LOW_WORD, (k1 + _W1) & LOW_WORD
    return x, y, z, w


@copied
def closed_unit32(a, c):  # type: ignore[no-untyped-def]
    """Return the middle of one of 2**31 equal parts of (0, 1), which float32 may round to 1."""
    return np.float32(np.int32(a >> _DROP1)) * np.float32(2.0**-31) + np.float32(2.0**-32)


@copied
def closed_unit64(a, c):  # type: ignore[no-untyped-def]
    """Return the middle of one of 2**53 equal parts of (0, 1), which float64 may round to 1."""
    return half_open_unit64(a, c) + 2.0**-54


@copied
def half_open_unit32(a, c):  # type: ignore[no-untyped-def]
    """Return the lower end of one of 2**24 equal parts of [0, 1)."""
    return np.float32(np.int32(a >> _DROP8)) * np.float32(2.0**-24)


@copied
def half_open_unit64(a, c):  # type: ignore[no-untyped-def]
    """Return the lower end of one of 2**53 equal parts of [0, 1)."""
    return np.float64(np.int32(a >> _DROP1)) * 2.0**-31 + np.float64(np.int32(c >> _DROP10)) * 2.0**-53


def uniform(like: Any, words: Any) -> Any:
    """Return a number in [0, 1) of the type of `like`; compiled only, see `_uniform`."""
    raise TypeError("uniform is called from compiled code only.")


def gaussian(like: Any, words: Any) -> Any:
    """Return a number of mean 0 and deviation 1 of the type of `like`; compiled only, see `_gaussian`."""
    raise TypeError("gaussian is called from compiled code only.")


@overload(uniform, inline="always")
def _uniform(like: Any, words: Any) -> Callable[..., Any]:
    """Return 24 bits of the first of four words as float32; 53 bits of the first and third as float64.

    The float32 number is the float64 one to rounding: further words only add bits.
    """

    def uniform32(like: Any, words: Any) -> Any:
        return half_open_unit32(words[0], words[2])

    def uniform64(like: Any, words: Any) -> Any:
        return half_open_unit64(words[0], words[2])

    return uniform32 if like == types.float32 else uniform64


@overload(gaussian, inline="always")
def _gaussian(like: Any, words: Any) -> Callable[..., Any]:
    """Return sqrt(-2 ln a) cos(2 pi b) (Box and Muller 1958) with a > 0, so it ends at 6.7 (8.7) sigma.

    The float32 number is the float64 one within 3e-5, but for one in a million: a has 31 bits then, and near 1
    only 24.
    """

    def gaussian32(like: Any, words: Any) -> Any:
        a, b, c, d = words
        return math.sqrt(log32(closed_unit32(a, c)) * np.float32(-2)) * _cosine32(half_open_unit32(b, d))

    def gaussian64(like: Any, words: Any) -> Any:
        a, b, c, d = words
        return math.sqrt(log64(closed_unit64(a, c)) * -2.0) * _cosine64(half_open_unit64(b, d))

    return gaussian32 if like == types.float32 else gaussian64


@copied
def _cosine32(v):  # type: ignore[no-untyped-def]
    """Return cos(2 pi v) for 0 <= v < 1 as sin(2 pi b), b = |v - 1/2| - 1/4: exact, and one odd polynomial.

    The minimax polynomial has an error of 5e-9.
    """
    b = abs(v - np.float32(0.5)) - np.float32(0.25)
    y = b * b
    p = np.float32(81.60223124014647) + y * (
        np.float32(-76.5749921219332) + y * np.float32(39.71091769088314)
    )
    return b * (np.float32(6.283185273790603) + y * (np.float32(-41.341677478352) + y * p))


@copied
def _cosine64(v):  # type: ignore[no-untyped-def]
    """Return cos(2 pi v) for 0 <= v < 1 as `_cosine32`; error of the polynomial 3e-19."""
    b = abs(v - 0.5) - 0.25
    y = b * b
    y2 = y * y
    upper = (42.058693923785206 - y * 15.094641620509055) + y2 * (
        (3.819927050463579 - y * 0.7177235800171415) + y2 * 0.10085633025962458
    )
    p = (6.283185307179586 - y * 41.341702240399755) + y2 * (
        (81.60524927607341 - y * 76.7058597527985) + y2 * upper
    )
    return b * p


Key = tuple[np.uint64, np.uint64]
Index = tuple[np.uint64, np.uint64, np.uint64]


def check_seed(seed: object) -> None:
    """Refuse what is not a whole number of 64 bits.

    Raises
    ------
    ValueError
        With what was given and the range.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) < 1 << 64:
        raise ValueError(f"seed={seed!r} is not possible. Allowed: a whole number from 0 to 2**64 - 1.")


def stream_key(seed: int, channel: int, frame: int) -> Key:
    """Return the key of one channel of one frame: the seed itself for the first of both.

    Streams are an odd number apart modulo 2**64, so no two channels or frames of a seed share a key.
    """
    key = (int(seed) + (frame * _CHANNELS + channel) * _STRIDE) % (1 << 64)
    return np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)


def first_index(block: Block) -> Index:
    """Return the index (x, y, z) in the image of a block's first cell; z is 0 in 2-D."""
    x, y, z = (*reversed(block.origin), 0)[:3]
    return np.uint64(x), np.uint64(y), np.uint64(z)
