"""Fronts in memory: the bits of a plain fast marching, whatever they run through."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.families.fronts.patches import run_through
from diffusion_ops.families.fronts.window import FrontWindow
from tests.plain_fronts import march, second_order, violations


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


def in_tiles(
    cost: NDArray[Any], markers: NDArray[Any], side: int, order: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return times and labels from tiles that are visited in some order until no side of any changes."""
    starts = itertools.product(*(range(0, n, side) for n in cost.shape))
    tiles = {
        at: tuple(slice(a, min(a + side, n)) for a, n in zip(at, cost.shape, strict=True)) for at in starts
    }
    times, labels = np.full(cost.shape, np.inf, cost.dtype), np.zeros(cost.shape, np.int32)
    random, waiting, begun = np.random.default_rng(2), dict.fromkeys(tiles, 0.0), set()
    while waiting:
        keys = list(waiting)
        pick = {"first in, first out": 0, "random": int(random.integers(len(keys)))}
        at = min(keys, key=waiting.__getitem__) if order == "urgent" else keys[pick[order]]
        del waiting[at]
        window, tile = FrontWindow.empty(cost[tiles[at]].shape, cost.dtype, True), tiles[at]
        assert window.labels is not None
        for axis, end in itertools.product(range(cost.ndim), (0, 1)):
            cell = tile[axis].stop if end else tile[axis].start - 1
            if 0 <= cell < cost.shape[axis]:
                face, place = list(tile), window.face(axis, end, outside=True)
                face[axis] = slice(cell, cell + 1)
                window.times[place], window.labels[place] = times[tuple(face)], labels[tuple(face)]
        window.wall(cost[tile] < np.inf)
        if at in begun:
            window.times[window.inner], window.labels[window.inner] = times[tile], labels[tile]
            before = window.sides()
            window.fix_seeds()
        else:
            before = window.sides()
            window.start(markers[tile])
        window.enter()
        run_through(window, cost[tile], False, (1.0,) * cost.ndim, math.inf)
        begun.add(at)
        times[tile], labels[tile] = window.times[window.inner], window.labels[window.inner]
        for changed, earliest in window.changes(before).items():
            other = list(at)
            other[changed // 2] += side if changed % 2 else -side
            if tuple(other) in tiles:
                waiting[tuple(other)] = min(earliest, waiting.get(tuple(other), math.inf))
    return times, labels


PLANE, VOLUME = (40, 37), (9, 11, 10)
DOUBLES = pytest.param(np.float64, marks=pytest.mark.slow)
singles_and_doubles = pytest.mark.parametrize("kind", [np.float32, DOUBLES])
"""A front is compiled for seconds; doubles that are not slow are times in planes."""


@pytest.fixture(params=["wide", "narrow"])
def lists(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with lists of waiting cells that hold all of them, and with such that are full again and again."""
    if request.param == "narrow":
        monkeypatch.setattr(f"{FrontWindow.__module__}.LEAST_ROOM", 64)
        monkeypatch.setattr(f"{FrontWindow.__module__}.WAITING", 10**9)


@pytest.mark.usefixtures("lists")
@pytest.mark.parametrize("kind", [np.float32, pytest.param(np.float64, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("which", costs(PLANE))
def test_planes_have_the_bits_of_fast_marching(which: str, kind: type) -> None:
    cost: NDArray[Any] = costs(PLANE)[which].astype(kind)
    markers = seeds(PLANE, 3)
    for spacing in ((1.0, 1.0), (0.5, 2.0)):
        times = do.solve(cost, do.Eikonal("cost"), markers=markers, spacing=spacing)
        expected, _ = march(cost, markers, spacing, kind)
        assert np.array_equal(np.where(np.isnan(times), np.inf, times), expected)
        assert violations(expected, cost, spacing) == 0


@pytest.mark.thorough
@pytest.mark.usefixtures("lists")
@singles_and_doubles
@pytest.mark.parametrize("which", costs(VOLUME))
def test_volumes_have_the_bits_of_fast_marching(which: str, kind: type) -> None:
    cost: NDArray[Any] = costs(VOLUME)[which].astype(kind)
    markers = seeds(VOLUME, 2)
    for spacing in ((1.0, 1.0, 1.0), (2.0, 1.0, 0.75)):
        times = do.solve(cost, do.Eikonal("cost"), markers=markers, spacing=spacing)
        expected, _ = march(cost, markers, spacing, kind)
        assert np.array_equal(np.where(np.isnan(times), np.inf, times), expected)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("shape", "spacing", "kind"),
    [
        (PLANE, (0.5, 2.0), np.float32),
        (PLANE, (0.5, 2.0), np.float64),
        (VOLUME, (2.0, 1.0, 0.75), np.float32),
        pytest.param(VOLUME, (2.0, 1.0, 0.75), np.float64, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("which", costs(VOLUME))
def test_second_order_has_the_bits_of_a_sweep_in_the_order_of_the_first(
    which: str, shape: tuple[int, ...], spacing: tuple[float, ...], kind: type
) -> None:
    cost: NDArray[Any] = costs(shape)[which].astype(kind)
    markers = seeds(shape, 2)
    times = do.solve(cost, do.Eikonal("cost", order=2), markers=markers, spacing=spacing)
    first, _ = march(cost, markers, spacing, kind)
    expected = second_order(first, cost, spacing, first == 0)
    assert np.array_equal(np.where(np.isnan(times), np.inf, times), expected)


@pytest.mark.thorough
@pytest.mark.usefixtures("lists")
@singles_and_doubles
@pytest.mark.parametrize("which", ["constant", "noise", "maze"])
def test_labels_are_those_of_the_nearest_marker_and_ties_go_to_the_smaller(which: str, kind: type) -> None:
    """Of constant cost thousands of pixels are equally near."""
    for shape, spacing in ((PLANE, (1.0, 1.0)), (VOLUME, (1.0, 1.0, 1.0))):
        cost: NDArray[Any] = costs(shape)[which].astype(kind)
        markers = seeds(shape, 12)
        labels = do.solve(cost, do.GeodesicLabels("image"), markers=markers, spacing=spacing)
        _, expected = march(cost, markers, spacing, kind)
        assert labels.dtype == np.int32
        assert np.array_equal(labels, expected)


@singles_and_doubles
@pytest.mark.parametrize("order", ["first in, first out", "random", "urgent"])
@pytest.mark.parametrize("which", costs(PLANE))
def test_any_tiles_in_any_order_end_in_the_same_bits(which: str, order: str, kind: type) -> None:
    cost: NDArray[Any] = costs(PLANE)[which].astype(kind)
    markers = seeds(PLANE, 5)
    times, labels = march(cost, markers, (1.0, 1.0), kind)
    for side in (7, 16):
        found = in_tiles(cost, markers, side, order)
        assert np.array_equal(found[0], times)
        assert np.array_equal(found[1], labels)


@pytest.mark.thorough
@singles_and_doubles
def test_volumes_in_tiles_have_the_same_bits(kind: type) -> None:
    cost: NDArray[Any] = costs(VOLUME)["noise"].astype(kind)
    markers = seeds(VOLUME, 3)
    for found, whole in zip(
        in_tiles(cost, markers, 4, "random"), march(cost, markers, (1,) * 3, kind), strict=True
    ):
        assert np.array_equal(found, whole)


# ---- the mathematics


def test_times_at_constant_speed_are_distances_of_first_order() -> None:
    errors = []
    for n in (51, 101, 201):
        y, x = np.indices((n, n)) / (n - 1) - 0.5
        markers = np.zeros((n, n), int)
        markers[n // 2, n // 2] = 1
        times = do.solve(np.full((n, n), 2.0), do.Eikonal(), markers=markers, spacing=1 / (n - 1))
        errors.append(np.abs(times - np.hypot(y, x) / 2).max())
    assert errors[0] < 2.4e-2 / 2
    assert all(1.4 < a / b < 2.1 for a, b in itertools.pairwise(errors))  # h log(1/h)


def test_times_at_linear_speed_are_those_of_the_formula() -> None:
    n, slope = 201, np.array([0.5, 1.0])
    y, x = np.indices((n, n)) / (n - 1)
    speed = 1 + slope[0] * y + slope[1] * x
    markers = np.zeros((n, n), int)
    markers[0, 0] = 1
    times = do.solve(speed, do.Eikonal(), markers=markers, spacing=1 / (n - 1))
    exact = np.arccosh(1 + (slope @ slope) * (y * y + x * x) / (2 * speed)) / np.hypot(*slope)
    assert np.abs(times - exact).max() < 8e-3


@pytest.mark.thorough
def test_second_order_converges_with_the_square_of_the_spacing() -> None:
    errors = []
    for n in (51, 101, 201):
        y, x = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, math.pi, n), indexing="ij")
        exact = y * (1 + 0.3 * np.cos(x))
        cost = np.hypot(1 + 0.3 * np.cos(x), 0.3 * y * np.sin(x))
        markers = np.zeros((n, n), int)
        markers[0] = 1
        spacing = (1 / (n - 1), math.pi / (n - 1))
        times = do.solve(cost, do.Eikonal("cost", order=2), markers=markers, spacing=spacing)
        errors.append(np.abs(times - exact).max())
    assert errors[0] < 6.1e-5
    assert all(a / b > 3.9 for a, b in itertools.pairwise(errors))


def test_units_of_powers_of_two_change_no_bit() -> None:
    cost: NDArray[Any] = costs(PLANE)["noise"].astype(np.float32)
    markers = seeds(PLANE, 3)
    times = do.solve(cost, do.Eikonal("cost"), markers=markers)
    other = do.solve(cost * 2**20, do.Eikonal("cost"), markers=markers, spacing=2.0**-30)
    assert np.array_equal(other, times * np.float32(2.0**-10))


@pytest.mark.thorough
def test_walls_are_gone_around_and_what_nobody_reaches_is_never() -> None:
    cost = np.ones((12, 12), np.float32)
    cost[:, 6] = np.nan
    markers = seeds((12, 12), 0)
    times = do.solve(cost, do.Eikonal("cost"), markers=markers)
    assert np.isfinite(times[:, :6]).all()
    assert np.isnan(times[:, 6]).all()
    assert np.isinf(times[:, 7:]).all()
    labels = do.solve(cost, do.GeodesicLabels("image"), markers=markers)
    assert (labels[:, :6] == 1).all()
    assert (labels[:, 6:] == 0).all()
    cost[3, 6] = 1
    assert np.isfinite(do.solve(cost, do.Eikonal("cost"), markers=markers)[:, 7:]).all()
    stopped = do.solve(cost, do.Eikonal("cost", until=4), markers=markers)
    assert np.array_equal(np.isfinite(stopped), do.solve(cost, do.Eikonal("cost"), markers=markers) <= 4)


# ---- bad input


@pytest.mark.thorough
def test_impossible_speeds_and_markers_are_refused() -> None:
    speed, markers = np.ones((9, 9)), seeds((9, 9), 1)
    holes = speed.copy()
    holes[4, 4] = 0
    for image, problem, given, message in (
        (speed, do.Eikonal(), 0 * markers, "There is no marker"),
        (np.where(markers > 0, np.nan, 1), do.Eikonal(), markers, "marked pixels are walls"),
        (holes, do.Eikonal(), markers, "zero='wall'"),
        (-speed, do.Eikonal("cost"), markers, "negative"),
        (-speed, do.GeodesicLabels("image"), markers, "negative"),
        (speed, do.Eikonal(), markers[1:], "must agree"),
        (speed, do.GeodesicLabels(), markers * 2**40, "too large"),
    ):
        with pytest.raises(ValueError, match=message):
            do.solve(image, problem, markers=given)
    with pytest.raises(ValueError, match=r'by="image" takes one channel.*by="gradient" takes several'):
        do.solve(np.ones((9, 9, 3)), do.GeodesicLabels("image"), markers=markers, channel_axis=-1)
    with pytest.raises(ValueError, match="one channel"):
        do.solve(np.ones((9, 9, 3)), do.Eikonal(), markers=markers, channel_axis=-1)
    with pytest.raises(ValueError, match="cannot be held by uint8"):
        do.solve(speed, do.GeodesicLabels(), markers=markers * 300, dtype="uint8")
    with pytest.raises(
        ValueError, match=r"2,\d+,\d+,\d+ cells with its halo. Allowed: 2,147,483,647 .* over files"
    ):
        FrontWindow.empty((2**16, 2**15), np.dtype(np.float32), False)
    walled = do.solve(holes, do.Eikonal(zero="wall"), markers=markers)
    assert np.array_equal(np.isnan(walled), holes == 0)
