"""Natural logarithms by polynomials: those of a library differ from machine to machine and do not vectorise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from diffusion_ops.kernels.lanes import copied


@copied
def log32(u):  # type: ignore[no-untyped-def]
    """Return ln u of a normal float32 within 1 ulp: u = m 2**e with sqrt(1/2) <= m < sqrt(2), ln m = 2 artanh(s).

    The polynomial in s² is the minimax one, of error 8e-10.
    """
    bits = np.float32(u).view(np.int32)
    e = (bits - np.int32(0x3F3504F3)) >> 23
    m = np.int32(bits - (e << 23)).view(np.float32)
    one = np.float32(1)
    s = (m - one) / (m + one)
    z, twice, n = s * s, s + s, np.float32(e)
    p = np.float32(0.3333338819085318) + z * (
        np.float32(0.19988770783194557) + z * np.float32(0.1493586398923487)
    )
    return n * np.float32(0.693359375) + (twice + (twice * z * p + n * np.float32(-2.12194440e-4)))


@copied
def log64(u):  # type: ignore[no-untyped-def]
    """Return ln u of a normal float64 within 1 ulp, as `log32`; error of the polynomial 1.3e-18."""
    bits = np.float64(u).view(np.int64)
    e = (bits - np.int64(0x3FE6A09E667F3BCD)) >> 52
    m = np.int64(bits - (e << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z, twice, n = s * s, s + s, np.float64(np.int32(e))
    z2 = z * z
    p = (0.3333333333333367 + z * 0.19999999999707335) + z2 * (
        (0.14285714371194294 + z * 0.11111099286553461)
        + z2 * ((0.09091782164672996 + z * 0.07657025242610169) + z2 * 0.07397975123362532)
    )
    return n * 6.93147180369123816490e-01 + (twice + (twice * z * p + n * 1.90821492927058770002e-10))


def logarithm(u: Any) -> Any:
    """Return ln u of a normal float in its own type; compiled only, see `log32` and `log64`."""
    raise TypeError("logarithm is called from compiled code only; use numpy.log here.")


@overload(logarithm, inline="always")
def _logarithm(u: Any) -> Callable[..., Any]:
    def logarithm32(u: Any) -> Any:
        return log32(u)

    def logarithm64(u: Any) -> Any:
        return log64(u)

    return logarithm32 if u == types.float32 else logarithm64
