"""Morphological contours are bit by bit those of scikit-image, on whole images and however they are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data, filters
from skimage.segmentation import (
    inverse_gaussian_gradient,
    morphological_chan_vese,
    morphological_geodesic_active_contour,
    morphsnakes,
)

import diffusion_ops as do
from pipelines.run.run import run
from tests.pipelines.runs import read_result, save_source, small_spec

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

COINS = data.coins()[:90, :110]
VOLUME = filters.gaussian(np.random.default_rng(0).normal(size=(14, 16, 18)), 1.5)
EDGES = inverse_gaussian_gradient(COINS / 255.0, sigma=2.0)
INSIDE = filters.gaussian(COINS, 2) > 0.4


@pytest.fixture(autouse=True)
def _first_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scikit-image goes on with the order of operators of the call before; every test begins with the first."""
    si, is_ = morphsnakes.sup_inf, morphsnakes.inf_sup
    orders = [lambda u: si(is_(u)), lambda u: is_(si(u))]
    monkeypatch.setattr(morphsnakes, "_curvop", morphsnakes._fcycle(orders))


@pytest.mark.parametrize(("smoothing", "steps"), [(0, 5), (1, 7), (2, 6), (3, 5)])
@pytest.mark.parametrize("image", [COINS, VOLUME], ids=["plane", "volume"])
def test_chan_vese_is_that_of_scikit_image(image: Array, smoothing: int, steps: int) -> None:
    wanted = morphological_chan_vese(
        image, steps, init_level_set="checkerboard", smoothing=smoothing, lambda2=1.5
    )
    operator = do.MorphologicalChanVese(start_from="checkerboard", smoothing=smoothing, lambda2=1.5)
    assert np.array_equal(do.evolve(image, operator, steps=steps), wanted)


@pytest.mark.parametrize("smoothing", [0, 1, 2])
@pytest.mark.parametrize(("balloon", "threshold"), [(0.0, 0.5), (1.0, 0.69), (-2.0, 1.2)])
def test_geodesic_contours_are_those_of_scikit_image(
    balloon: float, threshold: float, smoothing: int
) -> None:
    how = {"smoothing": smoothing, "balloon": balloon, "threshold": threshold}
    wanted = morphological_geodesic_active_contour(EDGES, 7, init_level_set=INSIDE, **how)
    operator = do.MorphologicalGeodesicContour(start_from="labels", **how)
    assert np.array_equal(do.evolve(INSIDE.astype(np.float64), operator, guide=EDGES, steps=7), wanted)


def test_geodesic_contours_of_volumes_are_those_of_scikit_image() -> None:
    edges, start = inverse_gaussian_gradient(VOLUME, sigma=1.0), VOLUME > 0.02
    wanted = morphological_geodesic_active_contour(edges, 5, init_level_set=start, balloon=1, threshold=0.3)
    operator = do.MorphologicalGeodesicContour(start_from="labels", balloon=1.0, threshold=0.3)
    assert np.array_equal(do.evolve(start.astype(np.float64), operator, guide=edges, steps=5), wanted)


def test_no_cut_changes_them(tmp_path: Path) -> None:
    wanted = morphological_chan_vese(COINS, 6, init_level_set="checkerboard")
    operator = do.MorphologicalChanVese(start_from="checkerboard")
    for batch in (None, 1):
        lazy = do.evolve(da.from_array(COINS, (40, 50)), operator, steps=6, batch=batch)
        assert np.array_equal(lazy.compute(scheduler="synchronous"), wanted)
    step = {"operator": "morphological-chan-vese", "start_from": "checkerboard", "steps": 6}
    run(small_spec(save_source(tmp_path, COINS), tmp_path / "a.zarr", steps=[step], sink={"dtype": "uint8"}))
    assert np.array_equal(read_result(tmp_path / "a.zarr"), wanted)


def test_colours_are_weighed_together() -> None:
    """Of the same picture in three channels comes the same contour."""
    colours = np.stack([COINS] * 3, axis=-1)
    operator = do.MorphologicalChanVese(thresholds=100.0)
    found = do.evolve(colours, operator, channel_axis=-1, steps=5)
    assert np.array_equal(found[..., 0], do.evolve(COINS, operator, steps=5))


@pytest.mark.parametrize("smoothing", [0, 1])
@pytest.mark.parametrize("cls", [do.MorphologicalChanVese, do.MorphologicalGeodesicContour])
def test_they_read_as_far_as_they_say(cls: Any, smoothing: int) -> None:
    """New labels and data at a distance change the middle now and then as far as the reach, and never beyond it."""
    how = {"means": [0.0, 1.0]} if cls is do.MorphologicalChanVese else {"balloon": 1.0, "threshold": 0.5}
    operator = cls(start_from="labels", smoothing=smoothing, **how)
    reach, changed, random = operator.reach((1.0, 1.0)).step[0], set(), np.random.default_rng(0)
    n = reach + 1
    distance = np.abs(np.indices((2 * n + 1,) * 2) - n).max(axis=0)
    for _ in range(600):
        labels, guide = (random.random((2, *distance.shape)) < random.choice([0.05, 0.5])).astype(float)
        far = reach + random.integers(0, 2)
        other = [np.where(distance == far, random.integers(0, 2, f.shape), f) for f in (labels, guide)]
        first = do.evolve(labels, operator, guide=guide, steps=1)
        second = do.evolve(other[0], operator, guide=other[1], steps=1)
        changed |= {int(far)} if first[n, n] != second[n, n] else set()
    assert changed == {reach}
