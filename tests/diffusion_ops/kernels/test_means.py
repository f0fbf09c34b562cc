"""Means of known cells are those of their sums, first along the first axis, and never beyond the cells' own values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffusion_ops.kernels.pixels.means import known_means

pytestmark = pytest.mark.thorough


def pairs(reduce: np.ufunc, values: Any) -> Any:
    """Return the sum, or else, of every 2 cells along each axis."""
    for axis, n in enumerate(values.shape):
        values = reduce.reduceat(values, np.arange(0, n, 2), axis=axis)
    return values


@pytest.mark.parametrize("shape", [(2, 31, 40), (1, 9, 14, 11)])
def test_means_are_those_of_sums_axis_by_axis(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    fields = random.choice([0.1, 0.3, 0.0, 0.7], shape).astype(np.float32)
    known = random.random(shape[1:]) < 0.4
    means, has = known_means(fields, known)
    counts = pairs(np.add, known.astype(int))
    assert np.array_equal(has, counts > 0)
    for found, channel in zip(means, fields.astype(np.float64), strict=True):
        sums = pairs(np.add, np.where(known, channel, 0.0))
        least = pairs(np.minimum, np.where(known, channel, np.inf))
        most = pairs(np.maximum, np.where(known, channel, -np.inf))
        wanted = np.clip(sums / np.maximum(counts, 1), least, most)
        assert np.where(has, wanted, 0.0).tobytes() == found.tobytes()
