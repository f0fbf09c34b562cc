"""Total variation: minimisers known in closed form, scikit-image's, published figures, and the bound of the gap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.restoration import denoise_tv_chambolle

import diffusion_ops as do
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.blocks.statistic import Statistic
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import make_legs, split_batches
from diffusion_ops.evolution.operator import Operator

pytestmark = pytest.mark.thorough

Image = NDArray[Any]


def ball(size: int, radius: float, ndim: int) -> Image:
    """Return 1 within a radius of the middle of a square or cube, 0 elsewhere."""
    axes = np.meshgrid(*(np.arange(size) - (size - 1) / 2,) * ndim, indexing="ij")
    return (sum(x**2 for x in axes) <= radius**2).astype(np.float64)


def noise(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Image:
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def under_way(
    image: Image, operator: Operator, steps: int, spacing: tuple[float, ...] | None = None, mask: Any = None
) -> Block:
    """Return the block of an image of shape (channels, *spatial) after some steps, with all that it carries."""
    spacing = spacing or (1.0,) * (image.ndim - 1)
    block = make_block(image, spacing, None, mask)
    first, _ = split_batches(make_legs(operator, spacing, steps=steps + 1), steps)
    return advance(block, first)


def whole(statistic: Statistic, block: Block) -> float:
    return statistic.value(statistic.measure(block, (slice(None),) * len(block.spatial)))


def rms(difference: Image) -> float:
    return math.sqrt(float(np.mean(difference**2)))


# ---- minimisers in closed form


@pytest.mark.parametrize(
    ("size", "radius", "weight", "measured"), [(200, 50, 4, 0.8398), (100, 20, 1, 0.9018)]
)
def test_a_disc_sinks_by_two_weights_over_its_radius(
    size: int, radius: float, weight: float, measured: float
) -> None:
    image = ball(size, radius, 2)
    found = do.evolve(image, do.TotalVariation(weight), steps=2000)
    centre, area = found[size // 2, size // 2], math.pi * radius**2
    assert centre == pytest.approx(1 - 2 * weight / radius, abs=2e-3)
    assert centre == pytest.approx(measured, abs=3e-4)
    # The mass that the disc loses goes to the background, up to what the raster makes of the disc's outline.
    assert found[0, 0] == pytest.approx(2 * math.pi * radius * weight / (size**2 - area), rel=0.02)
    single = do.evolve(image.astype(np.float32), do.TotalVariation(weight), steps=2000)
    assert np.abs(single - found).max() < 2e-5


def test_a_ball_sinks_by_three_weights_over_its_radius() -> None:
    found = do.evolve(ball(56, 20, 3), do.TotalVariation(1.0), steps=1000)
    assert found[28, 28, 28] == pytest.approx(1 - 3 / 20, abs=4e-3)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 0.5)], ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_two_sides_of_a_step_move_by_the_weight_over_their_width(
    axis: int, spacing: tuple[float, float]
) -> None:
    """Also where a wall cuts the image, in each axis of a volume, and for a unit of length of its own."""
    across, along = spacing
    image = np.full((30, 4, 5), 100.0)
    image[10:] = 180.0
    image[18] = np.nan
    expected = image.copy()
    weight = 3.0
    expected[:10] += weight / (10 * across)
    expected[10:18] -= weight / (8 * across)
    h = [along, along, along]
    h[axis] = across
    turned = np.moveaxis(image, 0, axis)
    found = do.evolve(turned, do.TotalVariation(weight), steps=3000, spacing=tuple(h))
    np.testing.assert_allclose(np.moveaxis(found, axis, 0), expected, atol=2e-3)


def test_equal_channels_are_one_channel_of_a_weight_less_by_the_root_of_their_number() -> None:
    image = noise(24, 31)
    three = do.evolve(np.stack([image] * 3), do.TotalVariation(30.0), steps=3000, channel_axis=0)
    one = do.evolve(image, do.TotalVariation(30.0 / math.sqrt(3)), steps=3000)
    assert rms(three[1] - one) < 1e-3
    np.testing.assert_allclose(three, np.stack([three[0]] * 3), rtol=1e-12)


# ---- the same minimum as elsewhere


def test_scikit_image_has_the_same_minimum() -> None:
    """Its weight and differences mean the same; its error falls like 1 / n only, so it is given many iterations."""
    image = ball(48, 15, 2) + np.random.default_rng(0).normal(0, 0.1, (48, 48))
    theirs = denoise_tv_chambolle(image, weight=0.1, eps=0, max_num_iter=60_000)
    ours = do.evolve(image, do.TotalVariation(weight=0.1), steps=2000)
    assert np.abs(ours - theirs).max() < 1e-4


WEIGHTS = {15: (9.8, 30.55), 25: (17.9, 28.04), 50: (42.0, 25.05)}
"""Noise level, the weight that was tuned for it, and the PSNR in dB that Set12 then has."""


@pytest.mark.parametrize("level", WEIGHTS)
def test_photographs_are_denoised_as_well_as_published(level: int, shared_data: Callable[..., Path]) -> None:
    weight, expected = WEIGHTS[level]
    found = []
    for k, path in enumerate(sorted(shared_data("denoise", "Set12").glob("*.png"))):
        clean = iio.imread(path).astype(np.float32)
        noisy = clean + np.random.default_rng(k).normal(0, level, clean.shape).astype(np.float32)
        error = do.evolve(noisy, do.TotalVariation(weight)) - clean
        found.append(10 * math.log10(255**2 / float(np.mean(error.astype(np.float64) ** 2))))
    assert len(found) == 12
    assert np.mean(found) > expected - 0.1


# ---- what tells how far it has come


CASES: dict[str, tuple[tuple[int, ...], tuple[float, ...], bool]] = {
    "plane": ((1, 40, 35), (1.0, 1.0), False),
    "colours with walls": ((3, 30, 35), (2.0, 0.5), True),
    "volume with walls": ((1, 10, 14, 19), (2.0, 1.0, 0.7), True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_gap_falls_to_nothing_and_bounds_the_error(case: str) -> None:
    shape, spacing, walls = CASES[case]
    image, weight = noise(*shape), 20.0
    mask = noise(*shape[1:], seed=1) > 20 if walls else np.ones(shape[1:], bool)
    operator, gap = do.TotalVariation(weight), do.DualityGap(weight)
    best = under_way(image, operator, 20_000, spacing, mask)
    assert abs(whole(gap, best)) < 1e-6
    gaps = []
    for steps in (10, 40, 160, 640):
        block = under_way(image, operator, steps, spacing, mask)
        gaps.append(whole(gap, block))
        error = np.sum((block.u - best.u)[:, mask] ** 2) / mask.sum()
        assert error <= 2 * weight * (gaps[-1] + 1e-6)
    assert all(b < a / 8 for a, b in itertools.pairwise(gaps))


def differences(u: Image, spacing: tuple[float, ...], mask: Any) -> Image:
    """Return the differences to the next cell along x, y (and z), per unit length, 0 across walls."""
    found = []
    for axis, h in zip(range(-1, -1 - len(spacing), -1), reversed(spacing), strict=True):
        ends = np.take(u, [-1], axis), np.take(mask, [-1], axis)
        both = mask & np.roll(mask, -1, axis)
        found.append(np.diff(u, axis=axis, append=ends[0]) / h * both)
    return np.stack(found)


@pytest.mark.parametrize("case", CASES)
def test_energy_and_gap_are_the_functionals_themselves_and_no_tiling_changes_them(case: str) -> None:
    shape, spacing, walls = CASES[case]
    weight = 20.0
    mask = noise(*shape[1:], seed=1) > 20 if walls else np.ones(shape[1:], bool)
    block = under_way(noise(*shape), do.TotalVariation(weight), 30, spacing, mask)
    assert block.carried is not None
    carried, n = Block(block.carried, block.spatial, spacing).u, shape[0]
    data, dual = carried[:n], carried[2 * n :].reshape(len(spacing), *shape)
    sinks = [
        np.diff(p, axis=-1 - k, prepend=0) / h
        for k, (p, h) in enumerate(zip(dual, spacing[::-1], strict=True))
    ]
    divergence = np.sum(sinks, axis=0) * mask
    length = np.sqrt(np.sum(differences(block.u, spacing, mask) ** 2, axis=(0, 1)))
    primal = np.sum(length * mask) + np.sum((block.u - data)[:, mask] ** 2) / (2 * weight)
    lower = -np.sum(data * divergence) - weight / 2 * np.sum(divergence**2)
    assert np.sqrt(np.sum(dual**2, axis=(0, 1))).max() <= 1 + 1e-12
    for statistic, expected in (
        (do.RofEnergy(), np.sum(length * mask)),
        (do.RofEnergy(weight), primal),
        (do.DualityGap(weight), primal - lower),
    ):
        value = whole(statistic, block)
        assert value == pytest.approx(expected / mask.sum(), rel=1e-9)
        everything = (slice(None),) * (len(spacing) - 1)
        parts = [
            statistic.measure(block, (*everything, slice(*ends))) for ends in ((0, 7), (7, 20), (20, None))
        ]
        assert statistic.value(parts[0] + parts[1] + parts[2]) == value


def test_the_energy_falls_to_the_minimum() -> None:
    image, weight = noise(1, 40, 33), 15.0
    operator, energy = do.TotalVariation(weight), do.RofEnergy(weight)
    assert operator.energy() == energy
    values = [whole(energy, under_way(image, operator, steps)) for steps in (1, 5, 25, 125, 2000)]
    assert values == sorted(values, reverse=True)
    beside = under_way(image, operator, 2000)
    beside.u[...] += noise(1, 40, 33, seed=2) / 1e4
    assert whole(energy, beside) > values[-1]


# ---- the flow


@pytest.mark.parametrize(("ndim", "size", "radius"), [(2, 100, 25), (3, 44, 15)])
def test_under_the_flow_a_ball_sinks_at_the_speed_of_its_curvature(
    ndim: int, size: int, radius: float
) -> None:
    middle, time = (size // 2,) * ndim, 2.0
    flow = do.TotalVariationFlow(tolerance=0.02, inner_iterations=50)
    for far in ({"time": time}, {"time": time, "steps": 10}, {"time": time, "dt": 0.1}):
        found = do.evolve(ball(size, radius, ndim), flow, **far)
        assert found[middle] == pytest.approx(1 - ndim * time / radius, abs=6e-3)


def test_the_flow_ends_at_the_mean_in_finite_time() -> None:
    image = ball(40, 8, 2) * 100
    flat = do.evolve(image, do.TotalVariationFlow(0.1, 40), time=500.0)
    assert np.abs(flat - image.mean()).max() < 1e-3


@pytest.mark.parametrize("dt", [0.5, 4.0])
def test_a_step_of_the_flow_is_the_minimiser_for_the_weight_dt(dt: float) -> None:
    image = noise(40, 30)
    step = do.evolve(image, do.TotalVariationFlow(1.0, 3000), steps=1, dt=dt)
    assert rms(step - do.evolve(image, do.TotalVariation(dt), steps=3000)) < 1e-3


@pytest.mark.parametrize("dt", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("inner", [5, 20])
def test_steps_of_the_flow_come_as_near_as_the_tolerance(inner: int, dt: float) -> None:
    image, steps = noise(64, 64), 4
    tolerance = dt * 2 * math.sqrt(2) / inner
    flow = do.TotalVariationFlow(tolerance, inner)
    assert flow.stable_dt((1.0, 1.0)) == pytest.approx(dt)
    found = do.evolve(image, flow, steps=steps, dt=dt)
    exact = do.evolve(image, do.TotalVariationFlow(tolerance, 2000), steps=steps, dt=dt)
    assert rms(found - exact) < 1.2 * tolerance


# ---- what is refused


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, True, "0.1"])
def test_a_weight_that_is_not_positive_is_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match=r"^weight=.*> 0, in image units times unit length"):
        do.TotalVariation(weight)
    for statistic in (do.DualityGap, do.RofEnergy):
        with pytest.raises(ValueError, match="weight="):
            statistic(weight)


@pytest.mark.parametrize("inner", [0, -3, 2.5, True])
def test_inner_iterations_are_a_number_of_at_least_one(inner: Any) -> None:
    with pytest.raises(ValueError, match=r"^inner_iterations=.*>= 1"):
        do.TotalVariationFlow(1.0, inner)
    with pytest.raises(ValueError, match=r"^tolerance="):
        do.TotalVariationFlow(0.0)


def test_the_noise_may_choose_the_weight() -> None:
    image = ball(64, 20, 2) * 100 + np.random.default_rng(0).normal(0, 10, (64, 64))
    found = do.evolve(image, do.TotalVariation({"noise": 0.8}))
    assert rms(found - ball(64, 20, 2) * 100) < 5
