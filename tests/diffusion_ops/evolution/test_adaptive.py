"""Adaptive steps: the end is met exactly, errors stay at the tolerance, and no tiling changes a step."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.blocks.window import window_of
from diffusion_ops.evolution.adaptive import Adaptive, Control, StepError
from diffusion_ops.evolution.advance import advance_adaptively, take_batch
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.schedule import SAFE
from diffusion_ops.operators.heat import Heat
from diffusion_ops.operators.perona_malik import PeronaMalik

Array = NDArray[Any]

STABLE = 0.25


def picture(*shape: int, dtype: Any = np.float64) -> Array:
    """Return steps and noise between 0 and 100."""
    u = np.random.default_rng(0).random((1, *shape)) * 20
    u[..., shape[-1] // 2 :] += 80
    return u.astype(dtype)


def heat_symbol(shape: tuple[int, ...]) -> Array:
    """Return the eigenvalues of minus the five-point Laplacian with zero flux, in the DCT-II basis."""
    return np.asarray(sum(np.ix_(*[2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in shape])))


# ---- the controller


def finish(control: Control, error: Any) -> list[Control]:
    """Return all controls of a run whose batches have an error that depends on the step."""
    history = [control]
    while not history[-1].finished:
        history.append(history[-1].after(error(history[-1].tau)))
        assert len(history) < 5000
    return history


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("time", [1e-15, 1e-3, 0.1, 1.0, 7.3, 200.0])
def test_it_ends_exactly_at_the_time(time: float, batch: int) -> None:
    history = finish(Adaptive(1.0, batch=batch).start(time, STABLE), lambda tau: 30 * tau**2)
    assert history[-1].done == Fraction(time)
    assert all(b.done > a.done for a, b in itertools.pairwise(history) if b.accepted)
    assert all(0 < c.tau <= SAFE * STABLE * (1 + 1e-12) for c in history[:-1])
    covered = sum(Fraction(a.tau) * batch for a, b in itertools.pairwise(history) if b.accepted)
    assert float(covered) == pytest.approx(time, rel=1e-12)
    # None is tiny: the last two share what is left.
    if len(history) > 4:
        assert history[-2].tau > 0.3 * history[-3].tau


def test_no_time_is_finished_at_once() -> None:
    assert Adaptive(1.0).start(0, STABLE).finished


def test_steps_settle_where_the_error_is_a_little_below_the_tolerance() -> None:
    history = finish(Adaptive(1e-3).start(5.0, 10.0), lambda tau: 5 * tau**2)
    errors = [c.error for c in history[15:-3] if c.error is not None]
    assert errors
    # Where safety e^(-0.35 + 0.2) is 1.
    assert errors == pytest.approx([0.9 ** (1 / 0.15)] * len(errors), rel=0.1)


def test_a_batch_with_too_large_an_error_is_refused_and_does_not_count() -> None:
    control = Adaptive(1.0).start(10.0, STABLE, first=0.2)
    after = control.after(4.0)
    assert not after.accepted
    assert (after.done, after.batches, after.refused) == (0, 0, 1)
    assert after.tau == pytest.approx(0.9 * 0.2 / 2)
    for error in (math.nan, math.inf, 1e300):
        assert control.after(error).tau == pytest.approx(0.2 * 0.2)
    assert control.after(0.0).tau == SAFE * STABLE


def test_it_grows_by_the_last_two_errors() -> None:
    control = replace(Adaptive(1.0, grow=100.0).start(10.0, 1e6, first=1e-3), error=0.5)
    factor = control.after(0.1).tau / control.tau
    assert factor == pytest.approx(0.9 * 0.1**-0.35 * 0.5**0.2)


# ---- errors as a statistic


def test_the_error_of_heat_is_half_the_second_derivative_in_time() -> None:
    image, tau = picture(31, 40), 1e-3
    block = Block.from_image(image, (1.0, 1.0))
    take_batch(block, Heat(), tau, 1)
    second = idctn(heat_symbol((31, 40)) ** 2 * dctn(image[0]))
    keep = (slice(None), slice(None))
    largest = StepError().value(StepError().measure(block, keep))
    assert largest == pytest.approx(tau**2 / 2 * np.abs(second).max(), rel=1e-6)
    mean = StepError("rms").value(StepError("rms").measure(block, keep))
    assert mean == pytest.approx(tau**2 / 2 * np.sqrt(np.mean(second**2)), rel=1e-6)


@pytest.mark.parametrize("norm", ["maximum", "rms"])
def test_parts_give_the_number_of_the_whole(norm: str) -> None:
    statistic, rng = StepError(norm), np.random.default_rng(0)
    valid = rng.random((30, 41)) > 0.1
    block = Block.from_image(picture(30, 41, dtype=np.float32), (1.0, 1.0), valid)
    take_batch(block, Heat(), 0.1, 2)
    assert block.carried is not None
    block.carried[:, :40] *= 3
    whole = statistic.measure(block, (slice(None), slice(None)))
    tally = Tally()
    for rows in (slice(22, 30), slice(0, 9), slice(9, 22)):
        for columns in (slice(0, 17), slice(17, 41)):
            tally = statistic.merge(statistic.measure(block, (rows, columns)), tally)
    assert statistic.value(tally) == statistic.value(Tally.from_text(whole.to_text()))


def test_walls_have_no_error_and_an_image_of_walls_no_number() -> None:
    valid = np.ones((6, 7), bool)
    valid[2] = False
    block = Block.from_image(picture(6, 7), (1.0, 1.0), valid)
    take_batch(block, Heat(), 0.1, 1)
    assert block.carried is not None
    block.carried.reshape(6, -1)[2] = 1e9
    keep = (slice(None), slice(None))
    for norm in ("maximum", "rms"):
        assert StepError(norm).value(StepError(norm).measure(block, keep)) < 1e3
        with pytest.raises(ValueError, match="no valid cell"):
            StepError(norm).value(StepError(norm).measure(block, (slice(2, 3), slice(None))))


# ---- evolutions


def test_heat_comes_closer_to_the_exact_solution_with_a_smaller_tolerance() -> None:
    image = picture(40, 50)
    exact = idctn(np.exp(-6 * heat_symbol((40, 50))) * dctn(image[0]))
    errors = []
    for tolerance in (1.0, 0.1, 0.01):
        block = Block.from_image(image, (1.0, 1.0))
        history = advance_adaptively(block, Heat(), Adaptive(tolerance), 6.0)
        assert history[-1].done == 6
        assert all(c.error is None or c.error <= 1 for c in history)
        errors.append(np.abs(block.u[0] - exact).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1


@pytest.mark.parametrize(
    "operator", [Heat(), PeronaMalik(10.0), PeronaMalik(10.0, "rational", sigma=0.7)], ids=repr
)
def test_extremes_and_sum_are_kept(operator: Operator) -> None:
    image = picture(40, 50)
    block = Block.from_image(image, (1.0, 1.0))
    advance_adaptively(block, operator, Adaptive(50.0, batch=2), 5.0)
    assert image.min() - 1e-10 <= block.u.min() <= block.u.max() <= image.max() + 1e-10
    assert block.u.sum() == pytest.approx(image.sum(), rel=1e-12)


def test_refused_batches_leave_the_state_as_it_was() -> None:
    image, operator = picture(30, 30), PeronaMalik(5.0, "rational")
    block = Block.from_image(image, (1.0, 1.0))
    history = advance_adaptively(block, operator, Adaptive(0.05), 1.0, first=0.25)
    assert history[-1].refused > 0
    again = Block.from_image(image, (1.0, 1.0))
    for before, after in itertools.pairwise(history):
        if after.accepted:
            take_batch(again, operator, before.tau, 1)
    assert np.array_equal(again.u, block.u)


@pytest.mark.parametrize("norm", ["maximum", "rms"])
@pytest.mark.parametrize("tile", [(20, 45), (13, 17)])
def test_tiles_take_the_same_steps_to_the_same_bits(tile: tuple[int, int], norm: str) -> None:
    """What a runner of tiles does, between two arrays."""
    image, operator = picture(41, 45, dtype=np.float32), PeronaMalik(10.0, "rational", sigma=0.6)
    adaptive, spacing = Adaptive(0.5, norm, batch=2), (1.0, 1.0)
    block = Block.from_image(image, spacing)
    history = advance_adaptively(block, operator, adaptive, 2.0)

    control, state = adaptive.start(2.0, operator.stable_dt(spacing)), image.copy()
    halo, controls = operator.reach(spacing).adaptive_halo(adaptive.batch), [adaptive.start(2.0, STABLE)]
    while not control.finished:
        new, tally = np.empty_like(state), Tally()
        for r in range(0, 41, tile[0]):
            for c in range(0, 45, tile[1]):
                tiled = zip((r, c), tile, (41, 45), strict=True)
                window = window_of(tuple(slice(a, min(a + t, n)) for a, t, n in tiled), (41, 45), halo)
                part = Block.from_image(state[:, *window.read], spacing, None, window.open_sides)
                take_batch(part, operator, control.tau, adaptive.batch)
                tally = adaptive.statistic.merge(tally, adaptive.statistic.measure(part, window.keep))
                new[:, *window.write] = part.u[:, *window.keep]
        control = control.after(adaptive.statistic.value(tally))
        controls.append(control)
        state = new if control.accepted else state
    assert tuple(controls) == history
    assert np.array_equal(state, block.u)


# ---- refusals


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tolerance": 0}, "tolerance=0 is not possible"),
        ({"norm": "l1"}, "norm='l1' is not known"),
        ({"batch": 0}, "batch=0 is not possible"),
        ({"safety": 1.5}, r"safety=1\.5 is not possible"),
        ({"shrink": 1.0}, r"shrink=1\.0 is not possible"),
        ({"grow": 0.5}, r"grow=0\.5 is not possible"),
    ],
)
def test_wrong_parameters_are_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Adaptive(**{"tolerance": 1.0, **wrong})


def test_unstable_first_steps_and_hopeless_tolerances_are_refused() -> None:
    with pytest.raises(ValueError, match="unstable"):
        Adaptive(1.0).start(1.0, STABLE, first=0.3)
    refused = Adaptive(1.0).start(1.0, STABLE).after(7.0)
    with pytest.raises(ValueError, match="rounding"):
        refused.after(0.0)
    with pytest.raises(ValueError, match="Allowed: a tolerance above the rounding"):
        advance_adaptively(
            Block.from_image(picture(20, 20, dtype=np.float32), (1.0, 1.0)), Heat(), Adaptive(1e-30), 1.0
        )


def test_operators_without_time_are_refused() -> None:
    class Timeless(Heat):
        controlled_by = "iterations"

    with pytest.raises(ValueError, match="does not take adaptive steps"):
        advance_adaptively(Block.from_image(picture(8, 8), (1.0, 1.0)), Timeless(), Adaptive(1.0), 1.0)
