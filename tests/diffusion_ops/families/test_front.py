"""Fronts in memory: the bits of a plain fast marching, whatever they run through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from tests.plain_fronts import march, violations


def maze(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return costs of 1 between walls that a front has to wind around."""
    cost = np.ones(shape)
    cost[..., 4::8, :] = np.inf
    cost[..., 4::16, -2:] = cost[..., 12::16, :2] = 1
    return cost


def spiral(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a path of low cost that winds around the centre."""
    y, x = np.indices(shape) - shape[0] / 2 + 0.25
    turns = np.hypot(y, x) / 6 - np.arctan2(y, x) / (2 * math.pi)
    return np.where(turns % 1 < 0.5, 1.0, 200.0)


def costs(shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Return costs that are easy, and that are not."""
    random = np.random.default_rng(5)
    found = {
        "constant": np.ones(shape),
        "smooth": 2 + np.sin(np.indices(shape).sum(axis=0) / 7),
        "noise": np.exp(random.normal(size=shape)),
        "maze": maze(shape),
        "20 decades": 10.0 ** random.uniform(-10, 10, shape),
        "half of them zero": np.where(random.random(shape) < 0.5, 0, 10.0 ** random.uniform(-20, 3, shape)),
    }
    return {**found, "spiral": spiral(shape)} if len(shape) == 2 else found


def seeds(shape: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """Return labels 1, 2, ... at random places, one of them in a corner."""
    markers = np.zeros(shape, np.int64)
    markers.flat[np.random.default_rng(1).permutation(markers.size)[:count]] = np.arange(1, count + 1)
    markers[(0,) * len(shape)] = count + 1
    return markers


PLANE, VOLUME = (40, 37), (9, 11, 10)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("which", costs(PLANE))
def test_planes_have_the_bits_of_fast_marching(which: str, kind: type) -> None:
    cost: NDArray[Any] = costs(PLANE)[which].astype(kind)
    markers = seeds(PLANE, 3)
    for spacing in ((1.0, 1.0), (0.5, 2.0)):
        times = do.solve(cost, do.Eikonal("cost"), markers=markers, spacing=spacing)
        expected, _ = march(cost, markers, spacing, kind)
        assert np.array_equal(np.where(np.isnan(times), np.inf, times), expected)
        assert violations(expected, cost, spacing) == 0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("which", costs(VOLUME))
def test_volumes_have_the_bits_of_fast_marching(which: str, kind: type) -> None:
    cost: NDArray[Any] = costs(VOLUME)[which].astype(kind)
    markers = seeds(VOLUME, 2)
    for spacing in ((1.0, 1.0, 1.0), (2.0, 1.0, 0.75)):
        times = do.solve(cost, do.Eikonal("cost"), markers=markers, spacing=spacing)
        expected, _ = march(cost, markers, spacing, kind)
        assert np.array_equal(np.where(np.isnan(times), np.inf, times), expected)


@pytest.mark.parametrize("which", ["constant", "noise", "maze"])
def test_labels_are_those_of_the_nearest_marker_and_ties_go_to_the_smaller(which: str) -> None:
    """Of constant cost thousands of pixels are equally near."""
    for shape, spacing in ((PLANE, (1.0, 1.0)), (VOLUME, (1.0, 1.0, 1.0))):
        cost: NDArray[Any] = costs(shape)[which]
        markers = seeds(shape, 12)
        labels = do.solve(cost, do.GeodesicLabels("image"), markers=markers, spacing=spacing)
        _, expected = march(cost, markers, spacing)
        assert labels.dtype == np.int32
        assert np.array_equal(labels, expected)
