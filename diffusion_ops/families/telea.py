"""Fill unknown pixels in the order of their distance from the known ones (Telea)."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.families.fronts.patches import run_through
from diffusion_ops.families.fronts.window import FrontWindow
from diffusion_ops.kernels.fronts.ordered_filling import fill_in_order


def distances(known: Bools, valid: Bools, spacing: tuple[float, ...]) -> Floats:
    """Return the distance of every pixel from the known ones, around walls, by fast marching; infinite at walls."""
    window = FrontWindow.empty(known.shape, np.dtype(np.float64), labelled=False)
    window.wall(valid)
    window.start((known & valid).astype(np.int64))
    run_through(window, np.ones(known.shape), True, spacing, math.inf)
    return np.where(valid, window.times[window.inner], np.inf)


def neighbours(steps: tuple[float, ...], radius: float) -> tuple[NDArray[np.int64], Floats]:
    """Return the offsets within a radius, row-major, and their lengths; the centre is none of them."""
    spans = [range(-math.floor(radius / h), math.floor(radius / h) + 1) for h in steps]
    found = []
    for offset in itertools.product(*spans):
        length = math.sqrt(sum((k * h) ** 2 for k, h in zip(offset, steps, strict=True)))
        if 0 < length <= radius:
            found.append((offset, length))
    return np.array([o for o, _ in found], np.int64), np.array([length for _, length in found])


def distance_margin(spacing: tuple[float, ...], radius: float) -> tuple[int, ...]:
    """Return how many cells around a hole its pixels depend on, per axis: as far as they look."""
    steps = _steps(spacing)
    return tuple([math.floor(_radius(steps, radius) / h) for h in steps])


def _steps(spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Return the spacing in units of the finest."""
    return tuple([h / min(spacing) for h in spacing])


def _radius(steps: tuple[float, ...], radius: float) -> float:
    """Return how far pixels look: to the next ones along every axis at least."""
    return max(radius, *steps)


def fill_by_distance(
    fields: Floats, known: Bools, valid: Bools, spacing: tuple[float, ...], radius: float
) -> Floats:
    """Return fields (channels, *spatial), filled from the rim of what is known inwards.

    A pixel p gets sum w u_q / sum w over the pixels q that are nearer to known ones, within a radius and not behind a
    wall; w = |cos(p - q, ∇T)| / |p - q|² / (1 + T_p - T_q), T the distance, lengths in units of the finest spacing.
    Telea's gradients of u are left out: over 512 x 512 pixels of a photograph they cost 0.6 to 3 dB, and values left
    the range of the known ones.
    """
    lone, steps = 3 - known.ndim, _steps(spacing)
    times = distances(known, valid, steps).reshape(-1)
    unknown = np.flatnonzero(valid & ~known)
    order = unknown[np.argsort(times[unknown], kind="stable")]
    filled = np.where(known & valid, fields, 0).astype(np.float64).reshape(len(fields), -1)
    offsets, lengths = neighbours(steps, _radius(steps, radius))
    offsets = np.pad(offsets, [(0, 0), (lone, 0)])
    fill_in_order(
        filled,
        times,
        valid.reshape(-1),
        order,
        offsets,
        lengths,
        (1,) * lone + known.shape,
        np.array((1.0,) * lone + steps),
    )
    return filled.reshape(fields.shape)
