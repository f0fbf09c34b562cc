"""Inpainting fills what is unknown as its equation says, and leaves the rest bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import data

import diffusion_ops as do
from diffusion_ops.blocks.window import Window, window_of
from diffusion_ops.evolution.advance import advance
from diffusion_ops.families import box_filling, inpainting, level_filling
from diffusion_ops.families.level_filling import Partial
from diffusion_ops.operators.inpainting import BY_LEVELS
from tests.diffusion_ops.steady.direct import laplacian, solved

pytestmark = pytest.mark.thorough

WAYS = ("edge-enhancing", "harmonic", "biharmonic", "total-variation", "telea")


def scene(part: float = 0.2) -> tuple[Any, Any]:
    """Return an image, and where it is known; a hole of 12 x 15 pixels has nothing known."""
    image = data.camera()[100:164, 90:170].astype(np.float64)
    known = np.random.default_rng(0).random(image.shape) < part
    known[30:42, 20:35] = False
    return image, known


def parted_sides(at: int) -> tuple[Any, Any, Any]:
    """Return constant sides of a wall of one cell, where they are known, far from the wall and on one side at it."""
    shape = (90, 100)
    columns = np.broadcast_to(np.arange(shape[1]), shape)
    image = np.where(columns < at, 10.0, 200.0)
    known = (columns < 6) | (columns == at + 1)
    return image, known, columns != at


def matrix_of(shape: tuple[int, ...], spacing: tuple[float, ...] = (1.0, 1.0)) -> Any:
    """Return the Laplacian with no flux over the sides."""
    return laplacian(
        [
            np.full(np.subtract(shape, np.eye(len(shape), dtype=int)[a]), 1 / h**2)
            for a, h in enumerate(spacing)
        ]
    )


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_known_pixels_stay_and_the_others_are_filled(by: str, dtype: Any) -> None:
    image, known = scene()
    image = image.astype(dtype)
    filled = do.solve(image, do.Inpainting(by=by), known=known, dtype=dtype)
    assert filled.dtype == dtype
    assert np.array_equal(filled[known], image[known])
    holes = image.astype(np.float32)
    holes[~known] = np.nan
    again = do.solve(holes, do.Inpainting(by=by))
    assert not np.isnan(again).any()
    assert np.array_equal(again[known], holes[known])


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_harmonic_and_biharmonic_are_the_direct_solutions(spacing: tuple[float, float]) -> None:
    image, known = scene()
    matrix, tolerance = matrix_of(image.shape, spacing), 1e-5
    for by, equation in (("harmonic", matrix), ("biharmonic", matrix @ matrix)):
        filled = do.solve(image, do.Inpainting(by=by), known=known, spacing=spacing, tolerance=tolerance)
        assert np.abs(filled - solved(equation, known, image)).max() <= 3 * tolerance * np.ptp(image[known])


def test_a_hole_goes_on_as_its_equation_says() -> None:
    y, x = np.mgrid[:40, :48].astype(np.float64)
    known = np.ones(x.shape, bool)
    known[12:25, 15:30] = False
    slope = 3 * x + 2 * y
    for by in ("harmonic", "biharmonic"):
        assert np.abs(do.solve(slope, do.Inpainting(by=by), known=known, tolerance=1e-7) - slope).max() < 1e-3
    step = np.where(x + 0.3 * y > 28, 100.0, 0.0)
    error = {by: np.abs(do.solve(step, do.Inpainting(by=by), known=known) - step).mean() for by in WAYS}
    assert error["edge-enhancing"] < 0.5 * error["harmonic"]
    assert error["total-variation"] < 0.5 * error["harmonic"]


def test_edges_are_kept_better_than_by_any_other_equation() -> None:
    image, known = scene(0.1)
    error = {by: np.square(do.solve(image, do.Inpainting(by=by), known=known) - image).mean() for by in WAYS}
    assert min(error, key=lambda by: error[by]) == "edge-enhancing"


def test_least_variation_has_less_of_it_than_the_harmonic_image() -> None:
    image, known = scene()

    def variation(u: Any) -> float:
        steps = [np.diff(u, axis=a, append=np.take(u, [-1], a)) for a in (0, 1)]
        return float(np.sqrt(steps[0] ** 2 + steps[1] ** 2).sum())

    ways = do.Inpainting(by="harmonic"), *(do.Inpainting(by="total-variation", rounds=n) for n in (32, 400))
    harmonic, usual, least = (variation(do.solve(image, way, known=known)) for way in ways)
    assert usual < 0.97 * harmonic
    assert least < usual < 1.001 * least


def test_filling_by_distance_looks_over_no_wall_and_keeps_to_the_nearest() -> None:
    y, x = np.mgrid[:40, :48]
    sides, mask = np.where(x < 24, 10.0, 200.0), (x != 24) | (y > 36)
    known = (np.abs(x - 24) > 6) & mask
    filled = do.solve(sides, do.Inpainting(by="telea"), known=known, mask=mask)
    assert np.abs(filled[:30] - sides[:30])[mask[:30]].max() < 1e-9
    # Once the gap in the wall is reached, both sides count.
    assert 10 < filled[39, 24] < 200


def test_known_pixels_at_walls_count_as_nothing() -> None:
    image, known = scene()
    image[:] = 100 + (np.indices(image.shape)[1] > 40)
    mask = np.ones(image.shape, bool)
    mask[::4, ::4] = False
    filled = do.solve(image, do.Inpainting(rounds=1), known=known | ~mask, mask=mask)
    assert filled[mask].min() > 99


def test_equal_known_values_fill_with_exactly_that_value() -> None:
    """Means of three 0.1 are above it by rounding, and so are interpolations."""
    _, known = scene()
    filled = do.solve(np.full(known.shape, 0.1), do.Inpainting(rounds=1), known=known)
    assert (filled == 0.1).all()
    colours = np.stack([filled, np.cumsum(filled, 1)], -1)
    assert (do.solve(colours, do.Inpainting(rounds=1), known=known, channel_axis=-1)[..., 0] == 0.1).all()
    block = Partial(np.full((1, 2, 2), 0.1), np.array([[True, True], [True, False]]), np.ones((2, 2), bool))
    assert block.halved().fields == 0.1


@pytest.mark.parametrize("at", [46, 47])
def test_nothing_comes_through_a_wall_of_one_cell(at: int) -> None:
    """Each side is filled with its constant, but for rounding of the steps."""
    image, known, mask = parted_sides(at)
    filled = do.solve(image, do.Inpainting(rounds=2), known=known, mask=mask)
    assert np.abs(filled - image)[mask].max() < 1e-11


def test_units_do_not_matter() -> None:
    image, known = scene()
    for by in WAYS:
        whole = do.solve(image, do.Inpainting(by=by), known=known)
        assert np.array_equal(do.solve(image * 2.0**-20, do.Inpainting(by=by), known=known), whole * 2.0**-20)


@pytest.mark.parametrize("by", WAYS)
def test_what_has_no_answer_is_refused(by: str) -> None:
    image, known = scene()
    with pytest.raises(ValueError, match="No pixel is known"):
        do.solve(image, do.Inpainting(by=by), known=known & False)
    mask = np.ones(image.shape, bool)
    mask[30:42, 35] = mask[30:42, 19] = mask[29, 19:36] = mask[42, 19:36] = False
    with pytest.raises(ValueError, match="have no known one"):
        do.solve(image, do.Inpainting(by=by), known=known, mask=mask)
    if by not in ("harmonic", "biharmonic"):
        with pytest.raises(ValueError, match="tolerance"):
            do.solve(image, do.Inpainting(by=by), known=known, tolerance=1e-3)


def few_holes(shape: tuple[int, ...]) -> Any:
    """Return what is known: all but holes in the middle, at a corner, at an edge and of single cells."""
    known = np.ones(shape, bool)
    for at in ((60, 150), (0, 0), (75, shape[-1] - 6), (130, 9), (99, 40)):
        known[(..., *(slice(i, i + 8) for i in at))] = False
    known[..., 20, 80] = known[..., -1, -1] = False
    return known


def whole(cells: Any, margin: tuple[int, ...]) -> list[Window]:
    """Return the window of a box that is the whole image, where there are cells."""
    return [window_of(tuple(slice(0, n) for n in cells.shape), cells.shape, margin)] if cells.any() else []


@pytest.mark.parametrize("by", BY_LEVELS)
@pytest.mark.parametrize("kind", ["image", "walls", "colours"])
def test_holes_apart_are_filled_alone_with_the_bits_of_the_whole_image(
    by: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, known = data.camera()[100:250, 90:300].astype(np.float32), few_holes((150, 210))
    how: dict[str, Any] = {"known": known, "spacing": (1.0, 0.5)}
    if kind == "walls":
        how["mask"] = np.ones(known.shape, bool)
        how["mask"][64, 140:] = how["mask"][::9, 42] = False
    if kind == "colours":
        image, how["channel_axis"] = np.stack([image, image[::-1]], axis=-1), -1
    way = do.Inpainting(by=by, rounds=3)
    filled = do.solve(image, way, **how)
    monkeypatch.setattr(level_filling, "windows_apart", whole)
    assert filled.tobytes() == do.solve(image, way, **how).tobytes()


@pytest.mark.parametrize(
    ("neighbourhood", "spacing"), [(5.0, (1.0, 1.0)), (1.0, (1.0, 0.4)), (36.0, (1.0, 1.0))]
)
def test_filling_by_distance_looks_no_farther_than_the_margin_and_as_far(
    neighbourhood: float, spacing: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, known = data.camera()[100:250, 90:300].astype(np.float32), few_holes((150, 210))
    mask = np.ones(known.shape, bool)
    mask[64, 140:] = mask[::9, 42] = False
    way = do.Inpainting(by="telea", neighbourhood=neighbourhood)

    def filled() -> Any:
        return do.solve(image, way, known=known, mask=mask, spacing=spacing)

    apart, margin = filled(), way.box_margin(spacing)
    with monkeypatch.context() as patched:
        patched.setattr(box_filling, "windows_apart", whole)
        assert np.array_equal(filled(), apart)
    for axis in range(2):
        less = tuple(n - (a == axis) for a, n in enumerate(margin))
        monkeypatch.setattr(do.Inpainting, "box_margin", lambda self, spacing, less=less: less)
        assert not np.array_equal(filled(), apart)


def test_the_biharmonic_equation_needs_all_of_its_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    image, known = data.camera()[100:200, 90:210].astype(np.float64), np.ones((100, 120), bool)
    known[60:70, 80:95] = False
    way = do.Inpainting(by="biharmonic")
    filled = do.solve(image, way, known=known)
    for less in ((1, 2), (2, 1)):
        monkeypatch.setattr(do.Inpainting, "box_margin", lambda self, spacing, less=less: less)
        assert not np.array_equal(do.solve(image, way, known=known), filled)


@pytest.mark.parametrize("by", BY_LEVELS)
def test_rounds_go_over_little_more_than_what_is_unknown(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visited = []

    def counted(block: Any, legs: Any) -> Any:
        visited.append(np.prod(block.spatial))
        return advance(block, legs)

    monkeypatch.setattr(level_filling, "advance", counted)
    known = np.ones((512, 512), bool)
    known[200:212, 300:312] = known[:12, 500:] = False
    filled = do.solve(data.camera(), do.Inpainting(by=by, rounds=1), known=known)
    assert np.array_equal(filled[known], data.camera()[known])
    # Boxes of 12 cells a side and fewer, with 4 or 10 around; on the coarsest of 4 levels one holds both holes.
    assert 0 < sum(visited) <= 0.03 * known.size


def test_the_biharmonic_equation_is_solved_hole_by_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    solved_cells = []

    class Counted(inpainting.Solver):
        def __init__(self, grid: Any) -> None:
            solved_cells.append(np.prod(grid.spatial))
            super().__init__(grid)

    monkeypatch.setattr(inpainting, "Solver", Counted)
    image, known = data.camera()[100:200, 90:210].astype(np.float64), np.ones((100, 120), bool)
    known[:9, :7] = known[60:70, 80:95] = False
    filled = do.solve(image, do.Inpainting(by="biharmonic"), known=known, tolerance=1e-6)
    matrix = matrix_of(image.shape)
    assert np.abs(filled - solved(matrix @ matrix, known, image)).max() <= 3e-6 * np.ptp(image[known])
    assert sorted(solved_cells) == [11 * 9, 14 * 19]


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("by", BY_LEVELS)
def test_values_that_overflow_are_refused_and_others_are_not(by: str, dtype: Any) -> None:
    image, known = scene()
    image = np.where(image > np.median(image), dtype(1), dtype(-1))
    largest, way = float(np.finfo(dtype).max), do.Inpainting(by=by, rounds=2)
    taken = 2.0 ** np.floor(np.log2(largest / 32 if by == "total-variation" else np.sqrt(largest / 8) / 4))
    filled = do.solve(image, way, known=known)
    assert np.array_equal(do.solve(image * dtype(taken), way, known=known), filled * dtype(taken))
    for far in (taken * 8, 0.8 * largest):
        with pytest.raises(ValueError, match="overflows in float"):
            do.solve(image * dtype(far), way, known=known)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize("by", ["harmonic", "biharmonic"])
@pytest.mark.parametrize("power", [1021, 1023])
def test_corrections_that_are_no_numbers_are_no_answer(by: str, power: int) -> None:
    image, known = scene()
    image = np.where(image > np.median(image), 1.0, -1.0) * 2.0**power
    with pytest.raises(ValueError, match=r"overflows in float64|further one would still"):
        do.solve(image, do.Inpainting(by=by), known=known)
