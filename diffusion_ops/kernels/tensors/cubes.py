"""Compute the fluxes of a tensor between the eight cells around a corner of a volume, from one energy."""

from __future__ import annotations

from numba import njit

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.corners import add_to, corner_side, fold_pairs, mirror_pairs
from diffusion_ops.kernels.eigen import size_of
from diffusion_ops.kernels.lanes import choose, fill, following, inlined, load, shift, where


@inlined
def _cube_forces(q, d, damping):  # type: ignore[no-untyped-def]
    """Return minus the derivatives of a corner's energy by its cells: in front TL, TR, BL, BR, then behind."""
    a, b, c, xy, xz, yz = d
    top, bottom, left, right = q[1] - q[0], q[3] - q[2], q[2] - q[0], q[3] - q[1]
    x0, y0, s0 = top + bottom, left + right, bottom - top
    top, bottom, left, right = q[5] - q[4], q[7] - q[6], q[6] - q[4], q[7] - q[5]
    x1, y1, s1 = top + bottom, left + right, bottom - top
    z = ((q[4] - q[0]) + (q[7] - q[3])) + ((q[5] - q[1]) + (q[6] - q[2]))
    x, y = x0 + x1, y0 + y1
    kxy = a * damping[0] + b * damping[1] - size_of(xy) * damping[6]
    kxz = a * damping[2] + c * damping[3] - size_of(xz) * damping[6]
    kyz = b * damping[4] + c * damping[5] - size_of(yz) * damping[6]
    fx = a * x + (xy * y + xz * z)
    fy = b * y + (xy * x + yz * z)
    fz = c * z + (xz * x + yz * y)
    hxy, hxz, hyz = kxy * (s0 + s1), kxz * (x1 - x0), kyz * (y1 - y0)
    h = (kxy + (kxz + kyz)) * ((s1 - s0) * 0.5)
    # A cell at the low end of an axis has -1 in every mode of that axis, one at the high end +1.
    p, m, even, odd = fx + fy, fx - fy, hxz + hyz, hxz - hyz
    less, more = fz - hxy, fz + hxy
    return (
        (p + less) + (h - even),
        (more - m) + (odd - h),
        (more + m) - (odd + h),
        (less - p) + (h + even),
        (p - more) + (even - h),
        (h - odd) - (m + less),
        (m - less) + (odd + h),
        ((p + more) + (even + h)) * -1.0,
    )


@inlined
def _turned(q):  # type: ignore[no-untyped-def]
    """Return the cells of a cube with the axes x, y, z replaced by y, z, x."""
    return q[0], q[2], q[4], q[6], q[1], q[3], q[5], q[7]


@inlined
def _sides(v):  # type: ignore[no-untyped-def]
    """Return whether any cell is valid on the low and on the high side of x."""
    return max(max(v[0], v[2]), max(v[4], v[6])), max(max(v[1], v[3]), max(v[5], v[7]))


@inlined
def _mirrored(q, v, low, high):  # type: ignore[no-untyped-def]
    """Return the cells and what is valid with sides of x beyond a wall mirrored, then turned."""
    a, b, va, vb = mirror_pairs(q[0], q[1], v[0], v[1], low, high)
    c, d, vc, vd = mirror_pairs(q[2], q[3], v[2], v[3], low, high)
    e, f, ve, vf = mirror_pairs(q[4], q[5], v[4], v[5], low, high)
    g, h, vg, vh = mirror_pairs(q[6], q[7], v[6], v[7], low, high)
    return _turned((a, b, c, d, e, f, g, h)), _turned((va, vb, vc, vd, ve, vf, vg, vh))


@inlined
def _folded(f, low, high):  # type: ignore[no-untyped-def]
    """Return the forces with those on mirror images along x added to their cells, then turned."""
    a, b = fold_pairs(f[0], f[1], low, high)
    c, d = fold_pairs(f[2], f[3], low, high)
    e, g = fold_pairs(f[4], f[5], low, high)
    h, i = fold_pairs(f[6], f[7], low, high)
    return _turned((a, b, c, d, e, g, h, i))


@inlined
def _links(q, v, weight):  # type: ignore[no-untyped-def]
    """Return the forces of the links along x between valid cells, then turned."""
    a, b = (v[0] * v[1]) * (weight * (q[1] - q[0])), (v[2] * v[3]) * (weight * (q[3] - q[2]))
    c, d = (v[4] * v[5]) * (weight * (q[5] - q[4])), (v[6] * v[7]) * (weight * (q[7] - q[6]))
    return _turned((a, a * -1.0, b, b * -1.0, c, c * -1.0, d, d * -1.0))


