"""Compute the fluxes of a tensor between the four cells around a corner of an image, from one energy."""

from __future__ import annotations

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.corners import add_to, corner_side, fold_pairs, mirror_pairs
from diffusion_ops.kernels.eigen import size_of
from diffusion_ops.kernels.lanes import choose, fill, following, inlined, load, where


@inlined
def _quad_forces(q, d, damping):  # type: ignore[no-untyped-def]
    """Return minus the derivatives of a corner's energy by its cells (TL, TR, BL, BR): what a step adds to them."""
    tl, tr, bl, br = q
    a, c, b = d
    top, bottom, left, right = tr - tl, br - bl, bl - tl, br - tr
    x, y = top + bottom, left + right
    k = (a * damping[0] + c * damping[1] - size_of(b) * damping[2]) * (bottom - top)
    fx, fy = a * x + b * y, b * x + c * y
    both, cross = fx + fy, fy - fx
    return both - k, cross + k, k - cross, (both + k) * -1.0


@inlined
def _walled_quad_forces(q, v, d, damping):  # type: ignore[no-untyped-def]
    """Return the same where some of the cells, those with v = 0, are beyond a wall."""
    tl, tr, bl, br = q
    vtl, vtr, vbl, vbr = v
    a, c, b = d
    l, r, t, u = max(vtl, vbl), max(vtr, vbr), max(vtl, vtr), max(vbl, vbr)
    tl, tr, vtl, vtr = mirror_pairs(tl, tr, vtl, vtr, l, r)
    bl, br, vbl, vbr = mirror_pairs(bl, br, vbl, vbr, l, r)
    tl, bl, vtl, vbl = mirror_pairs(tl, bl, vtl, vbl, t, u)
    tr, br, vtr, vbr = mirror_pairs(tr, br, vtr, vbr, t, u)
    part = (l + r) * (t + u) * 0.25
    m = _quad_forces((tl, tr, bl, br), (a * part, c * part, b * part), damping)
    # A third of the tensor per link: three cells in a row then have no eigenvalue above it.
    top, bottom = (vtl * vtr) * (a * (tr - tl)), (vbl * vbr) * (a * (br - bl))
    left, right = (vtl * vbl) * (c * (bl - tl)), (vtr * vbr) * (c * (br - tr))
    third = 4.0 / 3.0
    whole = vtl * vtr * vbl * vbr > 0.5
    ftl = choose(whole, m[0], (top + left) * third)
    ftr = choose(whole, m[1], (right - top) * third)
    fbl = choose(whole, m[2], (bottom - left) * third)
    fbr = choose(whole, m[3], (bottom + right) * -third)
    # What acts on a mirror image acts on the cell.
    ftl, ftr = fold_pairs(ftl, ftr, l, r)
    fbl, fbr = fold_pairs(fbl, fbr, l, r)
    ftl, fbl = fold_pairs(ftl, fbl, t, u)
    ftr, fbr = fold_pairs(ftr, fbr, t, u)
    return where(v[0] > 0.5, ftl), where(v[1] > 0.5, ftr), where(v[2] > 0.5, fbl), where(v[3] > 0.5, fbr)


@inlined
def _quad_row(masked, u, valid, rows, there, columns, tensor, stride, factors, damping, above, below):  # type: ignore[no-untyped-def]
    """Add the forces of a row of corners to the cells above and below it.

    Parameters
    ----------
    rows, there : where the rows above and below begin, and whether they exist
    tensor, stride : address of the row's a, and from one component to the next
    above, below : addresses of what acts on the two rows of cells
    """
    last = columns // LANES * LANES
    zero = fill(factors[0] - factors[0])
    next_tl = next_bl = zero
    border = not (there[0] and there[1])
    for k in range(0, last + LANES, LANES):
        j = last - k
        tl, tr, vtl, vtr = corner_side(masked, u, valid, rows[0], there[0], j, columns)
        bl, br, vbl, vbr = corner_side(masked, u, valid, rows[1], there[1], j, columns)
        d = (
            load(tensor, j) * factors[0],
            load(tensor, stride + j) * factors[1],
            load(tensor, 2 * stride + j) * factors[2],
        )
        if masked or border or j == 0 or j == last:
            f = _walled_quad_forces((tl, tr, bl, br), (vtl, vtr, vbl, vbr), d, damping)
        else:
            f = _quad_forces((tl, tr, bl, br), d, damping)
        add_to(above, j, f[1] + following(f[0], next_tl))
        add_to(below, j, f[3] + following(f[2], next_bl))
        next_tl, next_bl = f[0], f[2]


@inlined
def quad_layer(masked, u, valid, layout, tensor, stride, numbers, to):  # type: ignore[no-untyped-def]
    """Add the forces of the corners between the rows layer - 1 and layer of an image to what acts on these rows.

    Parameters
    ----------
    u : address of a channel
    layout : layer, outer, middle, columns, pitch as in `kernel_grid`, stored length of a row of corners
    tensor, stride : address of the layer's first component, and from one component to the next
    numbers : what `tensor_factors` and `hourglass_damping` returned
    to : addresses of what acts on the cells before and behind
    """
    layer, outer, _, columns, pitch, _ = layout
    factors, damping = numbers
    rows, there = (max(layer - 1, 0) * pitch, min(layer, outer - 1) * pitch), (layer > 0, layer < outer)
    _quad_row(masked, u, valid, rows, there, columns, tensor, stride, factors, damping, to[0], to[1])
