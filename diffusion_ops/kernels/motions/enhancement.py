"""Rows of one step of sharpening equations, for `kernels/wavefront.py`.

`numbers` begins with 1 / (2 h) along x, y, z and the step size; the head of each update says what follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.conductance import exp_negative
from diffusion_ops.kernels.eigen import size_of
from diffusion_ops.kernels.lanes import choose, element, inlined, known, load, shift, store, where
from diffusion_ops.kernels.motions.curvature import tangential
from diffusion_ops.kernels.motions.derivatives import around, contract, jet, outer, slopes, steepness, upwind
from diffusion_ops.kernels.wavefront import named_update


@inlined
def _ramped(x, ramp):  # type: ignore[no-untyped-def]
    """Return x / (|x| + ramp), the sign of x without a ramp; 0 at 0."""
    size = size_of(x)
    return choose(size > 0.0, x / (size + ramp), x - x)


@inlined
def _shocked(masked, volume, u, near, j, numbers, bend):  # type: ignore[no-untyped-def]
    """Return -bend |∇u| by upwind differences, times the step size."""
    steep = upwind(volume, slopes(masked, volume, u, near, j, numbers), bend < 0.0)
    return math.sqrt(steep) * (bend * (-1.0 * numbers[3]))


@inlined
def _structure(masked, volume, channels, wide, u, near, j, numbers):  # type: ignore[no-untyped-def]
    """Return J = Σ_c ∇u_c ∇u_cᵀ, divided by its trace; a gradient below epsilon counts for less."""
    _, g, _, _, _ = jet(masked, volume, u, near, j, numbers)
    p, steep = outer(volume, g), steepness(volume, g)
    for c in range(1, channels):
        _, g, _, _, _ = jet(masked, volume, shift(u, c * wide), near, j, numbers)
        q = outer(volume, g)
        p = (p[0] + q[0], p[1] + q[1], p[2] + q[2], p[3] + q[3], p[4] + q[4], p[5] + q[5])
        steep = steep + steepness(volume, g)
    steep = steep + numbers[4]
    return p[0] / steep, p[1] / steep, p[2] / steep, p[3] / steep, p[4] / steep, p[5] / steep


@inlined
def shock_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = -sgn(u_ηη) |∇u| of all channels; numbers go on with epsilon², epsilon² (N - 1) / N, ramp.

    Of several channels u_ηη is tr(J H) / tr J, the mean over all directions as J weighs them.
    """
    masked, volume, channels, wide, _ = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        p = _structure(masked, volume, channels, wide, u, near, j, numbers)
        for k in range(channels):
            at = shift(u, k * wide)
            c, _, h, _, _ = jet(masked, volume, at, near, j, numbers)
            bend = _ramped(contract(volume, p, h), numbers[6])
            store(out, k * wide + j, c + _shocked(masked, volume, at, near, j, numbers, bend))


@inlined
def bend_across_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of sgn(u_ηη) of all channels; numbers as of `shock_row`."""
    masked, volume, channels, wide, _ = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        p = _structure(masked, volume, channels, wide, u, near, j, numbers)
        for k in range(channels):
            _, _, h, _, _ = jet(masked, volume, shift(u, k * wide), near, j, numbers)
            store(out, k * wide + j, _ramped(contract(volume, p, h), numbers[6]))


@inlined
def bend_along_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of sgn(u_ww) of all channels; data are the components of w along x, y(, z), numbers as before."""
    masked, volume, channels, wide, stride = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        x, y = load(data, j), load(data, stride + j)
        p = outer(volume, (x, y, load(data, 2 * stride + j) if volume else x))
        for k in range(channels):
            _, _, h, _, _ = jet(masked, volume, shift(u, k * wide), near, j, numbers)
            store(out, k * wide + j, _ramped(contract(volume, p, h), numbers[6]))


@inlined
def guided_shock_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = -data |∇u|; numbers as of `shock_row`."""
    masked, volume, _, _, _ = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        c = load(u, near[4] + j)
        store(out, j, c + _shocked(masked, volume, u, near, j, numbers, load(data, j)))


@inlined
def diffused_shock_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = -data |∇u| + d u_ξξ; numbers as of `shock_row`, then d.

    No new value leaves the extremes of the cells it is made of.
    """
    masked, volume, _, _, _ = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        c, g, h, low, high = jet(masked, volume, u, near, j, numbers)
        change = _shocked(masked, volume, u, near, j, numbers, load(data, j))
        change = change + tangential(volume, g, h, numbers) * (numbers[7] * numbers[3])
        store(out, j, min(max(c + change, low), high))


