"""Residuals and smoothing on the grid of the pixels, the finest level of a steady state.

The operator is always in the form of fluxes, (A x)_i = sigma_i x_i + sum_j w_ij (x_i - x_j), never a stored diagonal
less neighbours: couplings span 20 decades, and a difference of large numbers would lose the small ones. Arrays are
those of `couplings`, with rows of whole groups of lanes. A sum of zeros ends as +0, so that its sign cannot depend on
the window.
"""

from __future__ import annotations

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.lanes import begin, copied, inlined, kernel, load, store


@inlined
def _applied(x, sigma, wz, wy, wx, i, nx, up, deep):  # type: ignore[no-untyped-def]
    """Return A x of a group of cells."""
    here = load(x, i)
    s = load(sigma, i) * here
    if deep:
        s = s + load(wz, i - up) * (here - load(x, i - up))
    s = s + load(wy, i - nx) * (here - load(x, i - nx))
    s = s + load(wx, i - 1) * (here - load(x, i - 1))
    s = s + load(wx, i) * (here - load(x, i + 1))
    s = s + load(wy, i) * (here - load(x, i + nx))
    if deep:
        s = s + load(wz, i) * (here - load(x, i + up))
    return s


@kernel
def apply_grid(y, x, sigma, w, shape, pad):  # type: ignore[no-untyped-def]
    """Fill y = A x."""
    nx, up, deep, stop = shape[2], shape[1] * shape[2], shape[0] > 1, x.shape[0] - pad
    y, x, sigma, wz, wy, wx = begin(y), begin(x), begin(sigma), begin(w[0]), begin(w[1]), begin(w[2])
    for i in range(pad, stop, LANES):
        store(y, i, _applied(x, sigma, wz, wy, wx, i, nx, up, deep) + 0.0)


@kernel
def grid_residual(r, b, x, sigma, w, shape, pad):  # type: ignore[no-untyped-def]
    """Fill r = b - A x."""
    nx, up, deep, stop = shape[2], shape[1] * shape[2], shape[0] > 1, x.shape[0] - pad
    r, b = begin(r), begin(b)
    x, sigma, wz, wy, wx = begin(x), begin(sigma), begin(w[0]), begin(w[1]), begin(w[2])
    for i in range(pad, stop, LANES):
        store(r, i, load(b, i) - _applied(x, sigma, wz, wy, wx, i, nx, up, deep) + 0.0)


@copied
def _relax_rows(x, b, inverse, sigma, w, parity, shape, sizes, colour):  # type: ignore[no-untyped-def]
    """Update the cells of one colour, of rows given by addresses."""
    nz, ny, nx = shape
    pad, up, deep = sizes
    wz, wy, wx = w
    for z in range(nz):
        for y in range(ny):
            row = pad + (z * ny + y) * nx
            # 1 at the cells of the colour: adding 0 leaves the others as they are.
            chosen = load(parity, (z + y + colour) % 2)
            for i in range(row, row + nx, LANES):
                change = (load(b, i) - _applied(x, sigma, wz, wy, wx, i, nx, up, deep)) * load(inverse, i)
                store(x, i, load(x, i) + chosen * change)


@kernel
def relax_grid(x, b, inverse, sigma, w, parity, shape, pad, sweeps, backwards):  # type: ignore[no-untyped-def]
    """Gauss-Seidel sweeps in place, even cells (z + y + x) then odd ones, or odd then even `backwards`.

    `parity` holds 1, 0, 1, 0 ..., one number more than a group of lanes.
    """
    sizes = (pad, shape[1] * shape[2], shape[0] > 1)
    x, b, inverse, sigma, parity = begin(x), begin(b), begin(inverse), begin(sigma), begin(parity)
    wz, wy, wx = begin(w[0]), begin(w[1]), begin(w[2])
    for half in range(2 * sweeps):
        _relax_rows(x, b, inverse, sigma, (wz, wy, wx), parity, shape, sizes, (half + backwards) % 2)


@kernel
def cell_products(sums, x, y, shape, side, pad):  # type: ignore[no-untyped-def]
    """Fill sums of x times y over cells of `side` pixels, each in the order of the pixels; sides divide the shape."""
    nz, ny, nx = shape
    rows, columns = ny // side, nx // side
    sums[:] = 0.0
    for z in range(nz):
        for y_ in range(ny):
            first = (z // side * rows + y_ // side) * columns
            row = pad + (z * ny + y_) * nx
            for c in range(columns):
                s = sums[first + c]
                for i in range(row + c * side, row + (c + 1) * side):
                    s += x[i] * y[i]
                sums[first + c] = s
