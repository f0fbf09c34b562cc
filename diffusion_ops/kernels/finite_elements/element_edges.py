"""What flows along the edges of bilinear and trilinear elements whose nodes are the cells.

An element lies between 2 x 2 (x 2) neighbouring cells. On edges and walls the domain ends with the cells themselves,
half a cell beyond the centres; there u goes on as it is, so an element that is cut by a wall acts through the edges
that are left in it. Both the stiffness and the mass are then fluxes along edges: with d the difference along an edge
and d' those along the edges parallel to it in the element,

    flux = weight d + coupling Σ (d' - d) + cross (d - Σ d' + d'')

over the edges d' across a face, and the edge d'' across the element where all four are there (in 3-D). This is what the
element's integrals give: exactly for a whole element and for the half or quarter that a straight wall leaves, and for
any shape of wall symmetric, positive and free of sources. Two cells exchange opposite fluxes: the sum over the image is
kept.
"""

from __future__ import annotations

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.lanes import between, fill, following, inlined, load, where

STIFFNESS = {2: (1 / 2, 1 / 6, 0.0), 3: (1 / 4, 1 / 12, 1 / 36)}
"""Weight of an edge, its coupling to parallel edges, and their cross term, per number of axes."""

DENSITY = {2: (1 / 2, 1 / 12, 0.0), 3: STIFFNESS[3]}
"""Weight, coupling and cross term of the mean of |∇u|² over an element."""

MASS = {2: (1 / 2, 1 / 12, 0.0), 3: (1 / 4, 1 / 24, 1 / 108)}
"""The same for the mass: M = 1 + Σ fluxes / 6."""


# Inlined by the compiler's back end: unfolded before types are inferred, one sweep took ten times as long to compile.
@inlined
def element_columns(u, row, j, n, zero):  # type: ignore[no-untyped-def]
    """Return the left and the right cells of the elements j ... j + LANES - 1 of a row; j = -LANES ends with -1."""
    if j < 0:
        return zero, following(zero, load(u, row))
    here = load(u, row + j)
    return here, following(here, load(u, row + min(j + LANES, n - LANES)))


@inlined
def element_corners(masked, valid, row, j, n, columns):  # type: ignore[no-untyped-def]
    """Return the masks of the same cells: inside the image and no wall."""
    left, right = between(-j, columns - j), between(-1 - j, columns - 1 - j)
    if masked:
        walls = element_columns(valid, row, j, n, between(0, 0))
        return left & walls[0], right & walls[1]
    return left, right


@inlined
def pair(d0, d1, open0, open1, form):  # type: ignore[no-untyped-def]
    """Return the fluxes of two parallel edges; a flux is 0 where its edge is not open."""
    l, r = where(open0, d0), where(open1, d1)
    d = where(open0 & open1, r - l) * form[1]
    return l * form[0] + d, r * form[0] - d


@inlined
def pair_density(d0, d1, open0, open1, form):  # type: ignore[no-untyped-def]
    """Return the mean of d² over the element, where d is linear between two edges, or constant beside one."""
    l, r = where(open0, d0), where(open1, d1)
    both, total = open0 & open1, l + r
    mean, slope = total - where(both, total * form[0]), where(both, r - l)
    return mean * mean + slope * slope * form[1]


@inlined
def four(d, is_open, form):  # type: ignore[no-untyped-def]
    """Return the fluxes of four parallel edges; bits 1 and 2 of an index are the side along the two other axes."""
    o0, o1, o2, o3 = is_open
    d0, d1, d2, d3 = where(o0, d[0]), where(o1, d[1]), where(o2, d[2]), where(o3, d[3])
    weight, near, far = form
    s01, s23, s02, s13 = (
        where(o0 & o1, d1 - d0),
        where(o2 & o3, d3 - d2),
        where(o0 & o2, d2 - d0),
        where(o1 & o3, d3 - d1),
    )
    # Either order of the differences, so that no axis comes first.
    cross = where((o0 & o1) & (o2 & o3), (s23 - s01) + (s13 - s02)) * (far * (weight + weight))
    return (
        d0 * weight + ((s01 + s02) * near + cross),
        d1 * weight + ((s13 - s01) * near - cross),
        d2 * weight + ((s23 - s02) * near - cross),
        d3 * weight - ((s23 + s13) * near - cross),
    )


@inlined
def four_density(d, is_open, form):  # type: ignore[no-untyped-def]
    """Return the mean of d² over the part of the element that has open edges."""
    f, weight = four(d, is_open, form), form[0]
    zero = weight - weight
    total = area = fill(zero)
    for k in range(4):
        total = total + where(is_open[k], d[k]) * f[k]
        area = area + where(is_open[k], fill(weight))
    return total / max(area, weight)


@inlined
def square(u, masked, valid, rows, j, n, columns, zero):  # type: ignore[no-untyped-def]
    """Return differences along the x and y edges of the elements of a row of squares, and whether these are open."""
    a0, a1 = element_columns(u, rows[0], j, n, zero)
    b0, b1 = element_columns(u, rows[1], j, n, zero)
    va0, va1 = element_corners(masked, valid, rows[0], j, n, columns)
    vb0, vb1 = element_corners(masked, valid, rows[1], j, n, columns)
    return (a1 - a0, b1 - b0, b0 - a0, b1 - a1), (va0 & va1, vb0 & vb1, va0 & vb0, va1 & vb1)


@inlined
def cube(u, masked, valid, rows, j, n, columns, zero):  # type: ignore[no-untyped-def]
    """Return differences along the x, y and z edges of the elements between four rows, and whether these are open."""
    d, e = square(u, masked, valid, (rows[0], rows[1]), j, n, columns, zero)
    b, f = square(u, masked, valid, (rows[2], rows[3]), j, n, columns, zero)
    c, g = square(u, masked, valid, (rows[0], rows[2]), j, n, columns, zero)
    h, i = square(u, masked, valid, (rows[1], rows[3]), j, n, columns, zero)
    x, y, z = (d[0], d[1], b[0], b[1]), (d[2], d[3], b[2], b[3]), (c[2], c[3], h[2], h[3])
    return (x, y, z), ((e[0], e[1], f[0], f[1]), (e[2], e[3], f[2], f[3]), (g[2], g[3], i[2], i[3]))


@inlined
def square_density(u, masked, valid, rows, j, n, columns, scales, form):  # type: ignore[no-untyped-def]
    """Return the mean of |∇u|² over the elements of a row of squares; scales hold 1 / h² along x and y."""
    d, e = square(u, masked, valid, rows, j, n, columns, fill(scales[0] - scales[0]))
    along = pair_density(d[0], d[1], e[0], e[1], form) * scales[0]
    return along + pair_density(d[2], d[3], e[2], e[3], form) * scales[1]


@inlined
def cube_density(u, masked, valid, rows, j, n, columns, scales, form):  # type: ignore[no-untyped-def]
    """Return the mean of |∇u|² over the elements between four rows; scales hold 1 / h² along x, y and z."""
    d, e = cube(u, masked, valid, rows, j, n, columns, fill(scales[0] - scales[0]))
    along = four_density(d[0], e[0], form) * scales[0] + four_density(d[1], e[1], form) * scales[1]
    return along + four_density(d[2], e[2], form) * scales[2]
