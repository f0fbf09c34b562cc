"""Additive operator splitting: exact lines, a bound for what partitions leave out, extremes, and bits of any window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.linalg import solve_banded

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg, total_halo
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.kernels.splitting import solve_lines
from diffusion_ops.operators.additive_splitting import TRUNCATION, AdditiveSplitting

pytestmark = pytest.mark.thorough

Array = NDArray[Any]


def evolved(
    image: Array,
    operator: AdditiveSplitting,
    cycles: tuple[Cycle, ...],
    spacing: Any = None,
    valid: Any = None,
    origin: Any = (),
) -> Array:
    """Return an image of shape (channels, *spatial) after some steps."""
    block = Block.from_image(image, spacing or (1.0,) * (image.ndim - 1), valid)
    block.origin = origin or block.origin
    return advance(block, [Leg(operator, cycles)]).u


# ---- lines


def banded(right_side: Array, faces: Array) -> Array:
    """Return the solution by SciPy's general elimination, line by line."""
    n, lines = right_side.shape
    result = np.empty_like(right_side)
    for k in range(lines):
        c, bands = faces[: n - 1, k], np.zeros((3, n))
        bands[0, 1:] = bands[2, :-1] = -c
        bands[1] = 1 + np.append(c, 0) + np.append(0, c)
        result[:, k] = solve_banded((1, 1), bands, right_side[:, k])
    return result


def extended(right_side: Array, faces: Array) -> Array:
    """Return the solution in extended precision, without any difference of like numbers."""
    f, c = right_side.astype(np.longdouble), faces.astype(np.longdouble)
    excess, total = [np.ones_like(f[0])], [f[0]]
    for i in range(len(f) - 1):
        ratio = c[i] / (excess[i] + c[i])
        excess.append(1 + ratio * excess[i])
        total.append(f[i + 1] + ratio * total[i])
    x = [total[-1] / excess[-1]]
    for i in range(len(f) - 2, -1, -1):
        x.append((total[i] + c[i] * x[-1]) / (excess[i] + c[i]))
    return np.array(x[::-1])


@pytest.mark.parametrize(("theta", "error"), [(10.0, 5e-16), (1e5, 5e-15)])
@pytest.mark.parametrize("partition", [2, 7, 64, 2000])
def test_exact_lines_against_extended_precision_and_scipy(theta: float, error: float, partition: int) -> None:
    rng = np.random.default_rng(0)
    f, c = rng.random((1003, 5)), theta * rng.random((1003, 5))
    c[rng.random(c.shape) < 0.01] = 0
    reference = extended(f, c)
    found = solve_lines(f, c, partition)
    assert float(np.abs(found - reference).max() / np.abs(reference).max()) < error
    np.testing.assert_allclose(found, banded(f, c), rtol=1e-14 * theta, atol=1e-15 * theta)


@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 17, 33])
def test_lines_of_any_length(size: int) -> None:
    rng = np.random.default_rng(0)
    f, c = rng.random((size, 19)), 50 * rng.random((size, 19))
    for partition in (2, 3, 16):
        np.testing.assert_allclose(solve_lines(f, c, partition), banded(f, c), rtol=1e-12)


@pytest.mark.parametrize("theta", [0.5, 10.0, 100.0])
@pytest.mark.parametrize("partition", [8, 16, 64])
def test_what_partitions_leave_out_is_within_the_bound(theta: float, partition: int) -> None:
    rng, n = np.random.default_rng(0), 640
    q = (np.sqrt(1 + 4 * theta) - 1) / (np.sqrt(1 + 4 * theta) + 1)
    noise, square = (
        rng.random((n, 4)),
        (np.arange(n)[:, None] // np.array([3, 20, 64, 320]) % 2).astype(float),
    )
    for f in (noise, square):
        for c in (np.full((n, 4), theta), theta * rng.random((n, 4)), theta * (rng.random((n, 4)) > 0.1)):
            error = np.abs(solve_lines(f, c, partition, exact=False) - solve_lines(f, c, partition)).max()
            assert error <= 2 * q**partition + 1e-15


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("theta", [1.0, 1e4, 1e12])
def test_lines_keep_extremes_and_constants_at_any_step(theta: float, exact: bool) -> None:
    rng = np.random.default_rng(0)
    f, c = 1000 * rng.normal(size=(300, 16)), theta * rng.random((300, 16)) ** 8
    x = solve_lines(f, c, 16, exact=exact)
    room = 1e-12 * np.abs(f).max()
    assert (x.min(0) >= f.min(0) - room).all()
    assert (x.max(0) <= f.max(0) + room).all()
    np.testing.assert_allclose(solve_lines(np.full((300, 16), 7.0), c, 16, exact=exact), 7, rtol=1e-14)
    if exact:
        np.testing.assert_allclose(x.sum(0), f.sum(0), atol=1e-9 * np.abs(f).sum() / 16)


# ---- images


@pytest.mark.parametrize("form", ["truncated", "exact"])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((61, 83), (1.0, 1.0)), ((61, 83), (0.7, 1.6)), ((21, 30, 19), (2.0, 1.0, 0.8))]
)
def test_linear_steps_are_the_mean_of_the_axes_exact_ones(form: str, shape: Any, spacing: Any) -> None:
    image, operator = np.random.default_rng(0).random(shape), AdditiveSplitting(partition=8, form=form)
    tau = operator.stable_dt(spacing) if form == "truncated" else 30.0
    symbol: Any = 0.0
    grids = np.ix_(*[2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in shape])
    for a, h in zip(grids, spacing, strict=True):
        symbol = symbol + 1 / (1 + len(shape) * tau * a / h**2) / len(shape)
    exact = idctn(symbol**3 * dctn(image))
    found = evolved(image[None], operator, (Cycle(tau),) * 3, spacing)[0]
    assert np.abs(found - exact).max() < (1e-14 if form == "exact" else 3 * TRUNCATION)