@inlined
def _minmod(a, b, c):  # type: ignore[no-untyped-def]
    """Return the smallest of three numbers of one sign, else 0."""
    return max(min(min(a, b), c), 0.0) + min(max(max(a, b), c), 0.0)


@inlined
def _inflow(masked, p, q, r, s, t):  # type: ignore[no-untyped-def]
    """Return the difference of the limited fluxes at both sides of r on a line of five cells."""
    a, b = _difference(masked, p, q), _difference(masked, q, r)
    c, d = _difference(masked, r, s), _difference(masked, s, t)
    return _minmod(b, c, d) - _minmod(a, b, c)


@inlined
def _difference(masked, p, q):  # type: ignore[no-untyped-def]
    """Return q - p, 0 across a wall."""
    d = q - p
    return where(known(d), d) if masked else d


@inlined
def inverse_diffusion_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = -Δu, the flux through a face at most the differences at both sides of it."""
    masked, volume, _, _, _ = form
    middle = 10 if volume else 0
    here, up, down = element(lines, middle + 2), element(lines, middle + 1), element(lines, middle + 3)
    top, bottom = element(lines, middle), element(lines, middle + 4)
    x2, y2 = 4.0 * numbers[0] * numbers[0] * numbers[3], 4.0 * numbers[1] * numbers[1] * numbers[3]
    z2 = 4.0 * numbers[2] * numbers[2] * numbers[3]
    for j in range(0, n, LANES):
        c, i = load(u, here + j), here + j
        x = _inflow(masked, load(u, i - 2), load(u, i - 1), c, load(u, i + 1), load(u, i + 2)) * x2
        y = _inflow(masked, load(u, top + j), load(u, up + j), c, load(u, down + j), load(u, bottom + j)) * y2
        change = x + y
        if volume:
            f, b = load(u, element(lines, 7) + j), load(u, element(lines, 17) + j)
            z = _inflow(masked, load(u, element(lines, 2) + j), f, c, b, load(u, element(lines, 22) + j))
            change = change + z * z2
        store(out, j, c - change)


@inlined
def _product(before, after):  # type: ignore[no-untyped-def]
    """Return the product of the slopes down and up at a cell, 0 at an extremum."""
    return max(before * after * -1.0, 0.0)


@inlined
def _exponential(q, numbers):  # type: ignore[no-untyped-def]
    """Return 2 exp(-a q) - exp(-b q); numbers go on with a and b."""
    return exp_negative(q * numbers[4]) * 2.0 - exp_negative(q * numbers[5])


@inlined
def _rational(q, numbers):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + (a q)²) - d / (1 + (b (s - c))²) of s = √q; numbers go on with a, c, b and d."""
    forward, band = q * numbers[4], (math.sqrt(q) - numbers[5]) * numbers[6]
    return 1.0 / (forward * forward + 1.0) - numbers[7] / (band * band + 1.0)


def _diffusivity_row(name: str, diffusivity: Callable[..., Any]) -> Callable[..., None]:
    """Return the update that fills the field g of forward-and-backward diffusion with one diffusivity."""

    def row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
        """Make a row of g of |∇u|² as Welk, Weickert and Gilboa read it."""
        masked, volume, _, _, _ = form
        near = around(volume, lines)
        for j in range(0, n, LANES):
            w, e, up, s, f, b = slopes(masked, volume, u, near, j, numbers)
            q = _product(w, e) + _product(up, s)
            store(out, j, diffusivity(q + _product(f, b) if volume else q, numbers))

    return named_update(globals(), name, row)


DIFFUSIVITY_ROWS: Mapping[str, Callable[..., None]] = {
    "exponential": _diffusivity_row("_exponential_row", _exponential),
    "rational": _diffusivity_row("_rational_row", _rational),
}
"""The update that fills the field g, for each diffusivity."""


@inlined
def forward_backward_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = div(g ∇u), g on a face the mean of the two cells, which are in the field behind u."""
    masked, volume, _, wide, _ = form
    near, g = around(volume, lines), shift(u, wide)
    half = 0.5 * numbers[3]
    for j in range(0, n, LANES):
        i, k = near[4] + j, 2.0 * numbers[0] * half
        w, e, up, s, f, b = slopes(masked, volume, u, near, j, numbers)
        here = load(g, i)
        change = ((load(g, i - 1) + here) * w + (load(g, i + 1) + here) * e) * k
        k = 2.0 * numbers[1] * half
        change = change + ((load(g, near[3] + j) + here) * up + (load(g, near[5] + j) + here) * s) * k
        if volume:
            k = 2.0 * numbers[2] * half
            change = change + ((load(g, near[1] + j) + here) * f + (load(g, near[7] + j) + here) * b) * k
        store(out, j, load(u, i) + change)
