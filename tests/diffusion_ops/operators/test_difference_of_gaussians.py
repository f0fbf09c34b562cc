"""Differences of Gaussians are those of scikit-image away from edges, and follow no even background."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data
from skimage.filters import difference_of_gaussians

import diffusion_ops as do

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("low", [0.0, 1.0])
def test_it_is_that_of_scikit_image_away_from_edges(low: float) -> None:
    image = data.coins()[:90, :100].astype(np.float64)
    found = do.evolve(image, do.DifferenceOfGaussians(low_sigma=low, high_sigma=5.0))
    inside = np.s_[20:-20, 20:-20]
    wanted = difference_of_gaussians(image, low, 5.0, truncate=4.0)
    np.testing.assert_allclose(found[inside], wanted[inside], atol=1e-10)


def test_an_even_image_has_none_also_at_walls() -> None:
    image = np.full((40, 50), 7.0)
    image[10:20, 30] = np.nan
    found = do.evolve(image, do.DifferenceOfGaussians(high_sigma=3.0))
    assert np.nanmax(abs(found)) < 1e-13
    assert np.array_equal(np.isnan(found), np.isnan(image))


@pytest.mark.parametrize("high", [0.5, 1.0])
def test_a_background_finer_than_the_detail_is_refused(high: float) -> None:
    with pytest.raises(ValueError, match=f"high_sigma={high:g} is not larger than low_sigma=1"):
        do.DifferenceOfGaussians(low_sigma=1.0, high_sigma=high)