def test_nonlinear_steps_solve_with_frozen_conductances() -> None:
    image, tau = np.random.default_rng(0).random((40, 53)) * 100, 5.0
    expected = np.zeros_like(image)
    for axis in (0, 1):
        u = np.moveaxis(image, axis, 0)
        g = np.vstack([1 / (1 + (np.diff(u, axis=0) / 20) ** 2), np.zeros((1, u.shape[1]))])
        expected += np.moveaxis(banded(u, 2 * tau * g), 0, axis) / 2
    found = evolved(image[None], AdditiveSplitting(20, "rational", form="exact"), (Cycle(tau),))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_it_is_of_first_order_in_time() -> None:
    n, operator = 48, AdditiveSplitting(form="exact")
    x = np.pi * (np.arange(n) + 0.5) / n
    image = (np.cos(2 * x)[:, None] * np.cos(3 * x) + np.cos(x))[None]
    grids = np.ix_(*[2 - 2 * np.cos(np.pi * np.arange(n) / n)] * 2)
    exact = idctn(np.exp(-32 * (grids[0] + grids[1])) * dctn(image[0]))
    errors = [
        np.abs(evolved(image, operator, (Cycle(32 / steps),) * steps)[0] - exact).max()
        for steps in (8, 16, 32)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("form", ["truncated", "exact"])
@pytest.mark.parametrize("contrast", [None, 10.0])
def test_extremes_and_sum_are_kept_at_the_largest_step(form: str, contrast: float | None) -> None:
    rng = np.random.default_rng(0)
    image, valid = (rng.random((2, 70, 90)) * 200).astype(np.float32), rng.random((70, 90)) > 0.2
    operator = AdditiveSplitting(contrast, form=form)
    after = evolved(image, operator, (Cycle(operator.stable_dt((1.0, 1.0))),) * 3, valid=valid)[:, valid]
    before = image[:, valid]
    assert before.min() - 2e-4 <= after.min() <= after.max() <= before.max() + 2e-4
    for a, b in zip(after, before, strict=True):
        assert a.mean(dtype=np.float64) == pytest.approx(b.mean(dtype=np.float64), rel=2e-6)


def test_nothing_passes_a_wall() -> None:
    image, valid = np.random.default_rng(0).random((1, 40, 50)), np.ones((40, 50), bool)
    valid[:, 20] = False
    operator, other = AdditiveSplitting(partition=16), image.copy()
    other[..., 21:] += 100
    cycles = (Cycle(operator.stable_dt((1.0, 1.0))),) * 2
    first, second = (evolved(each, operator, cycles, valid=valid) for each in (image, other))
    assert np.array_equal(first[..., :20], second[..., :20])
    np.testing.assert_allclose(first[..., :20], evolved(image[..., :20], operator, cycles), rtol=1e-6)


# ---- windows

WINDOWED = [
    AdditiveSplitting(partition=5),
    AdditiveSplitting(1e3, partition=8),
    AdditiveSplitting(60.0, "rational", sigma=0.75, partition=7),
]


def right_in_window(
    image: Array,
    whole: Array,
    operator: AdditiveSplitting,
    cycles: Any,
    start: Any,
    stop: Any,
    halo: Any,
    valid: Any,
) -> bool:
    """Return whether a window with this halo has the bits of the whole image."""
    shape = image.shape[1:]
    ends = [(max(a - h, 0), min(b + h, n)) for a, b, h, n in zip(start, stop, halo, shape, strict=True)]
    window = tuple(slice(*end) for end in ends)
    sides = tuple((a > 0, b < n) for (a, b), n in zip(ends, shape, strict=True))
    block = Block.from_image(image[:, *window], (1.0,) * len(shape), valid[window], sides)
    block.origin = tuple(a for a, _ in ends)
    keep = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    inside = tuple(slice(s.start - a, s.stop - a) for s, (a, _) in zip(keep, ends, strict=True))
    found = advance(block, [Leg(operator, cycles)]).u[:, *inside][:, valid[keep]]
    return bool(found.tobytes() == whole[:, *keep][:, valid[keep]].tobytes())


@pytest.mark.parametrize("operator", WINDOWED, ids=repr)
@pytest.mark.parametrize("shape", [(97, 111), pytest.param((33, 40, 37), marks=pytest.mark.slow)])
@pytest.mark.parametrize("walls", [False, True])
def test_windows_anywhere_have_the_bits_of_the_whole(
    operator: AdditiveSplitting, shape: tuple[int, ...], walls: bool
) -> None:
    rng, tau = np.random.default_rng(0), operator.stable_dt((1.0,) * len(shape))
    image = (rng.random((1, *shape)) * 200).astype(np.float32)
    valid = rng.random(shape) > 0.1 if walls else np.ones(shape, bool)
    # Equal steps share a call, others do not.
    for cycles in ((Cycle(tau),) * 2, (Cycle(tau), Cycle(tau / 2))):
        halo = total_halo([Leg(operator, cycles)], (1.0,) * len(shape))
        whole = evolved(image, operator, cycles, valid=valid)
        for _ in range(12):
            start = [int(rng.integers(0, n)) for n in shape]
            stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True)]
            assert right_in_window(image, whole, operator, cycles, start, stop, halo, valid)


