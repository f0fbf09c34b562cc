"""Angles of the axes of 2x2 tensors, without the library's arctangent: equal bits on every machine."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from diffusion_ops.blocks.block import LANES, Block, Floats, allocate
from diffusion_ops.kernels.eigen import plane_spread, size_of
from diffusion_ops.kernels.lanes import begin, choose, inlined, kernel, load, store

# Cephes atan: x + x z P(z) / Q(z) with z = x² for |x| <= 0.66 (Moshier 1989).
_P = (
    -8.750608600031904122785e-1,
    -1.615753718733365076637e1,
    -7.500855792314704667340e1,
    -1.228866684490136173410e2,
    -6.485021904942025371773e1,
)
_Q = (
    2.485846490142306297962e1,
    1.650270098316988542046e2,
    4.328810604912902668951e2,
    4.853903996359136964868e2,
    1.945506571482613964425e2,
)


@inlined
def arctangent(y, x):  # type: ignore[no-untyped-def]
    """Return the angle of (x, y) in (-π, π], for groups of lanes; 0 for (0, 0)."""
    a, b = size_of(x), size_of(y)
    t = min(a, b) / max(max(a, b), 1e-37)
    steep = t > 0.66
    r = choose(steep, (t - 1.0) / (t + 1.0), t)
    z = r * r
    p = (((z * _P[0] + _P[1]) * z + _P[2]) * z + _P[3]) * z + _P[4]
    q = ((((z + _Q[0]) * z + _Q[1]) * z + _Q[2]) * z + _Q[3]) * z + _Q[4]
    angle = r + r * (z * (p / q))
    angle = choose(steep, angle + math.pi / 4, angle)
    angle = choose(a < b, math.pi / 2 - angle, angle)
    angle = choose(x < 0.0, math.pi - angle, angle)
    return choose(y < 0.0, angle * -1.0, angle)


@functools.cache
def build_orientation() -> Callable[..., None]:
    """Compile the angle of the axis of the smaller eigenvalue."""

    @kernel
    def orientation(out, tensor):  # type: ignore[no-untyped-def]
        """Fill out, flat (cells,), from tensor, flat (3, cells): xx, yy, xy."""
        cells = out.shape[0]
        out, tensor = begin(out), begin(tensor)
        for i in range(0, cells, LANES):
            a, b, c = load(tensor, i), load(tensor, cells + i), load(tensor, 2 * cells + i)
            _, _, cos2, sin2 = plane_spread(a, b, c)
            # The larger axis is at half the angle of (cos 2θ, sin 2θ); the smaller is at right angles to it.
            store(out, i, arctangent(sin2 * -1.0, cos2 * -1.0) * 0.5)

    return orientation


def orientation_of(block: Block, tensor: Floats) -> Floats:
    """Return the angle, in radians in [-π/2, π/2], of the direction in which the image varies least, (1, cells).

    From the last axis towards the one before, in units of the spacing; 0 where no direction stands out.

    Parameters
    ----------
    block : Block
        Gives the grid, of two axes.
    tensor : ndarray of shape (3, cells)
        What `structure_tensor` returned.
    """
    out = allocate(1, block.spatial, tensor.dtype)
    build_orientation()(out[0], tensor.reshape(-1))
    return out
