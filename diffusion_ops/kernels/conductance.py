"""Edge-stopping functions g(q) of q = (s / contrast)², for numbers and groups of lanes, with equal bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from diffusion_ops.kernels.lanes import INLINED, Lanes, divide_by_power

CONDUCTANCES: tuple[str, ...] = ("exponential", "rational", "charbonnier", "tukey", "weickert")
"""Names of the conductances; kernels know one by its position."""

CONSTANT, FROZEN = -1, -2
"""Two more numbers: g = 1, and g read from face arrays that were filled at the start of a cycle."""


def _real(x: Any) -> Any:
    """Return the NumPy type of a compiler's float or group of floats."""
    return np.float32 if (x.dtype if isinstance(x, Lanes) else x) == types.float32 else np.float64


def exp_negative(x: Any) -> Any:
    """Return exp(-x) for x >= 0; compiled only, see `_exp_negative`."""
    raise TypeError("exp_negative is called from compiled code only; use numpy.exp here.")


@overload(exp_negative, jit_options=INLINED)
def _exp_negative(x: Any) -> Callable[..., Any]:
    """Return exp(-x) for x >= 0 within 1.5 ulp; beyond x = 80 it stays at exp(-80) = 1.8e-35.

    exp(-x) = exp(r) / 2**n with n = rint(x / ln 2), |r| <= ln(2) / 2, a minimax polynomial for exp(r) (error
    3e-9 and 2e-17), and 2**n made of bits. The library's exp is a call per cell that does not vectorise. ln 2
    is split in a part of so few bits that n times it is exact, and a rest (Cody and Waite 1980). The
    polynomials are summed in pairs: a chain of one term after another took 1.4 times as long per step.
    """
    real = _real(x)
    limit, log2e, one, half = real(80), real(1 / math.log(2)), real(1), real(0.5)
    if real == np.float32:
        rounder, high, low = real(1.5 * 2**23), real(0.693359375), real(-2.12194440e-4)
        c3, c4 = real(0.16666520631651577), real(0.04166838804986309)
        c5, c6 = real(0.008368716885148472), real(0.00138145984814816)

        def exp32(x: Any) -> Any:
            x = min(x, limit)
            shifted = x * log2e + rounder
            n = shifted - rounder
            r = (n * high - x) + n * low
            r2 = r * r
            p = (one + r) + r2 * ((half + c3 * r) + r2 * ((c4 + c5 * r) + r2 * c6))
            return divide_by_power(p, shifted)

        return exp32
    rounder, high, low = real(1.5 * 2**52), real(6.93147180369123816490e-01), real(1.90821492927058770002e-10)
    d3, d4, d5 = 0.16666666666666669, 0.041666666666624164, 0.008333333333330065
    d6, d7, d8 = 0.0013888888917196719, 0.00019841269863040545, 2.4801521322368692e-05
    d9, d10, d11 = 2.7557268480310024e-06, 2.7620075879983367e-07, 2.5100375832561234e-08

    def exp64(x: Any) -> Any:
        x = min(x, limit)
        shifted = x * log2e + rounder
        n = shifted - rounder
        r = (n * high - x) + n * low
        r2 = r * r
        r4 = r2 * r2
        upper = ((d6 + d7 * r) + r2 * (d8 + d9 * r)) + r4 * (d10 + d11 * r)
        p = (one + r) + r2 * ((half + d3 * r) + (r2 * (d4 + d5 * r) + r4 * upper))
        return divide_by_power(p, shifted)

    return exp64


def conductance(kind: int, q: Any) -> Any:
    """Return g(q) of the conductance numbered `kind`; compiled only, see `_conductance`."""
    raise TypeError("conductance is called from compiled code only.")


@overload(conductance, jit_options=INLINED, prefer_literal=True)
def _conductance(kind: Any, q: Any) -> Callable[..., Any] | None:
    """Return the conductance g of q = (s / contrast)², with g(0) = 1; `kind` is a constant of the caller.

    exponential exp(-q) and rational 1 / (1 + q) (Perona and Malik 1990), charbonnier 1 / sqrt(1 + q)
    (Charbonnier et al. 1994), tukey max(1 - q / 5, 0)² (Black et al. 1998), weickert 1 - exp(-3.31488 / q⁴)
    (Weickert 1998).
    """
    if not isinstance(kind, types.IntegerLiteral):
        return None
    real = _real(q)
    zero, one, fifth, weickert_c = real(0), real(1), real(0.2), real(3.31488)

    def exponential(kind: Any, q: Any) -> Any:
        return exp_negative(q)

    def rational(kind: Any, q: Any) -> Any:
        return one / (one + q)

    def charbonnier(kind: Any, q: Any) -> Any:
        return one / math.sqrt(one + q)

    def tukey(kind: Any, q: Any) -> Any:
        t = max(one - q * fifth, zero)
        return t * t

    def weickert(kind: Any, q: Any) -> Any:
        q2 = q * q
        return one - exp_negative(weickert_c / (q2 * q2))

    def constant(kind: Any, q: Any) -> Any:
        return one + q * zero

    if kind.literal_value < 0:
        return constant
    return (exponential, rational, charbonnier, tukey, weickert)[kind.literal_value]
