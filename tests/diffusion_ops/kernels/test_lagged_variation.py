"""A step with the weights of lagged diffusivity puts free cells at the weighted means of their neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffusion_ops.blocks.block import Block, allocate, as_image
from diffusion_ops.kernels.motions.lagged_variation import lagged_weights, take_weighted_steps

pytestmark = pytest.mark.thorough

SMOOTHED = 0.3


def weights_of(u: Any, valid: Any, spacing: tuple[float, ...]) -> list[Any]:
    """Return the weights of the faces to the next cell per axis, by definition; the last cell of an axis has none."""
    squares, faces = np.zeros(u.shape[1:]), []
    for axis, h in enumerate(spacing):
        both = valid & np.roll(valid, -1, axis)
        both[(*(slice(None),) * axis, -1)] = False
        faces.append(both)
        squares += both * ((np.roll(u, -1, axis + 1) - u) ** 2).sum(0) / h**2
    w = 1 / np.sqrt(1 + squares / SMOOTHED**2)
    return [both * w * (min(spacing) / h) ** 2 for both, h in zip(faces, spacing, strict=True)]


@pytest.mark.parametrize(("shape", "spacing"), [((21, 37), (1.0, 2.0)), ((5, 7, 19), (3.0, 1.0, 1.5))])
def test_a_step_is_the_weighted_mean_of_the_neighbours(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    random = np.random.default_rng(0)
    u, valid, free = random.random((2, *shape)), random.random(shape) > 0.2, random.random(shape) > 0.3
    block = Block.from_image(u, spacing, valid)
    flags = allocate(1, shape, np.dtype(bool))
    as_image(flags, shape)[0] = free & valid
    take_weighted_steps(block, lagged_weights(block, SMOOTHED), flags[0], [1.0])
    total, sums = np.zeros(shape), np.zeros(u.shape)
    for axis, w in enumerate(weights_of(u, valid, spacing)):
        back = np.roll(w, 1, axis)
        total += w + back
        sums += w * np.roll(u, -1, axis + 1) + back * np.roll(u, 1, axis + 1)
    means = np.where(free & (total > 0), sums / np.where(total > 0, total, 1), u)
    assert np.abs(block.u - means)[:, valid].max() < 1e-14
    assert np.array_equal(block.u[:, valid & ~free], u[:, valid & ~free])
