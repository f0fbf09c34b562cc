"""Circles and spheres as images, and how large they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

import diffusion_ops as do


def distances(shape: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the distance of every cell from the middle."""
    index = np.indices(shape, dtype=np.float64)
    parts = [h * (i - (n - 1) / 2) for i, n, h in zip(index, shape, spacing, strict=True)]
    return np.asarray(np.sqrt(np.sum(np.square(parts), axis=0)))


def radii(u: NDArray[Any], spacing: tuple[float, ...], largest: float) -> NDArray[np.float64]:
    """Return the distance of the zero of u from the middle in many directions."""
    middle = np.array([(n - 1) / 2 for n in u.shape])
    ways = np.random.default_rng(0).normal(size=(64, u.ndim))
    ways /= np.linalg.norm(ways, axis=1)[:, None]
    r = np.linspace(0, largest, 4001)
    found = []
    for way in ways:
        line = map_coordinates(u, middle[:, None] + (way / spacing)[:, None] * r, order=3)
        i = int(np.argmax(line > 0))
        found.append(r[i] - (r[i] - r[i - 1]) * line[i] / (line[i] - line[i - 1]))
    return np.array(found)


def radius_error(
    operator: Any, shape: tuple[int, ...], start: float, time: float, end: float, **more: Any
) -> float:
    """Return the root mean square error of the radius of a circle or sphere after a time."""
    spacing = more.get("spacing", (1.0,) * len(shape))
    u = do.evolve(distances(shape, spacing) - start, operator, time=time, **more)
    return float(np.sqrt(np.mean((radii(u, spacing, start + 1) - end) ** 2)))
