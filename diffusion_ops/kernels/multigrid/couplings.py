"""Couplings between the cells of a grid, and what known cells and walls make of them.

Arrays are flat with `pad` further numbers at both ends, at least a plane (a row in 2-D), so that every cell has numbers
where its neighbours would be. w_z, w_y and w_x couple a cell to the next one along an axis, 0 over the edge.
Neighbours are summed in the order -z, -y, -x, +x, +y, +z. The kinds of cells: 0 wall, 1 unknown, 2 known.
"""

from __future__ import annotations

import numpy as np

from diffusion_ops.kernels.conductance import exp_negative
from diffusion_ops.kernels.lanes import kernel

WALL, UNKNOWN, KNOWN = 0, 1, 2


@kernel
def fill_similarity(w, image, factor, floor, ahead, cells, pad):  # type: ignore[no-untyped-def]
    """Fill w with exp(-factor * sum over channels of (difference to the cell `ahead`)²) + floor.

    `image` is (channels, cells + ahead) with finite numbers everywhere.
    """
    for i in range(cells):
        q = 0.0
        for c in range(image.shape[0]):
            d = np.float64(image[c, i + ahead]) - np.float64(image[c, i])
            q += d * d
        w[pad + i] = exp_negative(q * factor) + floor


@kernel
def close_edges(w, kind, shape, axis, pad):  # type: ignore[no-untyped-def]
    """Set couplings over the edge, to walls and between known cells to 0."""
    nz, ny, nx = shape
    ahead = (ny * nx, nx, 1)[axis]
    for z in range(nz):
        for y in range(ny):
            start = pad + (z * ny + y) * nx
            over = (axis == 0 and z == nz - 1) or (axis == 1 and y == ny - 1)
            for x in range(nx):
                i = start + x
                if over or (axis == 2 and x == nx - 1) or kind[i] * kind[i + ahead] % 4 == 0:
                    w[i] = 0.0


@kernel
def known_flow(b, w, kind, value, shape, pad):  # type: ignore[no-untyped-def]
    """Fill b, at unknown cells, with the sum of coupling times value over known neighbours."""
    _, ny, nx = shape
    up, deep = ny * nx, shape[0] > 1
    wz, wy, wx = w[0], w[1], w[2]
    for i in range(pad, b.shape[0] - pad):
        s = 0.0
        if kind[i] == UNKNOWN:
            if deep and kind[i - up] == KNOWN:
                s += wz[i - up] * value[i - up]
            if kind[i - nx] == KNOWN:
                s += wy[i - nx] * value[i - nx]
            if kind[i - 1] == KNOWN:
                s += wx[i - 1] * value[i - 1]
            if kind[i + 1] == KNOWN:
                s += wx[i] * value[i + 1]
            if kind[i + nx] == KNOWN:
                s += wy[i] * value[i + nx]
            if deep and kind[i + up] == KNOWN:
                s += wz[i] * value[i + up]
        b[i] = s + 0.0


@kernel
def cut_known(w, kind, ahead, pad):  # type: ignore[no-untyped-def]
    """Set couplings to known cells to 0; `known_flow` of ones holds them."""
    for i in range(pad, w.shape[0] - pad):
        if kind[i] != UNKNOWN or kind[i + ahead] != UNKNOWN:
            w[i] = 0.0


@kernel
def invert_diagonal(inverse, sigma, w, shape, pad):  # type: ignore[no-untyped-def]
    """Fill 1 / (sigma + sum of couplings), 0 at cells without any."""
    _, ny, nx = shape
    up, deep = ny * nx, shape[0] > 1
    wz, wy, wx = w[0], w[1], w[2]
    for i in range(pad, inverse.shape[0] - pad):
        s = sigma[i]
        if deep:
            s += wz[i - up]
        s = s + wy[i - nx] + wx[i - 1] + wx[i] + wy[i]
        if deep:
            s += wz[i]
        inverse[i] = 1.0 / s if s > 0.0 else 0.0
