"""Compute derivatives at cells and faces for the rows of `kernels/wavefront.py`; a wall mirrors its neighbour.

`scale` begins with 1 / (2 h) along x, y and z throughout. Names are those of a map: n, s, w, e in the plane, f and b in
front and behind.
"""

from __future__ import annotations

from diffusion_ops.kernels.lanes import choose, element, inlined, load
from diffusion_ops.kernels.wavefront import corner, seen


@inlined
def around(volume, lines):  # type: ignore[no-untyped-def]
    """Return the offsets of the nine neighbour lines, row by row and plane by plane; an image has the middle three."""
    first = element(lines, 0), element(lines, 1), element(lines, 2)
    if not volume:
        return (*first, *first, *first)
    rest = element(lines, 3), element(lines, 4), element(lines, 5)
    return (*first, *rest, element(lines, 6), element(lines, 7), element(lines, 8))


@inlined
def _four(masked, u, up, down, n, s, w, e, c):  # type: ignore[no-untyped-def]
    """Return the corners nw, ne, sw, se of nine cells whose others are as read from the ring."""
    return (
        corner(masked, load(u, up - 1), n, w, c),
        corner(masked, load(u, up + 1), n, e, c),
        corner(masked, load(u, down - 1), s, w, c),
        corner(masked, load(u, down + 1), s, e, c),
    )


@inlined
def plane_cells(masked, u, near, j):  # type: ignore[no-untyped-def]
    """Return c, (w, e, n, s) and (nw, ne, sw, se) of a group of cells in its plane."""
    up, here, down = near[3] + j, near[4] + j, near[5] + j
    c, w, e, n, s = load(u, here), load(u, here - 1), load(u, here + 1), load(u, up), load(u, down)
    corners = _four(masked, u, up, down, n, s, w, e, c)
    return c, (seen(masked, w, c), seen(masked, e, c), seen(masked, n, c), seen(masked, s, c)), corners


@inlined
def depth_cells(masked, u, near, j):  # type: ignore[no-untyped-def]
    """Return (f, b), (fw, fe, bw, be) and (fn, fs, bn, bs) of a group of cells in a volume."""
    front, here, back = near[1] + j, near[4] + j, near[7] + j
    c, w, e, f, b = load(u, here), load(u, here - 1), load(u, here + 1), load(u, front), load(u, back)
    n, s = load(u, near[3] + j), load(u, near[5] + j)
    beside = _four(masked, u, front, back, f, b, w, e, c)
    above = (
        corner(masked, load(u, near[0] + j), f, n, c),
        corner(masked, load(u, near[2] + j), f, s, c),
        corner(masked, load(u, near[6] + j), b, n, c),
        corner(masked, load(u, near[8] + j), b, s, c),
    )
    return (seen(masked, f, c), seen(masked, b, c)), beside, above


@inlined
def _second(before, centre, after, a):  # type: ignore[no-untyped-def]
    return ((after - centre) + (before - centre)) * (4.0 * a * a)


@inlined
def _twist(corners, ab):  # type: ignore[no-untyped-def]
    return ((corners[3] - corners[1]) - (corners[2] - corners[0])) * ab


@inlined
def _least(x):  # type: ignore[no-untyped-def]
    return min(min(x[0], x[1]), min(x[2], x[3]))


@inlined
def _largest(x):  # type: ignore[no-untyped-def]
    return max(max(x[0], x[1]), max(x[2], x[3]))


@inlined
def jet(masked, volume, u, near, j, scale):  # type: ignore[no-untyped-def]
    """Return u, ∇u, the second derivatives xx, yy, zz, xy, xz, yz, and the extremes of the cells that were read.

    Without a volume, what has a z in it is of no meaning.
    """
    ax, ay, az = scale[0], scale[1], scale[2]
    c, (w, e, n, s), corners = plane_cells(masked, u, near, j)
    x, y = (e - w) * ax, (s - n) * ay
    xx, yy, xy = _second(w, c, e, ax), _second(n, c, s, ay), _twist(corners, ax * ay)
    low = min(min(_least((w, e, n, s)), _least(corners)), c)
    high = max(max(_largest((w, e, n, s)), _largest(corners)), c)
    if not volume:
        return c, (x, y, x), (xx, yy, xx, xy, xy, xy), low, high
    (f, b), beside, above = depth_cells(masked, u, near, j)
    z, zz, xz, yz = (b - f) * az, _second(f, c, b, az), _twist(beside, ax * az), _twist(above, ay * az)
    low = min(min(low, min(f, b)), min(_least(beside), _least(above)))
    high = max(max(high, max(f, b)), max(_largest(beside), _largest(above)))
    return c, (x, y, z), (xx, yy, zz, xy, xz, yz), low, high


@inlined
def steepness(volume, g):  # type: ignore[no-untyped-def]
    """Return |g|²."""
    plane = g[0] * g[0] + g[1] * g[1]
    return plane + g[2] * g[2] if volume else plane


@inlined
def trace(volume, h):  # type: ignore[no-untyped-def]
    """Return Δu of the second derivatives."""
    plane = h[0] + h[1]
    return plane + h[2] if volume else plane


