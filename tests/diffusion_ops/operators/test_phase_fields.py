"""Allen-Cahn borders have the profile and the speed of theory; convex Chan-Vese finds the best regions of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from skimage.segmentation import chan_vese

import diffusion_ops as do
from diffusion_ops.blocks.block import Block, as_image
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import make_legs, split_batches
from pipelines.run.run import run
from tests.pipelines.runs import read_result, save_source, small_spec

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

COINS = data.coins()[:90, :110].astype(np.float32)


# ---- Allen-Cahn


def test_a_border_is_a_hyperbolic_tangent() -> None:
    x = np.arange(61) - 30.0
    image = np.broadcast_to(np.where(x > 0, 1.0, np.where(x < 0, -1.0, 0.0)), (5, 61))
    found = do.evolve(image, do.AllenCahn(epsilon=3.0), time=40, dt=0.1)
    np.testing.assert_allclose(found[2], np.tanh(x / (np.sqrt(2) * 3)), atol=0.01)


def test_a_circle_shrinks_by_its_curvature() -> None:
    """d(R²)/dt = -2 for thin borders."""
    y, x = np.indices((75, 75)) - 37
    image = np.where(np.hypot(y, x) < 24, 200.0, 100.0)
    found = do.evolve(image, do.AllenCahn(epsilon=2.0), time=150)
    area = np.sum((found - 100) / 100)
    assert area / np.pi == pytest.approx(np.sum(image > 150) / np.pi - 2 * 150, rel=0.05)


def test_every_cell_ends_in_a_phase() -> None:
    image = np.random.default_rng(0).random((40, 41)) * 200
    found = do.evolve(image, do.AllenCahn(epsilon=1.0, low=50.0, high=150.0), time=40)
    assert found.min() > 49.9
    assert found.max() < 150.1
    assert np.mean(np.abs(np.abs(found - 100) - 50) < 5) > 0.5


def test_units_are_arbitrary() -> None:
    calm = do.evolve(COINS, do.AllenCahn(epsilon=2.0), time=3)
    far = do.evolve(COINS * 2.0**20, do.AllenCahn(epsilon=2.0 * 8), time=3 * 64, spacing=8.0)
    assert np.array_equal(far, calm * 2.0**20)


def test_phases_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="Allowed: below high"):
        do.AllenCahn(low=3.0, high=3.0)
    with pytest.raises(ValueError, match="out of range"):
        do.evolve(np.ones((8, 8)), do.AllenCahn(), time=1)


# ---- Chan-Vese

MEANS, WEIGHT = [50.0, 150.0], 2e4
GIVEN = do.ChanVese(thresholds=100.0, means=MEANS, weight=WEIGHT)


def relaxed(steps: int) -> tuple[Array, Array]:
    """Return u of shape (rows, columns), and the dual of shape (2, rows, columns) along x and y."""
    block: Block = make_block(COINS[None].astype(np.float64), (1.0, 1.0))
    for part in split_batches(make_legs(GIVEN, (1.0, 1.0), steps=steps + 1), steps)[:1]:
        advance(block, part)
    assert block.carried is not None
    carried = as_image(block.carried, block.spatial)
    return carried[0], carried[3:]


def gradient(u: Array) -> Array:
    """Return the differences to the next cell along x and y."""
    return np.stack([np.diff(u, axis=1, append=u[:, -1:]), np.diff(u, axis=0, append=u[-1:])])


def energy(u: Array) -> float:
    """Return what is minimised."""
    pull = (COINS - MEANS[1]) ** 2 - (COINS - MEANS[0]) ** 2
    return float(WEIGHT * np.sqrt((gradient(u) ** 2).sum(axis=0)).sum() + (pull * u).sum(dtype=np.float64))


def test_nothing_is_better() -> None:
    """The dual bounds the energy of every u from below: Σ min(0, r + weight ∇ᵀp)."""
    u, (x, y) = relaxed(2000)
    assert np.hypot(x, y).max() <= 1 + 1e-9
    back = -np.diff(x, axis=1, prepend=0)
    back += -np.diff(y, axis=0, prepend=0)
    pull = (COINS - MEANS[1]) ** 2 - (COINS - MEANS[0]) ** 2
    bound = float(np.minimum(0, pull + WEIGHT * back).sum(dtype=np.float64))
    assert 0 <= energy(u) - bound < 1e-4 * abs(bound)
    found = do.evolve(COINS, GIVEN, steps=2000)
    assert energy(found) - bound < 5e-3 * abs(bound)
    local = do.evolve(COINS, do.ThresholdDynamics(thresholds=100.0, means=MEANS, weight=WEIGHT), steps=30)
    assert energy(found) < energy(local)


def test_the_start_does_not_matter() -> None:
    other = do.ChanVese(start_from="checkerboard", means=MEANS, weight=WEIGHT)
    first, second = (do.evolve(COINS, operator, steps=2000) for operator in (GIVEN, other))
    assert np.mean(first != second) < 1e-3


def test_it_agrees_with_the_level_sets_of_scikit_image() -> None:
    wanted = chan_vese(COINS / 255, mu=0.1, max_num_iter=300, init_level_set="checkerboard")
    found = do.evolve(COINS, do.ChanVese(every=20), steps=400)
    assert min(np.mean(found != wanted), np.mean(found == wanted)) < 0.04


def test_no_cut_changes_it(tmp_path: Path) -> None:
    operator = do.ChanVese(every=10)
    wanted = do.evolve(COINS, operator, steps=25)
    lazy = do.evolve(da.from_array(COINS, (40, 50)), operator, steps=25, batch=8)
    assert np.array_equal(lazy.compute(scheduler="synchronous"), wanted)
    step = {"operator": "chan-vese", "every": 10, "steps": 25}
    run(small_spec(save_source(tmp_path, COINS), tmp_path / "a.zarr", steps=[step], sink={"dtype": "uint8"}))
    assert np.array_equal(read_result(tmp_path / "a.zarr"), wanted)


def test_it_reads_as_far_as_it_says() -> None:
    """After k iterations a cell far away has changed u as far as k cells, and no farther."""
    steps, middle = 6, 15
    found = []
    for value in (0.0, 1.0):
        labels = np.zeros((3, 2 * middle + 1))
        labels[1, middle] = value
        operator = do.ChanVese(start_from="labels", means=[0.0, 1.0], weight=1.0)
        block = make_block(labels[None], (1.0, 1.0), guide=np.full((1, *labels.shape), 0.5))
        for part in split_batches(make_legs(operator, (1.0, 1.0), steps=steps + 1), steps)[:1]:
            advance(block, part)
        assert block.carried is not None
        found.append(as_image(block.carried, block.spatial)[0, 1].copy())
    changed = np.flatnonzero(found[0] != found[1])
    assert (changed[0], changed[-1]) == (middle - steps, middle + steps)