@pytest.mark.parametrize("operator", WINDOWED, ids=repr)
@pytest.mark.parametrize("count", [1, 3])
def test_the_halo_is_what_the_worst_place_needs(operator: AdditiveSplitting, count: int) -> None:
    cycles = (Cycle(operator.stable_dt((1.0, 1.0))),) * count
    halo = total_halo([Leg(operator, cycles)], (1.0, 1.0))
    shape = tuple(2 * h + 40 for h in halo)
    image, valid = np.random.default_rng(0).random((1, *shape)), np.ones(shape, bool)
    whole = evolved(image, operator, cycles)
    for axis in (0, 1):
        short = tuple(h - (a == axis) for a, h in enumerate(halo))
        found = []
        for offset in range(operator.partition):
            start = [h + 2 + offset for h in halo]
            stop = [a + 10 for a in start]
            assert right_in_window(image, whole, operator, cycles, start, stop, halo, valid)
            found.append(right_in_window(image, whole, operator, cycles, start, stop, short, valid))
        assert not all(found)


def test_the_place_in_the_image_says_where_lines_are_cut() -> None:
    image, operator = np.random.default_rng(0).random((1, 60, 60)), AdditiveSplitting(partition=8)
    cycles = (Cycle(operator.stable_dt((1.0, 1.0))),)
    here, there = (evolved(image, operator, cycles, origin=origin) for origin in ((0, 0), (8, 16)))
    assert np.array_equal(here, there)
    elsewhere = evolved(image, operator, cycles, origin=(3, 0))
    assert 0 < np.abs(here - elsewhere).max() < 2 * TRUNCATION


def test_a_window_without_a_whole_partition_stays_as_it_was() -> None:
    operator = AdditiveSplitting(partition=64)
    image = np.random.default_rng(0).random((1, 30, 40))
    block = Block.from_image(image, (1.0, 1.0), None, ((True, True), (True, True)))
    block.origin = (70, 70)
    advance(block, [Leg(operator, (Cycle(1.0),) * 2)])
    np.testing.assert_allclose(block.u, image)


# ---- refusals


def test_steps_that_the_truncation_cannot_follow_are_refused_with_the_largest() -> None:
    # θ = 13.5 and 54 for 64 and 128 cells, on two axes.
    assert AdditiveSplitting().stable_dt((1.0, 1.0)) == pytest.approx(6.7, rel=0.02)
    assert AdditiveSplitting(partition=128).stable_dt((1.0, 1.0)) == pytest.approx(27.3, rel=0.02)
    assert AdditiveSplitting(form="exact").stable_dt((2.0, 1.0)) == pytest.approx(5e4)
    for partition in (4, 64, 512):
        theta = 2 * AdditiveSplitting(partition=partition).stable_dt((1.0, 3.0))
        q = (np.sqrt(1 + 4 * theta) - 1) / (np.sqrt(1 + 4 * theta) + 1)
        assert 2 * q**partition == pytest.approx(TRUNCATION)


def test_the_exact_form_refuses_a_part_of_the_image() -> None:
    block = Block.from_image(np.zeros((1, 9, 9)), (1.0, 1.0), None, ((True, False), (False, False)))
    with pytest.raises(ValueError, match="form='exact' needs windows as large as the image"):
        AdditiveSplitting(form="exact").run(block, Cycle(1.0), 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"partition": 1}, "partition=1 is not possible"),
        ({"partition": 8.0}, r"partition=8\.0 is not possible"),
        ({"partition": 5000}, "whole number from 2 to 4096"),
        ({"form": "whole"}, "form='whole' is not known"),
        ({"contrast": -1}, "contrast=-1 is not possible"),
        ({"conductance": "cubic"}, "conductance='cubic'"),
    ],
)
def test_wrong_parameters_are_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AdditiveSplitting(**wrong)
