"""What the operators promise, against exact solutions, laws and published figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.schedule import Cycle, Cycles, Explicit
from diffusion_ops.evolve import evolve
from diffusion_ops.operators.heat import Heat
from diffusion_ops.operators.perona_malik import PeronaMalik

Array = NDArray[Any]


def evolved(
    image: Array, operator: Operator, cycles: tuple[Cycle, ...], spacing: Any = None, valid: Any = None
) -> Array:
    """Return an image of shape (channels, *spatial) after some cycles."""
    spacing = spacing or (1.0,) * (image.ndim - 1)
    return advance(Block.from_image(image, spacing, valid), [Leg(operator, cycles)]).u


# Heat


def laplacian_symbol(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Array:
    """Return the eigenvalues of minus the five-point Laplacian with zero flux, in the DCT-II basis."""
    axes = [(2 - 2 * np.cos(np.pi * np.arange(n) / n)) / h**2 for n, h in zip(shape, spacing, strict=True)]
    return sum(np.ix_(*axes))  # type: ignore[return-value]


HEAT_GRIDS = [((37, 52), (1.0, 1.0)), ((37, 52), (0.7, 1.6)), ((11, 14, 19), (2.0, 1.0, 0.8))]


@pytest.mark.parametrize(("shape", "spacing"), HEAT_GRIDS)
def test_explicit_heat_is_the_exact_power_of_its_symbol(shape: tuple[int, ...], spacing: Any) -> None:
    image, symbol = np.random.default_rng(0).random(shape), laplacian_symbol(shape, spacing)
    cycles = Explicit().cycles(Heat().stable_dt(spacing), None, 40, None)
    exact = idctn((1 - cycles[0].tau * symbol) ** 40 * dctn(image))
    assert np.abs(evolved(image[None], Heat(), cycles, spacing)[0] - exact).max() < 1e-13


@pytest.mark.parametrize(("shape", "spacing"), HEAT_GRIDS)
def test_cycle_of_heat_is_the_exact_polynomial_of_its_symbol(shape: tuple[int, ...], spacing: Any) -> None:
    image, symbol = np.random.default_rng(0).random(shape), laplacian_symbol(shape, spacing)
    (cycle,) = Cycles(1).cycles(Heat().stable_dt(spacing), 9.0, None, None)
    polynomial = before = np.ones(shape)
    for alpha in cycle.weights:
        step = alpha * (1 - cycle.tau * symbol) * polynomial + (1 - alpha) * before
        polynomial, before = step, polynomial
    exact = idctn(polynomial * dctn(image))
    assert np.abs(evolved(image[None], Heat(), (cycle,), spacing)[0] - exact).max() < 1e-12


def test_more_cycles_come_closer_to_the_exact_solution() -> None:
    image, symbol = np.random.default_rng(0).random((96, 96)), laplacian_symbol((96, 96), (1.0, 1.0))
    exact = idctn(np.exp(-8 * symbol) * dctn(image))
    errors = []
    for count in (1, 2, 4, 16):
        result = evolved(image[None], Heat(), Cycles(count).cycles(0.25, 8.0, None, None))[0]
        errors.append(np.linalg.norm(result - exact) / np.linalg.norm(exact - exact.mean()))
    # Measured on white noise: 1.06, 0.22, 0.076 and 0.025.
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.15
    assert errors[3] < 0.05


@pytest.mark.parametrize(
    "cycles",
    [Explicit().cycles(0.25, 6.0, None, None), Cycles(2).cycles(0.25, 6.0, None, None)],
    ids=["explicit", "cycles"],
)
@pytest.mark.parametrize(
    "operator",
    [Heat(), PeronaMalik(1e12, "rational"), PeronaMalik(1e12, "rational", neighbours=8)],
    ids=["heat", "4", "8"],
)
def test_variance_of_an_impulse_grows_by_twice_the_time(
    operator: Operator, cycles: tuple[Cycle, ...]
) -> None:
    image = np.zeros((1, 129, 129))
    image[0, 64, 64] = 1
    result = evolved(image, operator, cycles)[0]
    for axis in (0, 1):
        spread = (result.sum(1 - axis) * (np.arange(129) - 64.0) ** 2).sum()
        assert spread == pytest.approx(12, rel=1e-9)


# Laws


PERONA_MALIK = [
    PeronaMalik(10, "exponential"),
    PeronaMalik(10, "rational"),
    PeronaMalik(10, "rational", neighbours=8),
    PeronaMalik(10, "rational", sigma=0.7),
]


@pytest.mark.parametrize("operator", [Heat(), *PERONA_MALIK], ids=repr)
@pytest.mark.parametrize("schedule", [Explicit(), Cycles(2)], ids=["explicit", "cycles"])
def test_mean_is_kept(operator: Operator, schedule: Any) -> None:
    rng = np.random.default_rng(1)
    image, valid = (rng.random((1, 90, 110)) * 255).astype(np.float32), rng.random((90, 110)) > 0.2
    cycles = schedule.cycles(operator.stable_dt((1.0, 1.0)), 5.0, None, None)
    result = evolved(image, operator, cycles, valid=valid)
    before, after = (float(a[:, valid].mean(dtype=np.float64)) for a in (image, result))
    assert after == pytest.approx(before, rel=1e-6)


rough = arrays(np.float32, (1, 9, 21), elements=st.floats(-1000, 1000, width=32))


@pytest.mark.thorough
@settings(max_examples=30)
@given(
    image=rough,
    operator=st.sampled_from([Heat(), *PERONA_MALIK]),
    seed=st.integers(0, 99),
    walls=st.booleans(),
)
def test_explicit_steps_keep_the_extremes(image: Array, operator: Operator, seed: int, walls: bool) -> None:
    valid = np.random.default_rng(seed).random(image.shape[1:]) > 0.3
    valid[0, 0] = True
    stable = operator.stable_dt((1.0, 1.0))
    cycles = Explicit().cycles(stable, None, 5, stable)
    inside = valid if walls else np.ones_like(valid)
    before = image[:, inside]
    after = evolved(image, operator, cycles, valid=inside)[:, inside]
    # Values below the smallest normal number are rounded by a part of that, whatever their size.
    room = 1e-6 * max(float(np.abs(before).max()), float(np.finfo(np.float32).smallest_normal))
    assert after.min() >= before.min() - room
    assert after.max() <= before.max() + room


@pytest.mark.thorough
@pytest.mark.parametrize("operator", [Heat(), *PERONA_MALIK[:3]], ids=repr)
@pytest.mark.parametrize("schedule", [Explicit(), Cycles(1)], ids=["explicit", "cycles"])
@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.fliplr, np.rot90])
def test_turned_images_give_the_same_bits(
    operator: Operator, schedule: Any, turn: Callable[..., Array]
) -> None:
    image = np.random.default_rng(2).random((61, 83)) * 100
    cycles = schedule.cycles(operator.stable_dt((1.0, 1.0)), 3.0, None, None)
    straight = evolved(image[None], operator, cycles)[0]
    turned = evolved(np.ascontiguousarray(turn(image))[None], operator, cycles)[0]
    assert np.array_equal(turned, turn(straight))


def test_eight_neighbours_mean_the_same_time() -> None:
    rows, columns = np.mgrid[:60, :80]
    image = (np.cos(3 * np.pi * (rows + 0.5) / 60) * np.cos(4 * np.pi * (columns + 0.5) / 80) * 100)[None]
    four, eight = (
        evolved(image, PeronaMalik(1e9, "rational", neighbours=n), Explicit().cycles(0.2, 4.0, None, None))
        for n in (4, 8)
    )
    # Both are of second order away from the sides: they differ by far less than they change the image.
    inside = (0, slice(15, -15), slice(15, -15))
    assert np.abs(four - eight)[inside].max() < 0.01 * np.abs(four - image)[inside].max()


# Denoising


SIGMA_NOISE = 25


@pytest.fixture(scope="module")
def noisy_pairs(shared_data: Callable[..., Path]) -> list[tuple[Array, Array]]:
    """Return (clean, noisy) for the 12 images of Set12: float noise, neither clipped nor rounded."""
    rng = np.random.default_rng(0)
    clean = [
        iio.imread(path).astype(np.float32) for path in sorted(shared_data("denoise", "Set12").glob("*.png"))
    ]
    return [(u, u + rng.normal(0, SIGMA_NOISE, u.shape).astype(np.float32)) for u in clean]


def mean_psnr(pairs: list[tuple[Array, Array]], denoise: Callable[[Array], Array]) -> float:
    """Return the mean over the images of 10 log10(255² / mean squared error)."""
    errors = [np.mean((denoise(noisy).astype(np.float64) - clean) ** 2) for clean, noisy in pairs]
    return float(np.mean([10 * math.log10(255**2 / e) for e in errors]))


def test_noisy_set12_and_its_gaussian(noisy_pairs: list[tuple[Array, Array]]) -> None:
    assert mean_psnr(noisy_pairs, lambda noisy: noisy) == pytest.approx(20.17, abs=0.02)
    smooth = mean_psnr(noisy_pairs, lambda noisy: gaussian_filter(noisy, 0.82))
    assert smooth == pytest.approx(26.59, abs=0.1)
    time = 0.82**2 / 2
    cycles = Explicit().cycles(0.25, time, None, None)
    assert mean_psnr(noisy_pairs, lambda noisy: evolved(noisy[None], Heat(), cycles)[0]) == pytest.approx(
        smooth, abs=0.1
    )


@pytest.mark.parametrize(
    ("operator", "schedule", "time", "expected"),
    [
        (PeronaMalik(64, "exponential"), Explicit(), 0.74, 27.64),
        (PeronaMalik(26, "rational"), Explicit(), 1.41, 27.92),
        (PeronaMalik(1.6, "charbonnier"), Explicit(), 9.3, 28.06),
        (PeronaMalik(53, "tukey"), Explicit(), 0.65, 27.54),
        (PeronaMalik(6.0, "rational", sigma=0.46), Cycles(6), 5.1, 28.11),
    ],
    ids=["exponential", "rational", "charbonnier", "tukey", "regularised"],
)
def test_denoising_of_set12_reaches_the_known_figures(
    noisy_pairs: list[tuple[Array, Array]], operator: Operator, schedule: Any, time: float, expected: float
) -> None:
    cycles = schedule.cycles(operator.stable_dt((1.0, 1.0)), time, None, None)
    reached = mean_psnr(noisy_pairs, lambda noisy: evolved(noisy[None], operator, cycles)[0])
    assert reached == pytest.approx(expected, abs=0.1)


def eight_neighbours(image: np.ndarray, contrast: float, rate: float, steps: int) -> np.ndarray:
    """Return steps of the form with weights 1 along axes and 1/2 along diagonals, as GRASS and others take them."""
    u = image.astype(np.float64)
    for _ in range(steps):
        padded, change = np.pad(u, 1, mode="edge"), np.zeros_like(u)
        for row, column in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
            there = padded[1 + row : 1 + row + u.shape[0], 1 + column : 1 + column + u.shape[1]]
            squared = row * row + column * column
            # Beyond a corner or an edge there is no neighbour: edge padding would repeat another cell there.
            inside = np.zeros_like(u, bool)
            inside[max(0, -row) : u.shape[0] - max(0, row), max(0, -column) : u.shape[1] - max(0, column)] = (
                True
            )
            difference = np.where(inside, there - u, 0)
            change += np.exp(-(difference**2) / squared / contrast**2) * difference / squared
        u += rate * change
    return u


def test_eight_neighbours_are_those_of_other_codes_at_twice_the_rate():
    """They diffuse twice as far in the same time; here time means the same for both stencils."""
    image = np.random.default_rng(3).random((40, 50)) * 100
    ours = evolve(image, PeronaMalik(30.0, neighbours=8), steps=10, dt=0.2)
    np.testing.assert_allclose(ours, eight_neighbours(image, 30.0, 0.1, 10), rtol=1e-12)
