"""Speckle is smoothed fivefold where nothing is, edges stay, and the kernel is the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import Statistic
from diffusion_ops.kernels.pixels.speckle import EXPONENTIAL, RATIONAL, reduce_speckle
from diffusion_ops.operators.speckle_reducing import SpeckleReducing
from diffusion_ops.statistics.speckle import SpeckleLevel

pytestmark = pytest.mark.thorough

Array = NDArray[Any]


def speckle(truth: Array, looks: float, seed: int = 0) -> Array:
    """Return an intensity with fully developed speckle."""
    return truth * np.random.default_rng(seed).gamma(looks, 1 / looks, truth.shape)


def field_and_road(side: int = 128) -> tuple[Array, Array, Array]:
    """Return two fields of 100 and 400 with a road of 1000 across them, and where each field is plain."""
    truth = np.full((side, side), 100.0)
    truth[:, side // 2 :] = 400.0
    truth[side // 3 : side // 3 + 4] = 1000.0
    plain = np.zeros(truth.shape, bool)
    plain[side // 2 : -8, 8 : side // 2 - 8] = True
    return truth, plain, plain[:, ::-1]


def looks_of(image: Array) -> float:
    """Return the equivalent number of looks of a homogeneous area, mean² / variance."""
    return float(np.mean(image) ** 2 / np.var(image))


def one_step(u: Array, spacing: Any, valid: Array, tau: float, level: float, kind: int) -> Array:
    """Return a step in NumPy: mean and variance of the neighbours, then fluxes through the faces."""
    inverse = [h**-2 for h in spacing]
    mean, square, faces = np.zeros_like(u), np.zeros_like(u), []
    for axis, w in enumerate(inverse):
        after, before = [[(0, 0)] * u.ndim for _ in range(2)]
        after[axis], before[axis] = (0, 1), (1, 0)
        v = np.moveaxis(valid, axis, 0)
        d = np.where(np.moveaxis(v[1:] & v[:-1], 0, axis), np.diff(u, axis=axis), 0)
        mean += w * (np.pad(d, after) - np.pad(d, before)) / (2 * sum(inverse))
        square += w * (np.pad(d, after) ** 2 + np.pad(d, before) ** 2) / (2 * sum(inverse))
        faces.append((d, after, before))
    variation = (square - mean**2) / np.maximum((u + mean) ** 2, 1e-300)
    x = (variation - level**2) / (level**2 * (1 + level**2))
    c = np.minimum(1, 1 / (1 + x) if kind == RATIONAL else np.exp(-x))
    result = u.copy()
    for axis, ((d, after, before), w) in enumerate(zip(faces, inverse, strict=True)):
        g = np.moveaxis(c, axis, 0)
        flux = tau * w * d * np.moveaxis(g[1:] + g[:-1], 0, axis) / 2
        result += np.pad(flux, after) - np.pad(flux, before)
    return result


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(RATIONAL, id="rational"),
        pytest.param(EXPONENTIAL, id="exponential", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((37, 52), (0.7, 1.6)), ((1, 20), (1.0, 1.0)), ((20, 1), (1.0, 1.0)), ((9, 14, 19), (2.0, 1.0, 0.8))],
    ids=str,
)
@pytest.mark.parametrize("walls", [False, True], ids=["open", "walls"])
def test_kernel_is_the_formula(kind: int, shape: tuple[int, ...], spacing: Any, walls: bool) -> None:
    rng = np.random.default_rng(0)
    image, valid = rng.gamma(2, 50, shape), rng.random(shape) > (0.2 if walls else -1)
    block = Block.from_image(image[None], spacing, valid)
    tau, levels = 0.4 / sum(h**-2 for h in spacing), [0.8, 0.6, 0.4]
    reduce_speckle(block, kind, tau, levels)
    wanted = np.where(valid, image, 0)
    for level in levels:
        wanted = one_step(wanted, spacing, valid, tau, level, kind)
    np.testing.assert_allclose(block.u[0][valid], wanted[valid], rtol=1e-11)


@pytest.mark.parametrize("looks", [1, 4])
@pytest.mark.parametrize("conductance", ["rational", "exponential"])
def test_speckle_falls_fivefold_and_edges_stay(looks: int, conductance: str) -> None:
    truth, dark, bright = field_and_road()
    noisy = speckle(truth, looks)
    result = do.evolve(noisy, SpeckleReducing(conductance=conductance), time=4)
    for plain in (dark, bright):
        assert looks_of(result[plain]) > 5 * looks_of(noisy[plain])
        assert np.mean(result[plain]) == pytest.approx(np.mean(noisy[plain]), rel=0.03)
    heat = do.evolve(noisy, do.Heat(), time=4)
    assert step(result) > {1: 0.7, 4: 0.9}[looks]
    assert step(result) > step(heat) + 0.1
    assert np.mean(result[43:46]) > {1: 1.1, 4: 1.3}[looks] * np.mean(heat[43:46])


def step(image: Array) -> float:
    """Return what is left of the step between the fields, three cells from it on either side."""
    return float(np.mean(image[64:-8, 66]) - np.mean(image[64:-8, 61])) / 300


def test_it_beats_the_heat_equation_on_a_real_picture(shared_data: Callable[..., Path]) -> None:
    truth = iio.imread(shared_data("denoise", "Set12", "01.png")).astype(np.float64) + 5
    noisy = speckle(truth, 4)
    errors = {
        name: min(np.mean((do.evolve(noisy, operator, time=t) - truth) ** 2) for t in times)
        for name, operator, times in (
            ("heat", do.Heat(), (0.5, 1, 2, 3)),
            ("speckle", SpeckleReducing(), (1, 2, 3, 4)),
        )
    }
    assert errors["speckle"] < 0.85 * errors["heat"]


def test_values_keep_mean_and_extremes() -> None:
    noisy = speckle(field_and_road()[0], 1)
    result = do.evolve(noisy, SpeckleReducing(level=1.0), steps=50, dt=0.25)
    assert noisy.min() <= result.min() <= result.max() <= noisy.max()
    assert np.mean(result) == pytest.approx(np.mean(noisy), rel=1e-12)


def test_scaling_the_image_scales_the_result() -> None:
    noisy = speckle(field_and_road(64)[0], 4).astype(np.float32)
    result = do.evolve(noisy, SpeckleReducing(level=0.5), time=2)
    for factor in (2.0**-30, 2.0**20):
        assert np.array_equal(
            do.evolve(noisy * np.float32(factor), SpeckleReducing(level=0.5), time=2),
            result * np.float32(factor),
        )


def test_zeros_and_negative_values_are_defined() -> None:
    image = speckle(field_and_road(48)[0], 1)
    image[10:20, 10:20] = 0
    image[30:34] *= -1
    result = do.evolve(image, SpeckleReducing(level=0.5), time=4)
    assert np.isfinite(result).all()
    assert image.min() <= result.min() <= result.max() <= image.max()
    assert np.array_equal(do.evolve(np.zeros((9, 9)), SpeckleReducing(level=0.5), time=4), np.zeros((9, 9)))


def test_level_decays_with_time_in_any_batches() -> None:
    noisy = speckle(field_and_road()[0], 4)
    frozen, decaying = (do.evolve(noisy, SpeckleReducing(0.7, decay), time=8) for decay in (0.0, 1.0))
    assert step(decaying) > step(frozen)
    lazy = do.evolve(da.from_array(noisy, 61), SpeckleReducing(0.7, 1.0), time=8, batch=7)
    assert np.array_equal(lazy.compute(), decaying)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("conductance", ["rational", "exponential"])
def test_what_has_settled_stays(dtype: str, conductance: str) -> None:
    noisy = speckle(field_and_road(48)[0], 4).astype(dtype)
    settled, later = (
        do.evolve(noisy, SpeckleReducing(0.5, conductance=conductance), time=t) for t in (100, 1000)
    )
    np.testing.assert_allclose(later, settled, rtol=1e-4)


# The level


@pytest.mark.parametrize("looks", [1, 2, 4, 16])
def test_level_is_that_of_the_homogeneous_part(looks: int) -> None:
    truth, _, _ = field_and_road()
    for image in (np.full((128, 128), 70.0), truth):
        assert level_of(speckle(image, looks)) == pytest.approx(1 / math.sqrt(looks), rel=0.08)
    amplitude = np.sqrt(speckle(truth, looks))
    assert level_of(amplitude) == pytest.approx(0.5227 / math.sqrt(looks), rel=0.12)


def test_level_of_a_volume() -> None:
    assert level_of(speckle(np.full((20, 30, 40), 9.0), 4), SpeckleLevel(5)) == pytest.approx(0.5, rel=0.05)


def level_of(image: Array, statistic: Statistic | None = None) -> float:
    """Return the statistic of a whole image."""
    statistic = statistic or SpeckleLevel()
    block = Block.from_image(image[None], (1.0,) * image.ndim)
    return statistic.value(statistic.measure(block, (slice(None),) * image.ndim))


def test_windows_that_count_are_valid_inside_and_not_constant() -> None:
    image, valid = speckle(np.full((30, 40), 9.0), 4), np.ones((30, 40), bool)
    image[:12] = 0
    valid[:, 20] = False
    block = Block.from_image(image[None], (1.0, 1.0), valid)
    tally = SpeckleLevel().measure(block, (slice(None), slice(None)))
    # Middles 9 to 26 see a part that is not constant; columns 3 to 16 and 24 to 36 see no wall and no edge.
    assert tally.counts.sum() == 18 * (14 + 13)


def test_parts_of_an_image_count_together_as_the_whole() -> None:
    image = speckle(field_and_road(60)[0], 3).astype(np.float32)
    block, statistic = Block.from_image(image[None], (1.0, 1.0)), SpeckleLevel()
    whole = statistic.measure(block, (slice(None), slice(None)))
    parts = [
        statistic.measure(block, (slice(i, i + 17), slice(j, j + 23)))
        for i in range(0, 60, 17)
        for j in range(0, 60, 23)
    ]
    assert sum(parts[1:], parts[0]).to_text() == whole.to_text()


def test_what_cannot_be_is_refused() -> None:
    for name, value in (("level", 0), ("decay", -1), ("conductance", "tukey")):
        with pytest.raises(ValueError, match=f"^{name}="):
            SpeckleReducing(**{name: value})
    with pytest.raises(ValueError, match="odd"):
        SpeckleLevel(4)
    with pytest.raises(ValueError, match="positive"):
        do.evolve(-np.ones((20, 20)), SpeckleReducing(), time=1)
