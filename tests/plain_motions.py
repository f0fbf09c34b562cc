"""Curvature motions and sharpening equations, one step each, in plain NumPy: to compare values and speed with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
Spacing = tuple[float, ...]


def moved(u: Image, *offset: int) -> Image:
    """Return u at an offset from every cell; beyond its ends u repeats itself."""
    reach = max(map(abs, offset))
    padded = np.pad(u, reach, mode="edge")
    return padded[tuple(slice(reach + o, reach + o + n) for o, n in zip(offset, u.shape, strict=True))]


def along(u: Image, axis: int, steps: int) -> Image:
    """Return u some steps further along an axis."""
    return moved(u, *(steps if k == axis else 0 for k in range(u.ndim)))


def jet(u: Image, spacing: Spacing) -> tuple[list[Image], list[list[Image]]]:
    """Return central first and second differences."""
    axes = range(u.ndim)
    g = [(along(u, k, 1) - along(u, k, -1)) / (2 * spacing[k]) for k in axes]
    h: list[list[Image]] = [[u] * u.ndim for _ in axes]
    for k in axes:
        h[k][k] = (along(u, k, 1) - 2 * u + along(u, k, -1)) / spacing[k] ** 2
    for k, m in itertools.combinations(axes, 2):
        corners = 0.0
        for a, b in itertools.product((-1, 1), repeat=2):
            corners = corners + a * b * moved(u, *(a * (i == k) + b * (i == m) for i in axes))
        h[k][m] = h[m][k] = corners / (4 * spacing[k] * spacing[m])
    return g, h


def second_along(g: list[Image], h: list[list[Image]]) -> Image:
    """Return gᵀHg."""
    axes = range(len(g))
    return np.asarray(sum(g[k] * h[k][m] * g[m] for k in axes for m in axes))


def squared(g: list[Image]) -> Image:
    """Return |g|²."""
    return np.asarray(sum(x * x for x in g))


def bounded(new: Image, u: Image) -> Image:
    """Return new values, none beyond the extremes of the cell and its neighbours on up to two axes."""
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=u.ndim) if np.count_nonzero(o) < 3]
    near = [moved(u, *o) for o in offsets]
    return np.clip(new, np.minimum.reduce(near), np.maximum.reduce(near))


def tangential(u: Image, spacing: Spacing, epsilon: float) -> Image:
    """Return u_ξξ."""
    g, h = jet(u, spacing)
    laplacian, flat = sum(h[k][k] for k in range(u.ndim)), (u.ndim - 1) / u.ndim
    above = squared(g) * laplacian - second_along(g, h) + epsilon**2 * flat * laplacian
    return np.asarray(above / (squared(g) + epsilon**2))


def mean_curvature(u: Image, spacing: Spacing, tau: float, epsilon: float = 1e-3) -> Image:
    """Take a step of mean curvature motion."""
    return bounded(u + tau * tangential(u, spacing, epsilon), u)


def affine_curvature(u: Image, spacing: Spacing, tau: float) -> Image:
    """Take a step of affine curvature motion."""
    g, h = jet(u, spacing)
    across = squared(g) * (h[0][0] + h[1][1]) - second_along(g, h)
    most = 0.8 / (tau * sum(1 / s**2 for s in spacing)) * np.abs(across) / (squared(g) + 1e-30)
    return bounded(u + tau * np.sign(across) * np.minimum(np.cbrt(np.abs(across)), most), u)


def min_max_curvature(u: Image, tau: float, radius: int, epsilon: float = 1e-3) -> Image:
    """Take a step of the min/max flow with spacing 1."""
    reach = range(-radius, radius + 1)
    disk = [(y, x) for y in reach for x in reach if x * x + y * y <= radius**2]
    mean = sum(moved(u, *o) for o in disk) / len(disk)
    (gy, gx), _ = jet(u, (1.0, 1.0))
    length = np.sqrt(gx**2 + gy**2)
    far = np.where(length > 0, radius / np.where(length > 0, length, 1), 0)
    rows, columns = (np.rint(radius + sign * far * g).astype(int) for sign, g in ((1, gx), (-1, gy)))
    y, x = np.indices(u.shape)
    padded = np.pad(u, radius, mode="edge")
    ends = padded[y + rows, x + columns] + padded[y + 2 * radius - rows, x + 2 * radius - columns]
    rim = [(y, x) for y in reach for x in reach if abs(np.hypot(x, y) - radius) < 0.75]
    level = np.where(length > 0, ends / 2, sum(moved(u, *o) for o in rim) / len(rim))
    rate = tangential(u, (1.0, 1.0), epsilon)
    rate = np.where(mean < level, np.maximum(rate, 0), np.minimum(rate, 0))
    return bounded(u + tau * rate, u)


def upwind(u: Image, spacing: Spacing, rising: Image) -> Image:
    """Return |∇u| as a cell sees it whose value rises or falls."""
    total = np.zeros_like(u)
    for k, step in itertools.product(range(u.ndim), (-1, 1)):
        slope = (along(u, k, step) - u) / spacing[k]
        total += np.where(rising, np.maximum(slope, 0), np.minimum(slope, 0)) ** 2
    return np.sqrt(total)


def curvature_diffusion(u: Image, spacing: Spacing, tau: float, contrast: float) -> Image:
    """Take a step of modified curvature diffusion of a state (channels, *spatial), conductance exponential."""
    axes = range(u.ndim - 1)
    central = [jet(c, spacing)[0] for c in u]
    shared, slopes = {}, {}
    for k, step in itertools.product(axes, (-1, 1)):
        slopes[k, step] = [(along(c, k, step) - c) / spacing[k] for c in u]
        q = sum(d**2 for d in slopes[k, step])
        q = q + sum(((g[m] + along(g[m], k, step)) / 2) ** 2 for g in central for m in axes if m != k)
        shared[k, step] = np.exp(-q / contrast**2) / np.sqrt(q + 1e-10)
    result = []
    for c in range(len(u)):
        speed = sum(shared[face] * slopes[face][c] / spacing[face[0]] for face in shared)
        result.append(u[c] + tau * speed * upwind(u[c], spacing, np.asarray(speed) > 0))
    return np.stack(result)


def shock(u: Image, spacing: Spacing, tau: float, bend: Image) -> Image:
    """Take a step of a shock filter, where `bend` is the sign of the second derivative."""
    return u - tau * bend * upwind(u, spacing, bend < 0)


def forward_backward(u: Image, spacing: Spacing, tau: float, diffusivity: Callable[[Image], Image]) -> Image:
    """Take a step of forward-and-backward diffusion."""
    q = np.zeros_like(u)
    for k in range(u.ndim):
        q += np.maximum((along(u, k, 1) - u) * (u - along(u, k, -1)), 0) / spacing[k] ** 2
    g, change = diffusivity(q), np.zeros_like(u)
    for k, step in itertools.product(range(u.ndim), (-1, 1)):
        change += (g + along(g, k, step)) / 2 * (along(u, k, step) - u) / spacing[k] ** 2
    return u + tau * change


def inverse_diffusion(u: Image, spacing: Spacing, tau: float) -> Image:
    """Take a step of stabilised inverse diffusion."""
    change = np.zeros_like(u)
    for k in range(u.ndim):
        cells = [along(u, k, step) for step in range(-2, 3)]
        a, b, c, d = (q - p for p, q in itertools.pairwise(cells))
        for sign, three in ((1, (b, c, d)), (-1, (a, b, c))):
            low, high = np.minimum.reduce(three), np.maximum.reduce(three)
            change += sign * (np.maximum(low, 0) + np.minimum(high, 0)) / spacing[k] ** 2
    return u - tau * change
