"""Turn structure tensors into diffusion tensors, in place: the same axes, eigenvalues that say how much may flow."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from diffusion_ops.blocks.block import LANES, Floats
from diffusion_ops.kernels.conductance import CONDUCTANCES, conductance, exp_negative
from diffusion_ops.kernels.eigen import plane_spread, volume_eigen
from diffusion_ops.kernels.lanes import begin, copied, inlined, kernel, load, store

LAWS: tuple[str, ...] = (*CONDUCTANCES, "threshold")
"""Names of the functions that give the eigenvalue of D along an axis from q = s / contrast²; kernels use positions.

"threshold" is 1 - exp(-1 / q^m) of Weickert 1998 with any whole m, the form of ITK.
"""

ENHANCEMENTS: tuple[str, ...] = ("eed", "ceed", "isotropic", "ced", "cced")
"""What s is for an axis with eigenvalue mu: mu - least; mu; most; most - mu; (most - mu) / (1 + mu / contrast²).

The flow falls with s in the first three, which keep edges, and grows in the last two, which close lines.
"""

_THRESHOLD, _CLOSING = LAWS.index("threshold"), ENHANCEMENTS.index("ced")

_MANY = 1e30
"""Stands for an infinite ratio, whose powers would not be numbers."""


@inlined
def _power(x, exponent):  # type: ignore[no-untyped-def]
    """Return x to a whole power of at least 1."""
    result = x
    for _ in range(exponent - 1):
        result = min(result * x, _MANY)
    return result


@inlined
def _contrast_of(enhancement, q, least, most):  # type: ignore[no-untyped-def]
    """Return s of an axis with eigenvalue q, all in units of contrast²; see `ENHANCEMENTS`."""
    if enhancement == 0:
        return max(q - least, 0.0)
    if enhancement == 1:
        return q
    if enhancement == 2:
        return most
    if enhancement == 3:
        return max(most - q, 0.0)
    return max(most - q, 0.0) / (q + 1.0)


@copied
def _flow(law, enhancement, exponent, q, least, most, floor):  # type: ignore[no-untyped-def]
    """Return the eigenvalue of D along an axis with eigenvalue q, in units of contrast²."""
    s = _contrast_of(enhancement, q, least, most)
    if enhancement >= _CLOSING:
        g = exp_negative(_power(min(1.0 / s, _MANY), exponent))
    elif law == _THRESHOLD:
        g = 1.0 - exp_negative(_power(min(1.0 / s, _MANY), exponent))
    else:
        g = conductance(law, s)
    return g * (1.0 - floor) + floor


@functools.cache
def build_diffusivity(law: int, enhancement: int, exponent: int, volume: bool) -> Callable[..., None]:
    """Compile the change of eigenvalues for one choice of flow."""

    @kernel
    def fill_diffusivity(tensor, scale, floor, ratio):  # type: ignore[no-untyped-def]
        """Replace J, flat (components, corners), by D; scale is 1 / contrast², ratio the least of the eigenvalues'."""
        n = tensor.shape[0] // (6 if volume else 3)
        tensor = begin(tensor)
        for i in range(0, n, LANES):
            a, b, c = load(tensor, i) * scale, load(tensor, n + i) * scale, load(tensor, 2 * n + i) * scale
            if volume:
                d, e, f = load(tensor, 3 * n + i), load(tensor, 4 * n + i), load(tensor, 5 * n + i)
                mu, axes = volume_eigen(a, b, c, d * scale, e * scale, f * scale)
                x, y, z = max(mu[0], 0.0), max(mu[1], 0.0), max(mu[2], 0.0)
                least, most = min(min(x, y), z), max(max(x, y), z)
                x = _flow(law, enhancement, exponent, x, least, most, floor)
                y = _flow(law, enhancement, exponent, y, least, most, floor)
                z = _flow(law, enhancement, exponent, z, least, most, floor)
                bound = max(max(x, y), z) * ratio
                x, y, z = max(x, bound), max(y, bound), max(z, bound)
                u, v, w = axes
                store(tensor, i, x * u[0] * u[0] + y * v[0] * v[0] + z * w[0] * w[0])
                store(tensor, n + i, x * u[1] * u[1] + y * v[1] * v[1] + z * w[1] * w[1])
                store(tensor, 2 * n + i, x * u[2] * u[2] + y * v[2] * v[2] + z * w[2] * w[2])
                store(tensor, 3 * n + i, x * u[0] * u[1] + y * v[0] * v[1] + z * w[0] * w[1])
                store(tensor, 4 * n + i, x * u[0] * u[2] + y * v[0] * v[2] + z * w[0] * w[2])
                store(tensor, 5 * n + i, x * u[1] * u[2] + y * v[1] * v[2] + z * w[1] * w[2])
            else:
                mean, radius, cos2, sin2 = plane_spread(a, b, c)
                least, most = max(mean - radius, 0.0), mean + radius
                x = _flow(law, enhancement, exponent, most, least, most, floor)
                y = _flow(law, enhancement, exponent, least, least, most, floor)
                bound = max(x, y) * ratio
                x, y = max(x, bound), max(y, bound)
                middle, half = (x + y) * 0.5, (x - y) * 0.5
                store(tensor, i, middle + half * cos2)
                store(tensor, n + i, middle - half * cos2)
                store(tensor, 2 * n + i, half * sin2)

    return fill_diffusivity


def to_diffusivity(
    tensor: Floats,
    contrast: float,
    law: str,
    enhancement: str,
    exponent: int = 2,
    floor: float = 0.0,
    condition: float = math.inf,
) -> Floats:
    """Turn structure tensors into diffusion tensors in place, and return them.

    Parameters
    ----------
    tensor : ndarray of shape (3 or 6, any)
        J, as `structure_tensor` and `corner_structure` return it.
    contrast : float
        In image units per unit length; its square is what eigenvalues are compared with.
    law, enhancement : str
        One of `LAWS`, which "ced" and "cced" do not read, and one of `ENHANCEMENTS`.
    exponent : int
        Of the law "threshold" and of "ced" and "cced": floor + (1 - floor) exp(-(contrast² / s)^exponent).
    floor : float
        Least eigenvalue of D; the greatest is 1.
    condition : float
        Most that the eigenvalues of one tensor may differ by, as a ratio.
    """
    real = tensor.dtype.type
    fill = build_diffusivity(LAWS.index(law), ENHANCEMENTS.index(enhancement), exponent, len(tensor) == 6)
    fill(tensor.reshape(-1), real(contrast**-2), real(floor), real(1 / condition))
    return tensor
