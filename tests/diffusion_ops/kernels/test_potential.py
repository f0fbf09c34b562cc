"""The functional of Perona-Malik diffusion, against NumPy, and that it falls."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import diffusion_ops as do
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.kernels.conductance import CONDUCTANCES
from diffusion_ops.kernels.sums.potential import POTENTIALS

pytestmark = pytest.mark.thorough

INTEGRALS = {
    "exponential": lambda q: 1 - np.exp(-q),
    "rational": np.log1p,
    "charbonnier": lambda q: 2 * (np.sqrt(1 + q) - 1),
    "tukey": lambda q: 5 / 3 * (1 - np.clip(1 - q / 5, 0, None) ** 3),
}
SPACING = (1.0, 2.0)
EVERYWHERE = (slice(None), slice(None))


def noise(dtype: type = np.float64) -> np.ndarray:
    return (np.random.default_rng(0).random((60, 71)) * 200).astype(dtype)


def block_of(image: np.ndarray) -> Block:
    return make_block(image[None], SPACING)


@pytest.mark.parametrize("conductance", POTENTIALS)
def test_it_is_the_integral_of_the_conductance(conductance):
    image = noise()
    image[20:23, 30:50] = np.nan
    statistic = do.Potential(40.0, conductance)
    differences = [np.diff(image, axis=axis) / h for axis, h in enumerate(SPACING)]
    total = sum(np.nansum(1600 * INTEGRALS[conductance]((d / 40) ** 2)) for d in differences)
    found = statistic.value(statistic.measure(block_of(image), EVERYWHERE))
    assert found == pytest.approx(total / np.isfinite(image).sum(), rel=1e-12)


@pytest.mark.parametrize("conductance", POTENTIALS)
def test_explicit_steps_let_it_fall(conductance):
    operator = do.PeronaMalik(40.0, conductance)
    statistic, image, energies = operator.energy(), noise(np.float32), []
    assert statistic is not None
    for _ in range(8):
        energies.append(statistic.value(statistic.measure(block_of(image), EVERYWHERE)))
        image = do.evolve(image, operator, steps=1, spacing=SPACING)
    assert all(a > b for a, b in itertools.pairwise(energies))


def test_parts_add_up_to_the_whole():
    block, statistic = block_of(noise(np.float32)), do.Potential(30.0, "rational")
    halves = [statistic.measure(block, (slice(*ends), slice(None))) for ends in ((0, 17), (17, 60))]
    assert statistic.value(halves[0] + halves[1]) == statistic.value(statistic.measure(block, EVERYWHERE))


def test_there_is_none_where_no_functional_is_descended():
    assert do.PeronaMalik(40.0, sigma=1.0).energy() is None
    assert all(do.PeronaMalik(40.0, c).energy() is None for c in set(CONDUCTANCES) - set(POTENTIALS))
    with pytest.raises(ValueError, match="contrast=0"):
        do.Potential(0.0)