@inlined
def _cross(volume, g, h):  # type: ignore[no-untyped-def]
    plane = (g[0] * g[1]) * h[3]
    both = plane + ((g[0] * g[2]) * h[4] + (g[1] * g[2]) * h[5]) if volume else plane
    return both * 2.0


@inlined
def outer(volume, g):  # type: ignore[no-untyped-def]
    """Return g gᵀ in the order of the second derivatives."""
    plane = g[0] * g[0], g[1] * g[1], g[0] * g[1]
    if not volume:
        return plane[0], plane[1], plane[0], plane[2], plane[2], plane[2]
    return plane[0], plane[1], g[2] * g[2], plane[2], g[0] * g[2], g[1] * g[2]


@inlined
def contract(volume, p, h):  # type: ignore[no-untyped-def]
    """Return tr(P H); of P = g gᵀ, gᵀHg, which is |g|² times the second derivative along g."""
    plane = (p[0] * h[0] + p[1] * h[1]) + p[3] * h[3] * 2.0
    return plane + (p[2] * h[2] + (p[4] * h[4] + p[5] * h[5]) * 2.0) if volume else plane


@inlined
def across(volume, g, h):  # type: ignore[no-untyped-def]
    """Return |g|² tr H - gᵀHg; of ∇u, |∇u|² times u_ξξ, which is |∇u| times the curvature of level lines.

    In a volume: |∇u| times the sum of both curvatures.
    """
    x2, y2 = g[0] * g[0], g[1] * g[1]
    plane = y2 * h[0] + x2 * h[1]
    both = plane + ((x2 + y2) * h[2] + (g[2] * g[2]) * (h[0] + h[1])) if volume else plane
    return both - _cross(volume, g, h)


@inlined
def _slope(one, other, a):  # type: ignore[no-untyped-def]
    """Return the square of the mean of two central differences."""
    d = (one + other) * (0.5 * a)
    return d * d


@inlined
def faces(masked, volume, u, near, j, scale):  # type: ignore[no-untyped-def]
    """Return ∂u/∂h towards w, e, n, s, f, b and |∇u|² on those faces; only four of each count without a volume.

    Along the face the gradient is the mean of the central differences of the two cells.
    """
    ax, ay, az = scale[0], scale[1], scale[2]
    c, (w, e, n, s), (nw, ne, sw, se) = plane_cells(masked, u, near, j)
    dw, de, dn, ds = (w - c) * (2.0 * ax), (e - c) * (2.0 * ax), (n - c) * (2.0 * ay), (s - c) * (2.0 * ay)
    x, y = e - w, s - n
    qw, qe = dw * dw + _slope(y, sw - nw, ay), de * de + _slope(y, se - ne, ay)
    qn, qs = dn * dn + _slope(x, ne - nw, ax), ds * ds + _slope(x, se - sw, ax)
    df, db, qf, qb = dn, ds, qn, qs
    if volume:
        (f, b), (fw, fe, bw, be), (fn, fs, bn, bs) = depth_cells(masked, u, near, j)
        df, db, z = (f - c) * (2.0 * az), (b - c) * (2.0 * az), b - f
        qw, qe = qw + _slope(z, bw - fw, az), qe + _slope(z, be - fe, az)
        qn, qs = qn + _slope(z, bn - fn, az), qs + _slope(z, bs - fs, az)
        qf = df * df + (_slope(x, fe - fw, ax) + _slope(y, fs - fn, ay))
        qb = db * db + (_slope(x, be - bw, ax) + _slope(y, bs - bn, ay))
    return (dw, de, dn, ds, df, db), (qw, qe, qn, qs, qf, qb)


@inlined
def slopes(masked, volume, u, near, j, scale):  # type: ignore[no-untyped-def]
    """Return ∂u/∂h towards w, e, n, s, f and b; only four of them count without a volume."""
    ax, ay, az, i = 2.0 * scale[0], 2.0 * scale[1], 2.0 * scale[2], near[4] + j
    c = load(u, i)
    w, e = (seen(masked, load(u, i - 1), c) - c) * ax, (seen(masked, load(u, i + 1), c) - c) * ax
    n, s = load(u, near[3] + j), load(u, near[5] + j)
    n, s = (seen(masked, n, c) - c) * ay, (seen(masked, s, c) - c) * ay
    if not volume:
        return w, e, n, s, n, s
    f, b = load(u, near[1] + j), load(u, near[7] + j)
    return w, e, n, s, (seen(masked, f, c) - c) * az, (seen(masked, b, c) - c) * az


@inlined
def _upwind(before, after, rising):  # type: ignore[no-untyped-def]
    above, beyond, below, under = max(before, 0.0), max(after, 0.0), min(before, 0.0), min(after, 0.0)
    return choose(rising, above * above + beyond * beyond, below * below + under * under)


@inlined
def upwind(volume, slopes, rising):  # type: ignore[no-untyped-def]
    """Return |∇u|² as a cell sees it whose value rises or falls to its neighbours' (Osher and Sethian 1988).

    `slopes` are those towards w, e, n, s, f and b.
    """
    plane = _upwind(slopes[0], slopes[1], rising) + _upwind(slopes[2], slopes[3], rising)
    return plane + _upwind(slopes[4], slopes[5], rising) if volume else plane
