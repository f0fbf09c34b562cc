"""Threshold dynamics: circles shrink as they should, energies fall, and means are those of the whole image."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

import diffusion_ops as do
from diffusion_ops.blocks.block import allocate, as_image
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.families.segmentation.phases import PhaseMeans
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from pipelines.plan.search import PlanError
from pipelines.run.preview import preview
from pipelines.run.run import run
from pipelines.run.verify import verify
from tests.pipelines.runs import read_result, save_source, small_spec

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

COINS = data.coins()[:130, :150].astype(np.float32)


def disc(radius: int) -> Array:
    """Return labels: 1 within a radius."""
    y, x = np.indices((2 * radius + 49,) * 2) - (radius + 24)
    return (y * y + x * x < radius * radius).astype(np.float32)


@pytest.mark.parametrize(("radius", "time"), [(30, 224), (60, 896)])
@pytest.mark.parametrize("dt", [8, 32])
def test_circles_shrink_by_their_curvature(radius: int, time: int, dt: int) -> None:
    """d(R²)/dt = -2, for radii of the counted cells."""
    operator = do.ThresholdDynamics(data="none", start_from="labels", sigma=(2 * dt) ** 0.5)
    first, found = (
        labels.sum() / np.pi for labels in (disc(radius), do.evolve(disc(radius), operator, steps=time // dt))
    )
    assert np.sqrt(found) == pytest.approx(np.sqrt(first - 2 * time), rel=0.013)


def test_short_steps_are_pinned_by_the_grid() -> None:
    operator = do.ThresholdDynamics(data="none", start_from="labels", sigma=2.0)
    found = do.evolve(disc(30), operator, steps=112)
    assert np.abs(found - disc(30)).sum() <= 10


def test_the_energy_falls_in_every_iteration() -> None:
    values, weight, sigma = (50.0, 110.0, 170.0), 1500.0, 2.0
    settings: dict[str, Any] = {"classes": 3, "thresholds": [80.0, 140.0], "means": values, "weight": weight}
    operator = do.ThresholdDynamics(**settings, sigma=sigma)

    def energy(labels: Array) -> float:
        block = make_block(np.stack([labels == k for k in range(3)]).astype(np.float64), (1.0, 1.0))
        blurred = as_image(smoothed(block, sigma), block.spatial)
        far = (COINS - np.reshape(values, (3, 1, 1))) ** 2
        length = weight * np.sqrt(2 * np.pi) / sigma / 2
        return float(
            sum((u * (f + length * (1 - b))).sum() for u, f, b in zip(block.u, far, blurred, strict=True))
        )

    found = [energy(do.evolve(COINS, operator, steps=n)) for n in range(1, 7)]
    assert all(b <= a for a, b in itertools.pairwise(found))
    assert found[-1] < 0.996 * found[0]


@pytest.mark.parametrize("data_term", ["linear", "relaxed"])
def test_regions_in_noise_are_found(data_term: str) -> None:
    truth = disc(40)
    noisy = 100 * truth + np.random.default_rng(0).normal(0, 60, truth.shape)
    found = do.evolve(noisy, do.ThresholdDynamics(data=data_term), steps=10)
    assert np.mean(do.evolve(noisy, do.Thresholding()) != truth) > 0.1
    assert np.mean(found != truth) < 0.01


def test_means_are_exact() -> None:
    labels = np.random.default_rng(0).integers(0, 3, COINS.shape)
    image = (COINS * np.float32(1e5) ** labels).astype(np.float32)
    image[3:9, 4] = np.nan
    block = make_block(image[None], (1.0, 1.0))
    block.carried = allocate(1, COINS.shape, np.dtype(np.float32))
    block.carried.reshape(len(COINS), -1)[:, : COINS.shape[1]] = labels
    means = PhaseMeans(1, 4)
    halves = [means.measure(block, (slice(None), s)) for s in (slice(0, 51), slice(51, None))]
    found = means.numbers(means.merge(*halves))
    for phase in range(3):
        values = [Fraction(float(x)) for x in image[(labels == phase) & ~np.isnan(image)]]
        assert found[f"mean {phase}"] == float(sum(values) / len(values))
    # A phase without cells has no mean.
    assert list(found) == ["mean 0", "mean 1", "mean 2"]


CASES: Mapping[str, tuple[dict[str, Any], int]] = {
    "two phases": ({}, 3),
    "three phases, shared means": ({"classes": 3, "every": 2, "data": "relaxed"}, 5),
}


@pytest.mark.parametrize("case", CASES)
def test_means_are_those_of_the_whole_image_however_it_is_cut(case: str, tmp_path: Path) -> None:
    parameters, steps = CASES[case]
    image = COINS.copy()
    image[40:60, 70:75] = np.nan
    operator = do.ThresholdDynamics(**parameters)
    whole = do.evolve(image, operator, steps=steps)
    for batch in (None, 1, 2):
        lazy = do.evolve(da.from_array(image, (50, 60)), operator, steps=steps, batch=batch)
        assert np.array_equal(lazy.compute(scheduler="synchronous"), whole, equal_nan=True)
    step = {"operator": "threshold-dynamics", **parameters, "steps": steps}
    target = tmp_path / "labels.zarr"
    report = run(small_spec(save_source(tmp_path, image), target, steps=[step], run={"batch": 1}))
    assert np.array_equal(read_result(target), whole, equal_nan=True)
    named = {name for entry in report.data["statistics"] for name in entry["values"]}
    assert {"mean 0 after 0 steps", f"mean 1 after {2 * (steps // 2) - 2} steps"} <= named
    assert verify(str(target), samples=3)["windows"] == 3


def test_a_part_alone_is_refused_while_means_are_not_known(tmp_path: Path) -> None:
    source = save_source(tmp_path, COINS)
    measured = [{"operator": "threshold-dynamics", "thresholds": [100.0], "weight": 1e3, "steps": 2}]
    with pytest.raises(PlanError, match="give numbers"):
        preview(
            small_spec(source, tmp_path / "a.zarr", steps=measured), "10:60,20:70", str(tmp_path / "a.tif")
        )
    given = [measured[0] | {"means": [50.0, 150.0]}]
    part = tmp_path / "part.zarr"
    preview(small_spec(source, tmp_path / "b.zarr", steps=given), "10:60,20:70", str(part))
    operator = do.ThresholdDynamics(thresholds=100.0, weight=1e3, means=[50.0, 150.0])
    assert np.array_equal(read_result(part), do.evolve(COINS, operator, steps=2)[10:60, 20:70])


def test_a_guide_is_the_data_of_labels() -> None:
    labels = do.evolve(COINS, do.Thresholding())
    fromlabels = do.evolve(labels, do.ThresholdDynamics(start_from="labels"), guide=COINS, steps=3)
    assert np.array_equal(fromlabels, do.evolve(COINS, do.ThresholdDynamics(), steps=3))


def test_it_reads_as_far_as_it_says() -> None:
    """The data of one cell is such that the last cell of the Gaussian decides its label."""
    sigma, weight = 1.0, 100.0
    (reach, _) = gaussian_radius(sigma, (1.0, 1.0))
    labels = np.random.default_rng(0).integers(0, 2, (3, 30)).astype(np.float64)
    target = (1, 12)
    end = (1, 12 + reach)
    shares = []
    for value in (0, 1):
        labels[end] = value
        shares.append(smoothed(make_block(labels[None], (1.0, 1.0)), sigma).reshape(3, -1)[target])
    # The label is 1 where 2 K u - 1 > s (|f - 1|² - |f|²) = s (1 - 2 f).
    s = sigma / (np.sqrt(2 * np.pi) * weight)
    guide = np.full(labels.shape, (1 - (sum(shares) - 1) / s) / 2)
    operator = do.ThresholdDynamics(start_from="labels", means=[0.0, 1.0], weight=weight, sigma=sigma)
    found = []
    for value in (0, 1):
        labels[end] = value
        found.append(do.evolve(labels, operator, guide=guide, steps=1)[target])
    assert found == [0, 1]
    assert operator.reach((1.0, 1.0)).step == (reach, reach)


def test_a_phase_that_vanishes_stays_empty() -> None:
    image = np.full((40, 40), 100.0, np.float32)
    image[20, 20] = 200
    found = do.evolve(image, do.ThresholdDynamics(weight=1e6, sigma=2.0), steps=4)
    assert not found.any()


def test_units_are_arbitrary() -> None:
    operator = do.ThresholdDynamics(classes=3)
    scaled = do.evolve(COINS * 2.0**20, operator, steps=3)
    assert np.array_equal(scaled, do.evolve(COINS, operator, steps=3))


def test_what_does_not_fit_is_refused() -> None:
    for wrong in ({"means": [1.0]}, {"classes": 3, "means": [1.0, 2.0]}, {"weight": 0}, {"sigma": 0}):
        with pytest.raises(ValueError, match="Allowed"):
            do.ThresholdDynamics(**wrong)
    with pytest.raises(ValueError, match="Allowed: 2 or 2 values"):
        do.evolve(COINS, do.ThresholdDynamics(means=[1.0, 2.0, 3.0, 4.0]), steps=1)
    with pytest.raises(ValueError, match="holds the label 2"):
        do.evolve(np.full((8, 8), 2.0), do.ThresholdDynamics(start_from="labels", weight=1.0), steps=1)
