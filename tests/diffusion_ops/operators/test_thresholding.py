"""Thresholds are those of scikit-image on whole images, found by counts that no tiling changes."""

from __future__ import annotations

import itertools
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from skimage.filters import threshold_multiotsu, threshold_otsu

import diffusion_ops as do
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.blocks.levels import best_cuts, count_levels, levels_of
from diffusion_ops.blocks.statistic import make_statistic

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

IMAGES = {
    "camera": data.camera(),
    "coins": data.coins(),
    "sixteen bits": data.moon()[::2, ::2].astype(np.uint16) * 250 + 7,
    "signed": data.page().astype(np.int16) - 100,
}


def otsu(image: Array, classes: int = 2) -> list[float]:
    """Return the thresholds of an image that is one block."""
    block, everything = make_block(image[None], (1.0,) * image.ndim), (slice(None),) * image.ndim
    found = [make_statistic("otsu", classes=classes, number=i + 1) for i in range(classes - 1)]
    return [one.value(one.measure(block, everything)) for one in found]


@pytest.mark.parametrize("name", IMAGES)
def test_otsu_is_that_of_scikit_image(name: str) -> None:
    image = IMAGES[name]
    wanted = threshold_otsu(image)
    assert otsu(image) == [wanted]
    assert np.array_equal(do.evolve(image, do.Thresholding()), image > wanted)


@pytest.mark.parametrize("name", ["camera", "coins"])
@pytest.mark.parametrize("classes", [3, 4])
def test_several_thresholds_are_those_of_scikit_image(name: str, classes: int) -> None:
    assert otsu(IMAGES[name], classes) == list(threshold_multiotsu(IMAGES[name], classes))


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_cuts_are_the_best_of_all(classes: int) -> None:
    """Against the table of all partitions, filled class by class."""
    image = np.random.default_rng(classes).choice([1.5, 2, 3, 7, 20, 21, 40.25, 64, 90, 91, 200], (40, 41))
    levels = levels_of(count_levels(make_block(image[None], (1.0, 1.0)), (slice(None),) * 2))
    n = len(levels.values)

    def error(i: int, j: int) -> float:
        values, counts = levels.values[i:j], levels.counts[i:j]
        return float(counts @ (values - np.average(values, weights=counts)) ** 2)

    least = [error(0, j) if j else np.inf for j in range(n + 1)]
    for _ in range(classes - 1):
        least = [min((least[i] + error(i, j) for i in range(1, j)), default=np.inf) for j in range(n + 1)]
    cuts = [0, *(i + 1 for i in best_cuts(levels, classes)), n]
    found = sum(error(i, j) for i, j in itertools.pairwise(cuts))
    assert found == pytest.approx(least[n], rel=1e-9)


def test_no_chunks_change_it() -> None:
    image = data.coins().astype(np.float32) / 3
    image[20:40, 30] = np.nan
    operator = do.Thresholding(classes=3)
    lazy = do.evolve(da.from_array(image, (100, 77)), operator)
    assert np.array_equal(lazy.compute(), do.evolve(image, operator), equal_nan=True)


def test_units_are_arbitrary() -> None:
    image = np.random.default_rng(0).normal(size=(60, 61)) + 4.0 * (np.arange(61) > 30)
    for factor in (2.0**-20, 2.0**20):
        assert otsu(image * factor) == pytest.approx([factor * otsu(image)[0]], rel=2e-3)
        assert np.array_equal(
            do.evolve(image * 2.0**-30, do.Thresholding()), do.evolve(image * 2.0**-33, do.Thresholding())
        )


def test_values_that_bins_cannot_tell_apart_are_refused() -> None:
    image = 1000.5 + np.random.default_rng(0).random((30, 30))
    with pytest.raises(ValueError, match="Subtract an offset"):
        do.evolve(image, do.Thresholding())


def test_what_does_not_fit_is_refused() -> None:
    flat = np.full((8, 8), 5, np.uint8)
    assert not do.evolve(flat, do.Thresholding()).any()
    with pytest.raises(ValueError, match="too few for 3"):
        do.evolve(flat, do.Thresholding(classes=3))
    for wrong in ([3.0, 2.0], [1.0], "high", [], [1.0, np.nan]):
        with pytest.raises(ValueError, match="Allowed"):
            do.Thresholding(classes=3, thresholds=wrong)
    with pytest.raises(ValueError, match="Allowed"):
        make_statistic("otsu", classes=2, number=2)


def test_statistics_may_stand_for_single_thresholds() -> None:
    image = IMAGES["coins"]
    operator = do.Thresholding(classes=3, thresholds=[{"otsu": {"classes": 3, "number": 1}}, 200.0])
    low = otsu(image, 3)[0]
    assert np.array_equal(do.evolve(image, operator), (image > low).astype(int) + (image > 200))
