"""Shortest paths in memory: straight where they should be, around walls, the same for any tiles, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.families.fronts.paths import Path, Tracing

pytestmark = pytest.mark.thorough


def times_of(cost: NDArray[Any], *seeds: tuple[int, ...], **how: Any) -> NDArray[Any]:
    markers = np.zeros(cost.shape, int)
    for cell in seeds:
        markers[cell] = 1
    found: NDArray[Any] = do.solve(cost, do.Eikonal("cost", order=2), markers=markers, **how)
    return found


def ends_at(shape: tuple[int, ...], *cells: tuple[int, ...]) -> NDArray[np.int64]:
    markers = np.zeros(shape, np.int64)
    for label, cell in enumerate(cells, start=1):
        markers[cell] = label
    return markers


def length_of(path: Path, spacing: tuple[float, ...]) -> float:
    return float(np.linalg.norm(np.diff(path.points[:, 1:], axis=0) * spacing, axis=1).sum())


@pytest.mark.parametrize(
    ("shape", "seed", "end", "spacing"),
    [
        ((101, 101), (20, 30), (80, 95), (1.0, 1.0)),
        ((101, 60), (4, 5), (90, 40), (0.5, 2.0)),
        ((30, 25, 28), (4, 3, 25), (27, 20, 2), (1.0, 2.0, 1.5)),
    ],
)
def test_paths_of_constant_cost_are_straight(
    shape: tuple[int, ...], seed: tuple[int, ...], end: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    times = times_of(np.ones(shape), seed, spacing=spacing)
    (path,) = do.ShortestPath().lines(times, ends_at(shape, end), spacing)
    assert tuple(path.points[0]) == (times[end], *end)
    assert tuple(path.points[-1]) == (0, *seed)
    assert (np.diff(path.points[:, 0]) <= 0).all()
    way = (np.array(end) - seed) * spacing
    assert length_of(path, spacing) < 1.002 * np.linalg.norm(way)
    beside = (path.points[:, 1:] - seed) * spacing
    along = way / np.linalg.norm(way)
    assert np.linalg.norm(beside - np.outer(beside @ along, along), axis=1).max() < 0.6 * max(spacing)


def test_paths_go_around_walls_and_have_the_same_bits_for_any_tiles() -> None:
    cost = np.exp(np.random.default_rng(0).normal(size=(90, 80)))
    cost[30, 5:] = cost[60, :-5] = np.nan
    times, ends = times_of(cost, (3, 70)), {(85, 30): 4, (50, 79): 1}
    markers = np.zeros(cost.shape, int)
    for cell, label in ends.items():
        markers[cell] = label
    paths = do.ShortestPath().lines(times, markers)
    for path in paths:
        cells = np.floor(path.points[:, 1:] + 0.5).astype(int)
        assert np.isfinite(cost[tuple(cells.T)]).all()
        assert path.points[-1, 0] == 0
    for tile in ((7, 13), (1, 80), (89, 3)):
        parts = Tracing(times.__getitem__, times.shape, tile, (1.0, 1.0), 0.5).trace(ends)
        found = {path.label: path.points.tobytes() for path in parts}
        assert found == {path.label: path.points.tobytes() for path in paths}
    drawn = do.solve(times, do.ShortestPath(), markers=markers)
    assert set(np.unique(drawn)) == {0, 1, 4}
    assert drawn[85, 30] == 4
    # Where both run, and at their common beginning, the smaller label is seen.
    assert drawn[3, 70] == 1


def test_an_end_where_times_begin_is_a_path_of_one_point() -> None:
    times = times_of(np.ones((9, 9)), (4, 4))
    (path,) = do.ShortestPath().lines(times, ends_at((9, 9), (4, 4)))
    assert path.points.tolist() == [[0, 4, 4]]


def test_impossible_ends_and_times_are_refused() -> None:
    times = times_of(np.where(np.arange(81).reshape(9, 9) % 9 == 5, np.nan, 1.0), (4, 2))
    for image, cells, message in (
        (times, [(4, 7)], r"No path leads to 1 of the marked pixels, such as 1 at \(4, 7\)"),
        (times, [(4, 5)], "No path leads"),
        (times, [], "There is no marker"),
        (1 + np.zeros((9, 9)), [(4, 4)], "no earlier neighbour"),
        (times[1:], [(4, 4)], "must agree"),
    ):
        with pytest.raises(ValueError, match=message):
            do.solve(image, do.ShortestPath(), markers=ends_at((9, 9), *cells))
    with pytest.raises(ValueError, match="must agree"):
        do.ShortestPath().lines(times[1:], ends_at((9, 9), (4, 4)))
    with pytest.raises(ValueError, match="one channel"):
        do.solve(np.stack([times] * 2), do.ShortestPath(), markers=ends_at((9, 9), (1, 1)), channel_axis=0)
