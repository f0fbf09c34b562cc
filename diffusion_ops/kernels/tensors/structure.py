"""The structure tensor: which way an image varies around every cell, and how clearly."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, allocate, as_image, row_pitch
from diffusion_ops.kernels.corners import corner_block, corner_side
from diffusion_ops.kernels.eigen import plane_eigen, volume_eigen
from diffusion_ops.kernels.faces import (
    kernel_grid,
    kernel_walls,
    left_of,
    neighbour_rows,
    open_faces,
    right_of,
)
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.lanes import (
    begin,
    between,
    choose,
    fill,
    inlined,
    kernel,
    load,
    shift,
    store,
    where,
)


def tensor_arrays(ndim: int) -> int:
    """Return the number of components of a symmetric tensor: 3 in an image, 6 in a volume."""
    return ndim * (ndim + 1) // 2


def structure_radius(sigma: float, rho: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return how many cells per axis `structure_tensor` reads: both Gaussians and the central difference."""
    inner, outer = gaussian_radius(sigma, spacing), gaussian_radius(rho, spacing)
    return tuple(a + 1 + b for a, b in zip(inner, outer, strict=True))


@inlined
def central_gradient(form, u, valid, rows, j, columns, halves):  # type: ignore[no-untyped-def]
    """Return ∂u/∂x, ∂u/∂y and ∂u/∂z of a group of cells by central differences; differences across a wall are 0.

    Parameters
    ----------
    form : whether masked, a volume
    u : address of a channel
    rows : where the row itself begins, and those above, below, in front and behind
    j : first cell of the group in the row
    halves : 1 / (2 h) along x, y, z
    """
    masked, volume = form
    here, up, down, front, back = rows
    i = here + j
    centre = load(u, i)
    ahead = right_of(u, i, here + (columns - 1) // LANES * LANES) - centre
    ahead = where(between(0, columns - 1 - j), open_faces(masked, valid, i, i + 1, ahead))
    behind = centre - left_of(u, i, here)
    behind = where(load(valid, i) & left_of(valid, i, here), behind) if masked else behind
    x = (ahead + where(between(1 - j, LANES), behind)) * halves[0]
    below = open_faces(masked, valid, i, down + j, load(u, down + j) - centre)
    y = (below + open_faces(masked, valid, i, up + j, centre - load(u, up + j))) * halves[1]
    if not volume:
        return x, y, y
    below = open_faces(masked, valid, i, back + j, load(u, back + j) - centre)
    return x, y, (below + open_faces(masked, valid, i, front + j, centre - load(u, front + j))) * halves[2]


@functools.cache
def build_products(masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the products of the gradient with itself, summed over channels."""

    @kernel
    def products(tensor, u, valid, grid, halves):  # type: ignore[no-untyped-def]
        """Fill tensor, flat (components, cells), from a smoothed image u, flat (channels, cells)."""
        channels, outer, middle, columns, pitch = grid
        cells, zero = outer * middle * pitch, u.dtype.type(0)
        tensor, u, valid = begin(tensor), begin(u), begin(valid)
        for row in range(outer * middle):
            up, down, front, back = neighbour_rows(volume, row, outer, middle, pitch)
            for j in range(0, pitch, LANES):
                i = row * pitch + j
                xx = yy = zz = xy = xz = yz = fill(zero)
                for c in range(channels):
                    o = c * cells
                    rows = (row * pitch, up, down, front, back)
                    x, y, z = central_gradient((masked, volume), shift(u, o), valid, rows, j, columns, halves)
                    xx, yy, xy = xx + x * x, yy + y * y, xy + x * y
                    if volume:
                        zz, xz, yz = zz + z * z, xz + x * z, yz + y * z
                store(tensor, i, xx)
                store(tensor, cells + i, yy)
                store(tensor, 2 * cells + i, zz if volume else xy)
                if volume:
                    store(tensor, 3 * cells + i, xy)
                    store(tensor, 4 * cells + i, xz)
                    store(tensor, 5 * cells + i, yz)

    return products


def structure_tensor(block: Block, sigma: float, rho: float, of: Floats | None = None) -> Floats:
    """Return J_rho = K_rho * Σ_c ∇u_sigma ∇u_sigmaᵀ at every cell, of shape (3 or 6, cells).

    Gradients are central differences of the image smoothed by a Gaussian of `sigma`; their products are summed over the
    channels (Di Zenzo 1986) and smoothed by a Gaussian of `rho` (Förstner and Gülch 1987). Differences across walls
    are 0, and neither Gaussian counts what is beyond a wall.

    Parameters
    ----------
    block : Block
        Gives the grid, the walls and the spacing; it is not changed.
    sigma, rho : float
        Noise scale and feature scale, standard deviations in the units of the spacing; 0 leaves the smoothing out.
    of : ndarray of shape (channels, cells), optional
        The image to read, by default the block's structure: its guide or its state.

    Returns
    -------
    ndarray
        xx, yy, xy in an image; xx, yy, zz, xy, xz, yz in a volume; x runs along the last axis, y along the one before.
        In (image units / unit length)².
    """
    image = block.structure if of is None else of
    u = smoothed(dataclasses.replace(block, storage=image), sigma)
    ndim = len(block.spatial)
    tensor = allocate(tensor_arrays(ndim), block.spatial, u.dtype)
    halves = tuple(u.dtype.type(0.5 / h) for h in (*reversed(block.spacing), 1.0)[:3])
    products = build_products(block.valid_storage is not None, ndim == 3)
    grid = kernel_grid(block, len(u))
    products(tensor.reshape(-1), u.reshape(-1), kernel_walls(block), grid, halves)
    return smoothed(dataclasses.replace(block, storage=tensor), rho)


@functools.cache
def build_principal(volume: bool) -> Callable[..., None]:
    """Compile the eigenvalues and the first eigenvector of symmetric tensors."""

    @kernel
    def principal(values, axis, tensor):  # type: ignore[no-untyped-def]
        """Fill values and axis, flat (ndim, cells), from tensor, flat (components, cells)."""
        ndim = 3 if volume else 2
        cells = tensor.shape[0] // (6 if volume else 3)
        values, axis, tensor = begin(values), begin(axis), begin(tensor)
        for i in range(0, cells, LANES):
            a, b, c = load(tensor, i), load(tensor, cells + i), load(tensor, 2 * cells + i)
            if volume:
                d, e, f = (
                    load(tensor, 3 * cells + i),
                    load(tensor, 4 * cells + i),
                    load(tensor, 5 * cells + i),
                )
                mu, v = volume_eigen(a, b, c, d, e, f)
                first, second = mu[0] < mu[1], max(mu[0], mu[1]) < mu[2]
                for k in range(ndim):
                    x = choose(second, v[2][k], choose(first, v[1][k], v[0][k]))
                    store(axis, k * cells + i, x)
                high, low = max(max(mu[0], mu[1]), mu[2]), min(min(mu[0], mu[1]), mu[2])
                store(values, i, high)
                middle = max(min(mu[0], mu[1]), min(max(mu[0], mu[1]), mu[2]))
                store(values, cells + i, middle)
                store(values, 2 * cells + i, low)
            else:
                high, low, x, y = plane_eigen(a, b, c)
                store(values, i, high)
                store(values, cells + i, low)
                store(axis, i, x)
                store(axis, cells + i, y)

    return principal


def principal_axes(tensor: Floats) -> tuple[Floats, Floats]:
    """Return the eigenvalues and the unit vector of the largest of a field of symmetric tensors.

    Parameters
    ----------
    tensor : ndarray of shape (3 or 6, cells)
        What `structure_tensor` returned.

    Returns
    -------
    values : ndarray of shape (2 or 3, cells)
        Eigenvalues, the largest first. Their difference says how clear the direction is; (first - second) / (first +
        second) is the coherence.
    axis : ndarray of shape (2 or 3, cells)
        Components along x, y(, z) of the direction across the structures; its sign means nothing.
    """
    volume = len(tensor) == 6
    values, axis = (np.empty((3 if volume else 2, tensor.shape[1]), tensor.dtype) for _ in range(2))
    build_principal(volume)(values.reshape(-1), axis.reshape(-1), tensor.reshape(-1))
    return values, axis


@inlined
def _mean(first, second, v):  # type: ignore[no-untyped-def]
    """Return the mean of two differences of the four cells around a corner; those across a wall do not count."""
    vf, vs = v[0] * v[1], v[2] * v[3]
    return (vf * first + vs * second) / max(vf + vs, 1.0)


@inlined
def _plane_slopes(q, v):  # type: ignore[no-untyped-def]
    """Return the differences along x and y at a corner of an image, from (TL, TR, BL, BR)."""
    x = _mean(q[1] - q[0], q[3] - q[2], v)
    return x, _mean(q[2] - q[0], q[3] - q[1], (v[0], v[2], v[1], v[3]))


@inlined
def _cube_slope(q, v, i):  # type: ignore[no-untyped-def]
    """Return the mean of the four differences q[i[1]] - q[i[0]], q[i[3]] - q[i[2]], ... that cross no wall."""
    a, b = v[i[0]] * v[i[1]], v[i[2]] * v[i[3]]
    c, d = v[i[4]] * v[i[5]], v[i[6]] * v[i[7]]
    total = a * (q[i[1]] - q[i[0]]) + d * (q[i[7]] - q[i[6]])
    total = total + (b * (q[i[3]] - q[i[2]]) + c * (q[i[5]] - q[i[4]]))
    return total / max((a + d) + (b + c), 1.0)


@functools.cache
def build_corner_products(masked: bool, volume: bool) -> Callable[..., None]:
    """Compile the products of the gradient at the corners with itself, summed over channels."""

    @kernel
    def products(tensor, u, valid, grid, corner_pitch, inverse):  # type: ignore[no-untyped-def]
        """Fill tensor, flat (components, corners), from a smoothed image u, flat (channels, cells)."""
        channels, outer, middle, columns, pitch = grid
        rows = middle + 1 if volume else 1
        stride, cells, zero = (outer + 1) * rows * corner_pitch, outer * middle * pitch, u.dtype.type(0)
        tensor, u, valid = begin(tensor), begin(u), begin(valid)
        for row in range((outer + 1) * rows):
            p, m = row // rows, row % rows
            front, back = max(p - 1, 0) * middle, min(p, outer - 1) * middle
            up, down = max(m - 1, 0) if volume else 0, min(m, middle - 1)
            for j in range(0, corner_pitch, LANES):
                xx = yy = zz = xy = xz = yz = fill(zero)
                for c in range(channels):
                    w = shift(u, c * cells)
                    above, below = m > 0, m < middle
                    if volume:
                        a, b, va, vb = corner_side(
                            masked, w, valid, (front + up) * pitch, p > 0 and above, j, columns
                        )
                        e, f, ve, vf = corner_side(
                            masked, w, valid, (front + down) * pitch, p > 0 and below, j, columns
                        )
                        g, h, vg, vh = corner_side(
                            masked, w, valid, (back + up) * pitch, p < outer and above, j, columns
                        )
                        k, l, vk, vl = corner_side(
                            masked, w, valid, (back + down) * pitch, p < outer and below, j, columns
                        )
                        q, v = (a, b, e, f, g, h, k, l), (va, vb, ve, vf, vg, vh, vk, vl)
                        x = _cube_slope(q, v, (0, 1, 2, 3, 4, 5, 6, 7)) * inverse[0]
                        y = _cube_slope(q, v, (0, 2, 1, 3, 4, 6, 5, 7)) * inverse[1]
                        z = _cube_slope(q, v, (0, 4, 1, 5, 2, 6, 3, 7)) * inverse[2]
                        zz, xz, yz = zz + z * z, xz + x * z, yz + y * z
                    else:
                        a, b, va, vb = corner_side(masked, w, valid, front * pitch, p > 0, j, columns)
                        e, f, ve, vf = corner_side(masked, w, valid, back * pitch, p < outer, j, columns)
                        x, y = _plane_slopes((a, b, e, f), (va, vb, ve, vf))
                        x, y = x * inverse[0], y * inverse[1]
                    xx, yy, xy = xx + x * x, yy + y * y, xy + x * y
                i = row * corner_pitch + j
                store(tensor, i, xx)
                store(tensor, stride + i, yy)
                store(tensor, 2 * stride + i, zz if volume else xy)
                if volume:
                    store(tensor, 3 * stride + i, xy)
                    store(tensor, 4 * stride + i, xz)
                    store(tensor, 5 * stride + i, yz)

    return products


def corner_structure(block: Block, sigma: float, rho: float, of: Floats | None = None) -> Floats:
    """Return J_rho at the corners between the cells, of shape (3 or 6, corners); see `corners` and `structure_tensor`.

    The gradient at a corner is the mean of the differences of the cells around it that cross no wall: unlike the
    central difference it sees the finest checkerboard, without which diffusion would leave the finest noise.
    """
    corners = corner_block(block)
    corners.storage = _corner_products(block, block.structure if of is None else of, sigma, corners.spatial)
    return smoothed(corners, rho)


def _corner_products(block: Block, image: Floats, sigma: float, spatial: tuple[int, ...]) -> Floats:
    """Return J at the corners before it is smoothed; the smoothed image is let go."""
    u, ndim = smoothed(dataclasses.replace(block, storage=image), sigma), len(block.spatial)
    tensor = allocate(tensor_arrays(ndim), spatial, u.dtype)
    # A list first: tuples made of generators fill the interpreter's store of spare ones, step by step.
    inverse = tuple([u.dtype.type(1 / h) for h in (*reversed(block.spacing), 1.0)[:3]])
    products = build_corner_products(block.valid_storage is not None, ndim == 3)
    grid, pitch = kernel_grid(block, len(u)), row_pitch(spatial[-1])
    products(tensor.reshape(-1), u.reshape(-1), kernel_walls(block), grid, pitch, inverse)
    return tensor


def corners_to_cells(block: Block, tensor: Floats) -> Floats:
    """Return the mean of the corners of every cell, (components, cells), of a tensor at the corners."""
    corners = as_image(tensor, tuple(n + 1 for n in block.spatial))
    cells = allocate(len(tensor), block.spatial, tensor.dtype)
    view, ndim = as_image(cells, block.spatial), len(block.spatial)
    for offset in np.ndindex((2,) * ndim):
        view += corners[:, *(slice(s, s + n) for s, n in zip(offset, block.spatial, strict=True))]
    view *= tensor.dtype.type(0.5**ndim)
    return cells
