"""Eigenvalues and axes of symmetric 2x2 and 3x3 tensors by square roots and divisions alone, for groups of lanes.

Compiled code only. A fixed number of operations in a fixed order, whatever the tensor: a cell has the same bits in any
group. Scaled by the largest entry, so that neither squares of large gradients overflow nor those of small ones vanish.
"""

from __future__ import annotations

import math

from diffusion_ops.kernels.lanes import choose, inlined

# Convergence is quadratic at last: float64 has its full precision after four sweeps.
_SWEEPS = 4

_TINY = 1e-37
"""Stands in for 0 as a divisor: 0 / 0 is then 0."""


@inlined
def size_of(x):  # type: ignore[no-untyped-def]
    """Return |x|."""
    return max(x, x * -1.0)


@inlined
def plane_spread(a, b, c):  # type: ignore[no-untyped-def]
    """Return mean and half difference of the eigenvalues of (a c; c b), cos 2θ and sin 2θ.

    θ is the angle from x to the axis of the larger eigenvalue; cosine and sine are both 0 where no axis stands out.
    """
    half = (a - b) * 0.5
    h, s = size_of(half), size_of(c)
    most = max(h, s)
    least = min(h, s) / max(most, _TINY)
    radius = most * math.sqrt(least * least + 1.0)
    divisor = max(radius, _TINY)
    return (a + b) * 0.5, radius, half / divisor, c / divisor


@inlined
def plane_eigen(a, b, c):  # type: ignore[no-untyped-def]
    """Return the eigenvalues of (a c; c b), the larger first, and the unit vector (x, y) of the larger."""
    mean, radius, cos2, sin2 = plane_spread(a, b, c)
    x, y = math.sqrt(max(cos2 * 0.5 + 0.5, 0.0)), math.sqrt(max(0.5 - cos2 * 0.5, 0.0))
    return mean + radius, mean - radius, x, choose(sin2 < 0.0, y * -1.0, y)


@inlined
def _rotate(app, aqq, apq, arp, arq, vp, vq):  # type: ignore[no-untyped-def]
    """Turn the axes p and q of a symmetric tensor so that apq vanishes; r is the third axis."""
    d, twice = aqq - app, apq * 2.0
    t = choose(d < 0.0, twice * -1.0, twice) / max(size_of(d) + math.sqrt(d * d + twice * twice), _TINY)
    c = (t * 0.0 + 1.0) / math.sqrt(t * t + 1.0)
    s = t * c
    up = (vp[0] * c - vq[0] * s, vp[1] * c - vq[1] * s, vp[2] * c - vq[2] * s)
    uq = (vp[0] * s + vq[0] * c, vp[1] * s + vq[1] * c, vp[2] * s + vq[2] * c)
    return app - t * apq, aqq + t * apq, arp * c - arq * s, arp * s + arq * c, up, uq


@inlined
def volume_eigen(xx, yy, zz, xy, xz, yz):  # type: ignore[no-untyped-def]
    """Return the three eigenvalues, in no order, and their unit vectors, by cyclic Jacobi rotations."""
    most = max(max(size_of(xx), size_of(yy)), max(size_of(zz), size_of(xy)))
    most = max(max(most, max(size_of(xz), size_of(yz))), _TINY)
    a, b, c, d, e, f = xx / most, yy / most, zz / most, xy / most, xz / most, yz / most
    zero = xx * 0.0
    one = zero + 1.0
    v0, v1, v2 = (one, zero, zero), (zero, one, zero), (zero, zero, one)
    for _ in range(_SWEEPS):
        a, b, e, f, v0, v1 = _rotate(a, b, d, e, f, v0, v1)
        a, c, d, f, v0, v2 = _rotate(a, c, e, zero, f, v0, v2)
        b, c, d, e, v1, v2 = _rotate(b, c, f, d, zero, v1, v2)
        f = zero
    return (a * most, b * most, c * most), (v0, v1, v2)
