"""Put random numbers on the cells of a block, by laws that add, multiply, replace or count."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from diffusion_ops.blocks.block import Block
from diffusion_ops.kernels.conductance import exp_negative
from diffusion_ops.kernels.lanes import copied, kernel
from diffusion_ops.kernels.logarithm import log64
from diffusion_ops.kernels.philox import (
    LOW_WORD,
    closed_unit64,
    first_index,
    gaussian,
    half_open_unit64,
    philox,
    stream_key,
    uniform,
)

LAWS: tuple[str, ...] = ("gaussian", "uniform", "speckle", "impulse", "poisson")
"""Names of the laws; kernels know one by its position."""

_FACTORIALS = np.array([math.factorial(k) for k in range(10)], np.float64)
_ONE_MORE = np.uint64(1)
_FEW = 10.0


def _changed(law: int, u: Any, words: Any, numbers: Any) -> Any:
    """Return a value changed by a law that needs one draw per cell; compiled only, see `_changed_by`."""
    raise TypeError("_changed is called from compiled code only.")


@overload(_changed, inline="always", prefer_literal=True)
def _changed_by(law: Any, u: Any, words: Any, numbers: Any) -> Callable[..., Any] | None:
    """Return the law numbered `law`, a constant of the caller; numbers[0] is its level."""
    if not isinstance(law, types.IntegerLiteral):
        return None
    real = np.float32 if u == types.float32 else np.float64
    half, root12 = real(0.5), real(math.sqrt(12))

    def by_gaussian(law: Any, u: Any, words: Any, numbers: Any) -> Any:
        return u + gaussian(u, words) * numbers[0]

    def by_uniform(law: Any, u: Any, words: Any, numbers: Any) -> Any:
        return u + (uniform(u, words) - half) * (numbers[0] * root12)

    def by_speckle(law: Any, u: Any, words: Any, numbers: Any) -> Any:
        return u + u * (gaussian(u, words) * numbers[0])

    def by_impulse(law: Any, u: Any, words: Any, numbers: Any) -> Any:
        x = uniform(u, words)
        return numbers[1] if x < numbers[0] * half else (numbers[2] if x < numbers[0] else u)

    return (by_gaussian, by_uniform, by_speckle, by_impulse)[law.literal_value]


@functools.cache
def build_noise(law: int) -> Callable[..., None]:
    """Compile the noise of one law on one channel."""
    if law == LAWS.index("poisson"):
        return put_counts

    @kernel
    def change(u, grid, first, grain, draw, key, numbers):  # type: ignore[no-untyped-def]
        """Change u, flat (cells,), whose first cell has the index `first` = (x, y, z), by the draw of that number.

        Cells whose indices share all but the last `grain` bits share their numbers.
        """
        planes, rows, columns, pitch = grid
        for p in range(planes):
            for m in range(rows):
                y = ((first[1] + np.uint64(m)) & LOW_WORD) >> grain
                z = ((first[2] + np.uint64(p)) & LOW_WORD) >> grain
                row = u[(p * rows + m) * pitch : (p * rows + m) * pitch + columns]
                for j in range(columns):
                    x = ((first[0] + np.uint64(j)) & LOW_WORD) >> grain
                    row[j] = _changed(law, row[j], philox(x, y, z, draw, key[0], key[1]), numbers)

    return change


@copied
def _log_factorial(k):  # type: ignore[no-untyped-def]
    """Return ln k!, by Stirling's series from 10 on (error 1e-13)."""
    if k < _FEW:
        return log64(_FACTORIALS[int(k)])
    r = 1.0 / k
    r2 = r * r
    tail = r * (1 / 12 - r2 * (1 / 360 - r2 * (1 / 1260 - r2 * (1 / 1680))))
    return (k + 0.5) * log64(k) - k + 0.9189385332046727 + tail


@copied
def _poisson_by_search(mean, v):  # type: ignore[no-untyped-def]
    """Return the smallest k whose cumulative probability exceeds v, for a small mean."""
    k, term = 0.0, exp_negative(mean)
    total = term
    while v >= total and term > 0.0:
        k += 1.0
        term *= mean / k
        total += term
    return k


@copied
def _poisson_by_rejection(mean, index, key):  # type: ignore[no-untyped-def]
    """Return a Poisson count of mean >= 10 by transformed rejection (Hörmann 1993, PTRS); one draw per attempt."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha, accept = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0)
    log_mean, draw = log64(mean), np.uint64(0)
    while True:
        words = philox(index[0], index[1], index[2], draw, key[0], key[1])
        u, v = half_open_unit64(words[0], words[2]) - 0.5, closed_unit64(words[1], words[3])
        us = 0.5 - abs(u)
        # At us = 0 the hat has no end: an infinite count is rejected below.
        k = np.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= accept:
            return k
        if k >= 0.0 and (us >= 0.013 or v <= us):
            hat = log64(v * inverse_alpha / (a / (us * us) + b))
            if hat <= k * log_mean - mean - _log_factorial(k):
                return k
        draw += _ONE_MORE


@kernel
def put_counts(u, grid, first, grain, draw, key, numbers):  # type: ignore[no-untyped-def]
    """Replace u by level times a Poisson count of mean u / level, level = numbers[0]; draws count attempts."""
    planes, rows, columns, pitch = grid
    level = np.float64(numbers[0])
    for p in range(planes):
        for m in range(rows):
            y = ((first[1] + np.uint64(m)) & LOW_WORD) >> grain
            z = ((first[2] + np.uint64(p)) & LOW_WORD) >> grain
            for j in range(columns):
                x = ((first[0] + np.uint64(j)) & LOW_WORD) >> grain
                i = (p * rows + m) * pitch + j
                mean, k = np.float64(u[i]) / level, 0.0
                if mean >= _FEW:
                    k = _poisson_by_rejection(mean, (x, y, z), key)
                elif mean > 0.0:
                    words = philox(x, y, z, draw, key[0], key[1])
                    k = _poisson_by_search(mean, half_open_unit64(words[0], words[2]))
                u[i] = k * level


def put_noise(
    block: Block, law: str, numbers: Sequence[float], seed: int, *, draw: int = 0, grain: int = 1
) -> None:
    """Change the state of a block by noise that depends on the position in the image only, in place.

    Parameters
    ----------
    block : Block
        Its origin and frame say where in the image it is.
    law : str
        One of LAWS.
    numbers : sequence of float
        What the law asks for: level; for impulses also the values of pepper and salt.
    seed, draw : int
        The key, and how many numbers of the same cell come before.
    grain : int
        Width in cells of the squares that share a number: a power of two.
    """
    kernel, args = build_noise(LAWS.index(law)), tuple(block.storage.dtype.type(x) for x in numbers)
    first, bits = first_index(block), np.uint64(grain.bit_length() - 1)
    for c, channel in enumerate(block.storage):
        kernel(channel, block.grid, first, bits, np.uint64(draw), stream_key(seed, c, block.frame), args)
