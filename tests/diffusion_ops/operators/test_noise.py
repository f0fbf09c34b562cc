"""Random noise and the stochastic heat equation: their laws, and the same numbers however the image is cut."""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
import numpy as np
import pytest
from scipy import fft, stats

import diffusion_ops as do
from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import make_legs
from diffusion_ops.kernels.pixels.noise import LAWS

pytestmark = pytest.mark.thorough

FLAT = np.full((700, 701), 100.0)


def noisy(law: str, level: float, image: Any = FLAT, **more: Any) -> Any:
    return do.evolve(image, do.RandomNoise(level, law=law, **more))


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("law", "level", "known"),
    [
        ("gaussian", 5.0, stats.norm(100, 5)),
        ("uniform", 5.0, stats.uniform(100 - 5 * math.sqrt(3), 10 * math.sqrt(3))),
        ("speckle", 0.1, stats.norm(100, 10)),
    ],
)
def test_each_law_has_its_distribution(law: str, level: float, known: Any, dtype: Any) -> None:
    x = noisy(law, level, FLAT.astype(dtype))
    assert x.dtype == dtype
    assert stats.kstest(x.ravel(), known.cdf).pvalue > 1e-3
    assert x.std(dtype=np.float64) == pytest.approx(known.std(), rel=0.01)


def test_salt_and_pepper_replace_the_part_that_is_asked_for() -> None:
    x = noisy("impulse", 0.2, low=-1.0, high=300.0)
    assert np.isin(x, (-1, 100, 300)).all()
    assert np.mean(x == -1) == pytest.approx(0.1, rel=0.02)
    assert np.mean(x == 300) == pytest.approx(0.1, rel=0.02)


def test_salt_and_pepper_can_be_the_extremes_of_the_image() -> None:
    image = np.linspace(-3, 8, 900).reshape(30, 30)
    x = noisy("impulse", 1.0, image, low="auto", high="auto")
    assert set(np.unique(x)) == {-3, 8}


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.99, 10.0, 14.5, 200.0, 1e5])
def test_counts_are_poisson(mean: float) -> None:
    k = np.rint(noisy("poisson", 0.5, np.full((500, 400), 0.5 * mean)) / 0.5)
    low, high = stats.poisson.ppf([1e-3, 1 - 1e-3], mean)
    edges = np.unique(np.linspace(low + 1, high, 30).round())
    found = np.histogram(k, np.concatenate([[-np.inf], edges, [np.inf]]) - 0.5)[0]
    below = np.concatenate([[0], stats.poisson.cdf(edges - 1, mean), [1]])
    assert stats.chisquare(found, np.diff(below) * k.size).pvalue > 1e-3
    assert k.mean() == pytest.approx(mean, abs=5 * math.sqrt(mean / k.size))


def test_no_light_gives_no_counts() -> None:
    assert not noisy("poisson", 1.0, np.array([[0.0, -3.0], [-1e-9, 0.0]])).any()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_chunks_change_no_bit(law: str, dtype: Any) -> None:
    image = (np.random.default_rng(0).random((90, 101)) * 40).astype(dtype)
    operator = do.RandomNoise(0.3, law=law, seed=2**60 + 5)
    lazy = da.from_array(image, chunks=(31, 44))
    assert np.array_equal(do.evolve(lazy, operator).compute(), do.evolve(image, operator))


def test_windows_of_a_volume_draw_the_same_numbers() -> None:
    whole = Block.from_image(np.zeros((2, 9, 11, 37)), (1.0,) * 3)
    part = Block.from_image(np.zeros((2, 4, 5, 20)), (1.0,) * 3)
    part.origin, part.frame, whole.frame = (3, 2, 9), 6, 6
    for block in (whole, part):
        advance(block, make_legs(do.RandomNoise(1.0), (1.0,) * 3))
    assert np.array_equal(part.u, whole.u[:, 3:7, 2:7, 9:29])
    assert len(np.unique(whole.u)) == whole.u.size


def test_seeds_channels_and_frames_differ() -> None:
    image = np.zeros((2, 20, 20))
    first = do.evolve(image, do.RandomNoise(1.0), channel_axis=0)
    other = do.evolve(image, do.RandomNoise(1.0, seed=1), channel_axis=0)
    assert len(np.unique([first, other])) == first.size * 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"level": -1}, "level=-1 is not possible"),
        ({"level": 0, "law": "poisson"}, "level=0 is not possible"),
        ({"level": 1.5, "law": "impulse"}, "level=1.5 is not possible. Allowed: at most 1"),
        ({"level": 1, "law": "pink"}, "law='pink' is not known"),
        ({"level": 1, "high": math.nan}, "high=nan is not possible"),
        ({"level": 1, "seed": -1}, "seed=-1 is not possible"),
        ({"level": "auto"}, "level='auto' is not possible"),
    ],
)
def test_what_makes_no_noise_is_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        do.RandomNoise(**arguments)


# ---- the stochastic heat equation


def test_one_step_from_rest_is_the_noise_of_its_size() -> None:
    result = do.evolve(
        np.zeros((600, 600)), do.StochasticHeat(level=3.0), steps=1, dt=0.2, spacing=(2.0, 3.0)
    )
    assert result.std() == pytest.approx(3 * math.sqrt(0.2 / 6), rel=0.01)


def test_without_noise_it_is_the_heat_equation() -> None:
    image = np.random.default_rng(0).random((30, 31))
    calm = do.evolve(image, do.StochasticHeat(level=0.0), steps=5)
    assert np.array_equal(calm, do.evolve(image, do.Heat(), steps=5))


def test_its_stationary_spectrum_is_that_of_the_scheme() -> None:
    n, dt, level, power = 32, 0.2, 2.0, 0.0
    eigenvalues = 2 - 2 * np.cos(np.pi * np.arange(n) / n)
    eigenvalues = eigenvalues[:, None] + eigenvalues
    seeds = 24
    for seed in range(seeds):
        u = do.evolve(np.zeros((n, n)), do.StochasticHeat(level=level, seed=seed), steps=1000, dt=dt)
        power = power + fft.dctn(u, norm="ortho") ** 2 / seeds
    fast = eigenvalues > 0.05
    known = level**2 / (2 * eigenvalues[fast] * (1 - dt * eigenvalues[fast] / 2))
    ratio = power[fast] / known
    assert ratio.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / seeds / fast.sum()))
    assert stats.kstest(ratio * seeds, stats.chi2(seeds).cdf).pvalue > 1e-3


def test_chunks_and_batches_change_no_bit_of_it() -> None:
    image, operator = np.zeros((61, 70), np.float32), do.StochasticHeat(level=1.0, seed=4)
    whole = do.evolve(image, operator, steps=9)
    assert np.array_equal(do.evolve(image, operator, steps=9, batch=2), whole)
    lazy = da.from_array(image, chunks=(20, 33))
    assert np.array_equal(do.evolve(lazy, operator, steps=9, batch=4).compute(), whole)
