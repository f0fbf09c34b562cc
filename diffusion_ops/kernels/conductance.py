"""Edge-stopping functions g(q) of q = (s / contrast)², written to vectorise and to give the same bits anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

CONDUCTANCES: tuple[str, ...] = ("exponential", "rational", "charbonnier", "tukey", "weickert")
"""What a user may ask for; the position is the number that the kernels know it by."""

CONSTANT, FROZEN = -1, -2
"""Two more numbers: g = 1, and g read from face arrays that were filled at the start of a cycle."""


@intrinsic
def power_of_two(typingctx: Any, n: Any) -> Any:
    """Return 2**n as a float as wide as the integer n, by its exponent bits; exact for normal results."""
    result, bias, mantissa = {
        types.int32: (types.float32, 127, 23),
        types.int64: (types.float64, 1023, 52),
    }[n]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = args[0].type
        bits = builder.shl(builder.add(args[0], integer(bias)), integer(mantissa))
        return builder.bitcast(bits, context.get_value_type(result))

    return result(n), codegen


def _constants(x: Any) -> tuple[Any, Any, int, float, float]:
    """Return (float type, integer type, polynomial degree, high and low part of ln 2) for a numba float type.

    The high part has so few bits that n * high is exact for every n that occurs (Cody and Waite 1980).
    """
    if x == types.float32:
        return np.float32, np.int32, 7, 0.693359375, -2.12194440e-4
    return np.float64, np.int64, 13, 6.93147180369123816490e-01, 1.90821492927058770002e-10


def exp_negative(x: Any) -> Any:
    """Return exp(-x) for x >= 0; compiled only, see `_exp_negative`."""
    raise TypeError("exp_negative is called from compiled code only; use numpy.exp here.")


@overload(exp_negative, inline="always")
def _exp_negative(x: Any) -> Callable[..., Any]:
    """Return exp(-x) for x >= 0 within 1.5 ulp; beyond x = 80 it stays at exp(-80) = 1.8e-35.

    exp(-x) = 2**n exp(r) with |r| <= ln(2) / 2, a Taylor polynomial for exp(r), and 2**n made of bits. The library's
    exp is a call per pixel that does not vectorise.
    """
    real, integer, degree, high, low = _constants(x)
    limit, log2e, half = real(80), real(1 / math.log(2)), real(0.5)
    ln2_high, ln2_low = real(high), real(low)
    one = real(1)
    if degree == 7:
        c2, c3, c4, c5, c6, c7 = (real(1 / math.factorial(i)) for i in range(2, 8))

        def exp32(x: Any) -> Any:
            x = min(x, limit)
            n = np.floor(half - x * log2e)
            r = (-x - n * ln2_high) - n * ln2_low
            p = one + r * (one + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))))))
            return p * power_of_two(integer(n))

        return exp32
    d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13 = (real(1 / math.factorial(i)) for i in range(2, 14))

    def exp64(x: Any) -> Any:
        x = min(x, limit)
        n = np.floor(half - x * log2e)
        r = (-x - n * ln2_high) - n * ln2_low
        p = d8 + r * (d9 + r * (d10 + r * (d11 + r * (d12 + r * d13))))
        p = one + r * (one + r * (d2 + r * (d3 + r * (d4 + r * (d5 + r * (d6 + r * (d7 + r * p)))))))
        return p * power_of_two(integer(n))

    return exp64


def conductance(kind: int, q: Any) -> Any:
    """Return g(q) of the conductance numbered `kind`; compiled only, see `_conductance`."""
    raise TypeError("conductance is called from compiled code only.")


@overload(conductance, inline="always")
def _conductance(kind: Any, q: Any) -> Callable[..., Any]:
    """Return the conductance g of q = (s / contrast)², with g(0) = 1.

    exponential exp(-q) and rational 1 / (1 + q) (Perona and Malik 1990), charbonnier 1 / sqrt(1 + q) (Charbonnier et
    al. 1994), tukey max(1 - q / 5, 0)² (Black et al. 1998), weickert 1 - exp(-3.31488 / q⁴) (Weickert 1998).
    """
    real = _constants(q)[0]
    zero, one, fifth, weickert = real(0), real(1), real(0.2), real(3.31488)

    def g(kind: Any, q: Any) -> Any:
        if kind == 0:
            return exp_negative(q)
        if kind == 1:
            return one / (one + q)
        if kind == 2:
            return one / np.sqrt(one + q)
        if kind == 3:
            t = max(one - q * fifth, zero)
            return t * t
        q2 = q * q
        return one - exp_negative(weickert / (q2 * q2))

    return g