# Called, not copied: it is long, rare without a mask, and a kernel compiles in a third of the time.
@njit(error_model="numpy")
def _walled_cube_forces(q, v, d, damping):  # type: ignore[no-untyped-def]
    """Return the forces where some of the cells, those with v = 0, are beyond a wall."""
    cells, x = v, _sides(v)
    y = _sides(_turned(v))
    z = _sides(_turned(_turned(v)))
    q, v = _mirrored(q, v, x[0], x[1])
    q, v = _mirrored(q, v, y[0], y[1])
    q, v = _mirrored(q, v, z[0], z[1])
    part = (x[0] + x[1]) * (y[0] + y[1]) * (z[0] + z[1]) * 0.125
    parts = (d[0] * part, d[1] * part, d[2] * part, d[3] * part, d[4] * part, d[5] * part)
    m = _cube_forces(q, parts, damping)
    third = 4.0 / 3.0
    fx = _turned(_turned(_links(q, v, d[0] * third)))
    fy = _turned(_links(_turned(q), _turned(v), d[1] * third))
    fz = _links(_turned(_turned(q)), _turned(_turned(v)), d[2] * third)
    whole = (v[0] * v[1]) * (v[2] * v[3]) * ((v[4] * v[5]) * (v[6] * v[7])) > 0.5
    f = (
        choose(whole, m[0], fx[0] + fy[0] + fz[0]),
        choose(whole, m[1], fx[1] + fy[1] + fz[1]),
        choose(whole, m[2], fx[2] + fy[2] + fz[2]),
        choose(whole, m[3], fx[3] + fy[3] + fz[3]),
        choose(whole, m[4], fx[4] + fy[4] + fz[4]),
        choose(whole, m[5], fx[5] + fy[5] + fz[5]),
        choose(whole, m[6], fx[6] + fy[6] + fz[6]),
        choose(whole, m[7], fx[7] + fy[7] + fz[7]),
    )
    f = _folded(_folded(_folded(f, x[0], x[1]), y[0], y[1]), z[0], z[1])
    return (
        where(cells[0] > 0.5, f[0]),
        where(cells[1] > 0.5, f[1]),
        where(cells[2] > 0.5, f[2]),
        where(cells[3] > 0.5, f[3]),
        where(cells[4] > 0.5, f[4]),
        where(cells[5] > 0.5, f[5]),
        where(cells[6] > 0.5, f[6]),
        where(cells[7] > 0.5, f[7]),
    )


@inlined
def _cube_row(masked, u, valid, rows, there, columns, tensor, stride, factors, damping, to):  # type: ignore[no-untyped-def]
    """Add the forces of a row of corners of a volume to four rows: above and below, in front and then behind."""
    last = columns // LANES * LANES
    zero = fill(factors[0] - factors[0])
    n0 = n1 = n2 = n3 = zero
    border = not (there[0] and there[1] and there[2] and there[3])
    for k in range(0, last + LANES, LANES):
        j = last - k
        a, b, va, vb = corner_side(masked, u, valid, rows[0], there[0], j, columns)
        c, d, vc, vd = corner_side(masked, u, valid, rows[1], there[1], j, columns)
        e, f, ve, vf = corner_side(masked, u, valid, rows[2], there[2], j, columns)
        g, h, vg, vh = corner_side(masked, u, valid, rows[3], there[3], j, columns)
        q, v = (a, b, c, d, e, f, g, h), (va, vb, vc, vd, ve, vf, vg, vh)
        t = (
            load(tensor, j) * factors[0],
            load(tensor, stride + j) * factors[1],
            load(tensor, 2 * stride + j) * factors[2],
            load(tensor, 3 * stride + j) * factors[3],
            load(tensor, 4 * stride + j) * factors[4],
            load(tensor, 5 * stride + j) * factors[5],
        )
        if masked or border or j == 0 or j == last:
            w = _walled_cube_forces(q, v, t, damping)
        else:
            w = _cube_forces(q, t, damping)
        add_to(to[0], j, w[1] + following(w[0], n0))
        add_to(to[1], j, w[3] + following(w[2], n1))
        add_to(to[2], j, w[5] + following(w[4], n2))
        add_to(to[3], j, w[7] + following(w[6], n3))
        n0, n1, n2, n3 = w[0], w[2], w[4], w[6]


@inlined
def cube_layer(masked, u, valid, layout, tensor, stride, numbers, to):  # type: ignore[no-untyped-def]
    """Add the forces of the corners between the planes layer - 1 and layer; parameters as of `quad_layer`."""
    layer, outer, middle, columns, pitch, corner_pitch = layout
    front, back = to
    factors, damping = numbers
    wide = pitch + LANES
    before, behind = max(layer - 1, 0) * middle, min(layer, outer - 1) * middle
    for m in range(middle + 1):
        up, down = max(m - 1, 0), min(m, middle - 1)
        rows = (
            (before + up) * pitch,
            (before + down) * pitch,
            (behind + up) * pitch,
            (behind + down) * pitch,
        )
        above, below = m > 0, m < middle
        there = (layer > 0 and above, layer > 0 and below, layer < outer and above, layer < outer and below)
        four = (
            shift(front, up * wide),
            shift(front, down * wide),
            shift(back, up * wide),
            shift(back, down * wide),
        )
        row = shift(tensor, m * corner_pitch)
        _cube_row(masked, u, valid, rows, there, columns, row, stride, factors, damping, four)
