"""Signed distances: balls, regions of ones, and the bits of a sweep from the pixels beside the crossing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.families.fronts.level_set import crossing_distances
from tests.plain_fronts import second_order

pytestmark = pytest.mark.thorough


def radius(n: int, ndim: int) -> NDArray[np.float64]:
    """Return how far the cells of a cube of side 2 are from its centre."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n)] * ndim, indexing="ij")
    return np.sqrt(sum(a * a for a in axes))


@pytest.mark.parametrize(
    ("ndim", "sides", "mean"),
    [(2, (51, 101, 201), 1e-3), pytest.param(3, (26, 51), 6e-3, marks=pytest.mark.slow)],
)
def test_distances_of_balls_converge_with_the_square_of_the_spacing(
    ndim: int, sides: tuple[int, ...], mean: float
) -> None:
    """The image is no distance itself: its slope varies along the crossing."""
    errors = []
    for n in sides:
        r = radius(n, ndim)
        found = do.solve(r * r - 0.25, do.SignedDistance(), spacing=2 / (n - 1))
        errors.append(np.abs(found - (r - 0.5)).mean())
        assert ((found < 0) == (r < 0.5)).all()
    assert errors[0] < mean
    assert all(a / b > 3.7 for a, b in itertools.pairwise(errors))


def test_distances_of_first_order_are_nearer_where_the_image_is_finer() -> None:
    errors = []
    for n in (51, 101):
        r = radius(n, 2)
        found = do.solve(r, do.SignedDistance(level=0.5, order=1), spacing=2 / (n - 1))
        errors.append(np.abs(found - (r - 0.5)).mean())
    assert 1.9 < errors[0] / errors[1] < 2.2


@pytest.mark.parametrize("kind", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_both_orders_have_the_bits_of_a_sweep(kind: type) -> None:
    image = np.random.default_rng(0).normal(size=(23, 31)).astype(kind).cumsum(axis=0).cumsum(axis=1)
    spacing, level = (0.5, 2.0), float(np.median(image))
    starts = crossing_distances(image, level, None, spacing).astype(kind)
    first = np.abs(do.solve(image, do.SignedDistance(level, order=1), spacing=spacing))
    found = do.solve(image, do.SignedDistance(level), spacing=spacing)
    expected = second_order(first, np.ones_like(image), spacing, starts < np.inf)
    assert np.array_equal(found, np.where(image < level, -expected, expected))


def test_a_region_of_ones_begins_half_a_pixel_outside() -> None:
    region = np.zeros((5, 9), np.uint8)
    region[:, 3:6] = 1
    found = do.solve(region, do.SignedDistance(level=0.5, inside="above"))
    assert found.dtype == np.float32
    assert (found == [2.5, 1.5, 0.5, -0.5, -1.5, -0.5, 0.5, 1.5, 2.5]).all()
    near = do.solve(region, do.SignedDistance(level=0.5, inside="above", until=1))
    assert np.array_equal(np.isfinite(near), np.abs(found) <= 1)


def test_walls_are_no_crossing_and_are_gone_around() -> None:
    image = np.ones((9, 9))
    image[0], image[4, :8], image[5:, 0] = -1, np.nan, np.nan
    found = do.solve(image, do.SignedDistance(order=1))
    assert np.isnan(found[4, :8]).all()
    assert (found[3] == 2.5).all()
    assert found[5, 8] == 4.5
    assert found[8, 1] > 10


def test_units_of_powers_of_two_change_no_bit() -> None:
    image = radius(40, 2).astype(np.float32) - 0.4
    found = do.solve(image, do.SignedDistance())
    other = do.solve(image * np.float32(2.0**60), do.SignedDistance(), spacing=2.0**-20)
    assert np.array_equal(other, found * np.float32(2.0**-20))


def test_an_image_that_does_not_cross_the_level_is_refused() -> None:
    image: Any = np.ones((6, 7))
    with pytest.raises(ValueError, match="does not cross the level 0"):
        do.solve(image, do.SignedDistance())
    with pytest.raises(ValueError, match="one channel"):
        do.solve(np.stack([image, -image], axis=-1), do.SignedDistance(), channel_axis=-1)
    with pytest.raises(ValueError, match="markers is given, but signed-distance does not read it"):
        do.solve(image, do.SignedDistance(), markers=image.astype(int))
