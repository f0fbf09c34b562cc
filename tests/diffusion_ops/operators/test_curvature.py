"""Motions by curvature against plain NumPy, the laws of circles and spheres, and ITK."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data

import diffusion_ops as do
from tests import plain_motions as plain
from tests.diffusion_ops.level_sets import distances, radius_error

pytestmark = pytest.mark.thorough

Image = NDArray[Any]


def noise(*shape: int, seed: int = 0) -> Image:
    """Return noise between 0 and 200."""
    return np.random.default_rng(seed).random(shape) * 200


GRIDS = pytest.mark.parametrize(
    ("shape", "spacing"), [((23, 37), (1.0, 1.5)), ((9, 11, 35), (2.0, 1.0, 0.7))]
)


# ---- the discretisation


@GRIDS
def test_mean_curvature_is_the_plain_form(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    u, op = noise(*shape), do.MeanCurvature(epsilon=3.0)
    tau = op.stable_dt(spacing)
    expected = plain.mean_curvature(plain.mean_curvature(u, spacing, tau, 3.0), spacing, tau, 3.0)
    np.testing.assert_allclose(do.evolve(u, op, steps=2, dt=tau, spacing=spacing), expected, rtol=1e-11)


def test_affine_curvature_is_the_plain_form() -> None:
    u, op, spacing = noise(23, 37), do.AffineCurvature(), (1.0, 1.5)
    expected = plain.affine_curvature(plain.affine_curvature(u, spacing, 0.03), spacing, 0.03)
    np.testing.assert_allclose(do.evolve(u, op, steps=2, dt=0.03, spacing=spacing), expected, rtol=1e-9)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_min_max_is_the_plain_form(radius: int) -> None:
    u, op = noise(24, 37), do.MinMaxCurvature(radius)
    expected = plain.min_max_curvature(plain.min_max_curvature(u, 0.2, radius), 0.2, radius)
    np.testing.assert_allclose(do.evolve(u, op, steps=2, dt=0.2), expected, rtol=1e-10)


@GRIDS
@pytest.mark.parametrize("channels", [1, 3])
def test_curvature_diffusion_is_the_plain_form(
    shape: tuple[int, ...], spacing: tuple[float, ...], channels: int
) -> None:
    u, op = noise(channels, *shape), do.CurvatureDiffusion(60.0)
    tau = op.stable_dt(spacing)
    expected = plain.curvature_diffusion(plain.curvature_diffusion(u, spacing, tau, 60), spacing, tau, 60)
    found = do.evolve(u, op, steps=2, dt=tau, spacing=spacing, channel_axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# Of the disk of min-max curvature, a cell behind a wall counts as the cell itself, one beyond an edge as the last one.
MIRRORED = [do.MeanCurvature(), do.AffineCurvature(), do.CurvatureDiffusion(60.0)]


@pytest.mark.parametrize("op", [*MIRRORED, do.MinMaxCurvature(1)], ids=lambda op: op.name)
def test_edges_are_mirrors(op: do.Operator) -> None:
    half = noise(20, 21)
    mirrored = do.evolve(np.concatenate([half, half[:, ::-1]], axis=1), op, steps=4)
    np.testing.assert_allclose(do.evolve(half, op, steps=4), mirrored[:, :21], rtol=1e-12)


@pytest.mark.parametrize("op", MIRRORED, ids=lambda op: op.name)
def test_walls_are_mirrors(op: do.Operator) -> None:
    half = noise(20, 21)
    mirrored = do.evolve(np.concatenate([half, half[:, ::-1]], axis=1), op, steps=4)
    walled = np.pad(half, 3, constant_values=np.nan)
    np.testing.assert_allclose(do.evolve(walled, op, steps=4)[3:-3, 3:-3], mirrored[:, :21], rtol=1e-12)


# ---- the laws


@pytest.mark.parametrize(("time", "end"), [(400, 28.2843), (600, 20.0)])
def test_a_circle_shrinks_by_its_law(time: float, end: float) -> None:
    assert radius_error(do.MeanCurvature(), (101, 101), 40, time, end) < 0.025


def test_time_and_length_are_those_of_the_spacing() -> None:
    assert radius_error(do.MeanCurvature(), (201, 101), 40, 400, 28.2843, spacing=(0.5, 1.0)) < 0.01


def test_a_sphere_shrinks_by_its_law() -> None:
    assert radius_error(do.MeanCurvature(), (61, 61, 61), 22, 60, 15.6205) < 0.015


def test_a_circle_shrinks_affinely_by_its_law() -> None:
    end = (40 ** (4 / 3) - 4 * 60 / 3) ** 0.75
    assert radius_error(do.AffineCurvature(), (101, 101), 40, 60, end) < 6e-3


def test_an_ellipse_stays_an_ellipse_under_affine_curvature() -> None:
    y, x = np.indices((121, 121)) - 60.0
    u = do.evolve(np.sqrt(x**2 / 4 + y**2) - 20, do.AffineCurvature(), time=20, dt=0.02)
    # The axes keep their ratio, where mean curvature motion makes a circle of it.
    width, height = (2 * np.argmax(line > 0) for line in (u[60, 60:], u[60:, 60]))
    assert width / height == pytest.approx(2, abs=0.12)


def test_errors_fall_with_the_square_of_the_cells() -> None:
    coarse, fine = (
        radius_error(do.MeanCurvature(), (n, n), n / 3, (n / 3) ** 2 * 0.375, n / 6) / n for n in (61, 181)
    )
    assert np.log(coarse / fine) / np.log(181 / 61) > 1.7


def test_contrast_does_not_matter() -> None:
    u = gaussian_filter(noise(60, 60), 3)
    stretched = np.exp(u / 20)
    for op in (do.MeanCurvature(1e-9), do.AffineCurvature()):
        first = do.evolve(u, op, steps=20, dt=0.02)
        second = 20 * np.log(do.evolve(stretched, op, steps=20, dt=0.02))
        assert np.abs(first - u).mean() > 20 * np.abs(second - first).mean()


def test_a_lonely_cell_vanishes_and_a_straight_edge_stays() -> None:
    lonely, edge = np.zeros((21, 21)), np.zeros((21, 21))
    lonely[10, 10], edge[:, 10:] = 100, 100
    assert do.evolve(lonely, do.MeanCurvature(), time=5).max() < 15
    for op in (do.MeanCurvature(), do.AffineCurvature(), do.MinMaxCurvature()):
        np.testing.assert_allclose(do.evolve(edge, op, steps=20), edge, atol=1e-5)


def test_min_max_wipes_out_specks_and_keeps_shapes() -> None:
    shape = np.where(distances((81, 81), (1.0, 1.0)) < 20, 200.0, 0.0)
    specks = np.where(np.random.default_rng(0).random(shape.shape) < 0.02, 200 - shape, shape)
    kept = do.evolve(specks, do.MinMaxCurvature(2), time=40)
    shrunk = do.evolve(specks, do.MeanCurvature(), time=40)
    assert np.mean((kept > 100) != (shape > 100)) < 0.25 * np.mean((specks > 100) != (shape > 100))
    assert np.count_nonzero(kept > 100) > 0.97 * np.count_nonzero(shape > 100)
    assert np.count_nonzero(shrunk > 100) < 0.93 * np.count_nonzero(shape > 100)


def test_curvature_diffusion_smooths_noise_and_keeps_an_edge() -> None:
    clean = np.where(np.arange(64) < 32, 50.0, 150.0) * np.ones((64, 1))
    noisy = clean + np.random.default_rng(0).normal(0, 5, clean.shape)
    calm = do.evolve(noisy, do.CurvatureDiffusion(25.0), time=3)
    assert np.std((calm - clean)[8:-8, 8:24]) < 0.35 * 5
    assert np.mean(calm[:, 32] - calm[:, 31]) > 90


# ---- the contrast that ITK takes


def whole_value(statistic: do.Statistic, u: Image, spacing: tuple[float, ...], mask: Any = None) -> float:
    """Return a statistic of an image of shape (channels, *spatial)."""
    tally = statistic.measure(do.Block.from_image(u, spacing, mask), (slice(None),) * len(spacing))
    return statistic.value(tally)


def test_rms_is_the_root_of_the_mean_square_gradient() -> None:
    u, mask = noise(2, 20, 31), noise(20, 31, seed=1) > 30
    spacing, steep = (1.0, 1.5), np.zeros((20, 31))
    for channel in u:
        for axis in range(2):
            after, before = plain.along(channel, axis, 1), plain.along(channel, axis, -1)
            after = np.where(plain.along(mask, axis, 1), after, channel)
            before = np.where(plain.along(mask, axis, -1), before, channel)
            steep += ((after - before) / (2 * spacing[axis])) ** 2
    found = whole_value(do.GradientRMS(2.0), u, spacing, mask)
    assert found == pytest.approx(2 * np.sqrt(steep[mask].mean()), rel=1e-12)


def test_auto_is_a_conductance_parameter_of_one() -> None:
    u = noise(24, 24)
    contrast = np.sqrt(2) * whole_value(do.GradientRMS(), u[None], (1.0, 1.0))
    automatic = do.evolve(u, do.CurvatureDiffusion("auto"), steps=3)
    np.testing.assert_allclose(automatic, do.evolve(u, do.CurvatureDiffusion(contrast), steps=3), rtol=1e-12)


# ---- ITK


@pytest.fixture(scope="module")
def smooth_picture() -> Image:
    """Return a photograph without flat areas, where both sides of a threshold are rare."""
    return gaussian_filter(data.camera().astype(np.float32), 1.5)[:256, :256]


def itk_result(name: str, image: Image, **settings: Any) -> Image:
    """Return what a filter of ITK makes of an image."""
    itk = pytest.importorskip("itk", reason="ITK is not installed")
    # Its modules are loaded by first use, warn as they are, and crash where a warning is an error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flow = getattr(itk, name).New(itk.image_from_array(image))
        for setting, value in settings.items():
            getattr(flow, f"Set{setting}")(value)
        flow.Update()
        return np.array(itk.array_from_image(flow.GetOutput()))


def test_mean_curvature_is_itk_s_curvature_flow(smooth_picture: Image) -> None:
    """Where ITK differs: it overshoots at a few cells, and stands still where the gradient is below 3e-5."""
    theirs = itk_result("CurvatureFlowImageFilter", smooth_picture, NumberOfIterations=10, TimeStep=0.125)
    ours = do.evolve(smooth_picture, do.MeanCurvature(1e-4), steps=10, dt=0.125)
    moved = np.abs(theirs - smooth_picture).mean()
    assert np.abs(ours - theirs).mean() < 3e-4 * moved
    assert np.quantile(np.abs(ours - theirs), 0.99) < 1e-3


@pytest.mark.parametrize("conductance", [1.0, 3.0])
def test_curvature_diffusion_is_itk_s_curvature_anisotropic_diffusion(
    smooth_picture: Image, conductance: float
) -> None:
    """With the mean gradient taken once, as here; ITK rounds its sums of float32 elsewhere."""
    noisy = smooth_picture + np.random.default_rng(0).normal(0, 5, smooth_picture.shape).astype(np.float32)
    theirs = itk_result(
        "CurvatureAnisotropicDiffusionImageFilter",
        noisy,
        NumberOfIterations=10,
        TimeStep=0.125,
        ConductanceParameter=conductance,
        ConductanceScalingUpdateInterval=1000,
    )
    op = do.CurvatureDiffusion({"rms": conductance * 2**0.5})
    ours = do.evolve(noisy, op, steps=10, dt=0.125)
    assert np.abs(theirs - noisy).mean() > 2
    assert np.abs(ours - theirs).max() < 0.02
    assert np.quantile(np.abs(ours - theirs), 0.999) < 1e-4


@pytest.mark.parametrize("radius", [1, 2])
def test_min_max_is_itk_s_min_max_curvature_flow(smooth_picture: Image, radius: int) -> None:
    """ITK divides the curvature by the squared radius; a mean close to its threshold falls on either side."""
    theirs = itk_result(
        "MinMaxCurvatureFlowImageFilter",
        smooth_picture,
        NumberOfIterations=10,
        TimeStep=0.125,
        StencilRadius=radius,
    )
    ours = do.evolve(smooth_picture, do.MinMaxCurvature(radius), steps=10, dt=0.125 / radius**2)
    assert np.abs(ours - theirs).mean() < 5e-3 * np.abs(theirs - smooth_picture).mean()
    assert np.mean(np.abs(ours - theirs) > 1e-3) < 0.01
