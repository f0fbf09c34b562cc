"""Fronts that start all over a plane run patch by patch, with the bits of any other order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.families.fronts import patches
from diffusion_ops.families.fronts.patches import Patches, run_through
from diffusion_ops.families.fronts.window import FrontWindow
from tests.diffusion_ops.families.fronts.test_front import PLANE, costs, seeds
from tests.plain_fronts import march


@pytest.fixture(autouse=True)
def visits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Cut planes into patches of 7 x 7, and note those that are visited."""
    found: list[tuple[int, ...]] = []
    copy = Patches._copy

    def noted(self: Patches, patch: tuple[int, ...]) -> FrontWindow:
        found.append(patch)
        return copy(self, patch)

    monkeypatch.setattr(patches, "SIDE", 7)
    monkeypatch.setattr(Patches, "_copy", noted)
    return found


@pytest.mark.parametrize("kind", [np.float32, pytest.param(np.float64, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("which", costs(PLANE))
def test_patches_have_the_bits_of_fast_marching(
    which: str, kind: type, visits: list[tuple[int, ...]]
) -> None:
    cost: NDArray[Any] = costs(PLANE)[which].astype(kind)
    markers = seeds(PLANE, 60)
    expected, labels = march(cost, markers, (0.5, 2.0), kind)
    window = FrontWindow.empty(PLANE, np.dtype(kind), labelled=True)
    assert window.labels is not None
    window.wall(cost < np.inf)
    window.start(markers)
    run_through(window, cost, False, (0.5, 2.0), math.inf)
    assert np.array_equal(window.times[window.inner], expected)
    assert np.array_equal(window.labels[window.inner], labels)
    assert window.violations(cost, False, (0.5, 2.0), math.inf) == 0
    # All of them, and some again: fronts come from beside them.
    assert len(set(visits)) == 36 < len(visits)


def test_what_comes_from_around_and_where_it_ends_are_as_in_one_piece(
    visits: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tile: times in its halo, those that are held, and a time at which fronts end."""
    cost = costs(PLANE)["noise"].astype(np.float32)
    starts = np.where(seeds(PLANE, 60) > 0, np.float32(0.5), np.float32(np.inf))
    found = []
    for few in (patches.FEW, 10**6):
        monkeypatch.setattr(patches, "FEW", few)
        window = FrontWindow.empty(PLANE, np.dtype(np.float32), labelled=False)
        window.hold(starts, begin=True)
        window.times[window.face(0, 1, outside=True)] = 0.25
        window.times[window.face(1, 0, outside=True)] = np.linspace(0, 1, PLANE[0], dtype=np.float32)[:, None]
        window.enter()
        run_through(window, cost, False, (1.0, 1.0), 1.0)
        assert (window.times[window.inner] == np.inf).any()
        found.append(window.times)
    assert visits
    assert np.array_equal(*found)


def test_a_few_fronts_run_in_one_piece(visits: list[tuple[int, ...]]) -> None:
    do.solve(np.ones(PLANE, np.float32), do.Eikonal(), markers=seeds(PLANE, 3))
    assert not visits
