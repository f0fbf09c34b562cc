"""Rows of one step of curvature motions, for `kernels/wavefront.py`.

`numbers` begins with 1 / (2 h) along x, y, z and the step size; the head of each update says what follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.conductance import CONDUCTANCES, conductance
from diffusion_ops.kernels.eigen import size_of
from diffusion_ops.kernels.lanes import choose, cube_root_seed, inlined, load, shift, store
from diffusion_ops.kernels.motions.derivatives import across, around, faces, jet, steepness, trace, upwind
from diffusion_ops.kernels.wavefront import named_update


@inlined
def tangential(volume, g, h, numbers):  # type: ignore[no-untyped-def]
    """Return u_ξξ, or where nothing has a direction the mean over all of them, (N - 1) / N Δu."""
    flat = trace(volume, h) * numbers[5]
    return (across(volume, g, h) + flat) / (steepness(volume, g) + numbers[4])


@inlined
def mean_curvature_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = |∇u| div(∇u / |∇u|); numbers go on with epsilon² and epsilon² (N - 1) / N.

    No new value leaves the extremes of the cells it is made of, which smooth motion never does either.
    """
    masked, volume, _, _, _ = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        c, g, h, low, high = jet(masked, volume, u, near, j, numbers)
        store(out, j, min(max(c + tangential(volume, g, h, numbers) * numbers[3], low), high))


@inlined
def cube_root(x):  # type: ignore[no-untyped-def]
    """Return the cube root of x >= 0 within 1e-6 of it and 1e-10, by two steps of Halley from a seed of bits."""
    x = x + 1e-30
    r = cube_root_seed(x)
    for _ in range(2):
        r3 = r * r * r
        r = r * ((r3 + x * 2.0) / (r3 * 2.0 + x))
    return r


@inlined
def affine_curvature_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = |∇u| curvature^(1/3); numbers go on with the largest diffusivity along level lines.

    u_t = d u_ξξ with d = curvature^(-2/3), which has no bound: what an explicit step cannot follow moves by the largest
    d that it can.
    """
    masked, volume, _, _, _ = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        c, g, h, low, high = jet(masked, volume, u, near, j, numbers)
        bend = across(volume, g, h)
        size = size_of(bend)
        speed = min(cube_root(size), size * numbers[4] / (steepness(volume, g) + 1e-30)) * numbers[3]
        store(out, j, min(max(c + choose(bend < 0.0, speed * -1.0, speed), low), high))


def _curvature_diffusion_row(kind: int) -> Callable[..., None]:
    """Return the update for one conductance."""

    @inlined
    def share(q, scale):  # type: ignore[no-untyped-def]
        """Return g / |∇u| of q = |∇u|² on a face."""
        return conductance(kind, q * scale) / math.sqrt(q + 1e-10)

    def row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
        """Make a row of ∂u_c/∂t = |∇u_c| div(g ∇u_c / |∇u|); numbers go on with 1 / contrast².

        g and |∇u| on the faces are of all channels together; the |∇u_c| in front is upwind.
        """
        masked, volume, channels, wide, _ = form
        near = around(volume, lines)
        for j in range(0, n, LANES):
            _, (w, e, up, s, f, b) = faces(masked, volume, u, near, j, numbers)
            for c in range(1, channels):
                _, q = faces(masked, volume, shift(u, c * wide), near, j, numbers)
                w, e, up, s, f, b = w + q[0], e + q[1], up + q[2], s + q[3], f + q[4], b + q[5]
            w, e = share(w, numbers[4]), share(e, numbers[4])
            up, s = share(up, numbers[4]), share(s, numbers[4])
            f, b = (share(f, numbers[4]), share(b, numbers[4])) if volume else (up, s)
            for c in range(channels):
                at = shift(u, c * wide)
                d, _ = faces(masked, volume, at, near, j, numbers)
                speed = (d[0] * w + d[1] * e) * (2.0 * numbers[0]) + (d[2] * up + d[3] * s) * (
                    2.0 * numbers[1]
                )
                if volume:
                    speed = speed + (d[4] * f + d[5] * b) * (2.0 * numbers[2])
                steep = upwind(volume, d, speed > 0.0)
                store(out, c * wide + j, load(at, near[4] + j) + speed * math.sqrt(steep) * numbers[3])

    return named_update(globals(), f"_curvature_diffusion_row_{kind}", row)


CURVATURE_DIFFUSION_ROWS = tuple(_curvature_diffusion_row(kind) for kind in range(len(CONDUCTANCES)))
"""The update of modified curvature diffusion for each conductance."""


def flat_numbers(epsilon: float, ndim: int) -> list[float]:
    """Return epsilon² and epsilon² (N - 1) / N, which `tangential` is given."""
    return [epsilon**2, epsilon**2 * (ndim - 1) / ndim]
