"""Reaction and diffusion of two fields: growth rates, rest, bounds, patterns, and the same bits for any cut."""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
import numpy as np
import pytest

import diffusion_ops as do
from diffusion_ops.blocks.block import Block, allocate, as_image
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import make_legs
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.alignment import align, at_corners
from diffusion_ops.kernels.reaction import (
    fitzhugh_nagumo_row,
    gray_scott_row,
    schnakenberg_row,
    take_reaction_steps,
)
from diffusion_ops.operators.gray_scott import PATTERNS

pytestmark = pytest.mark.thorough

SMALL = (do.GrayScott(white=200.0), do.FitzHughNagumo(white=200.0), do.Schnakenberg(white=100.0))
each = pytest.mark.parametrize("operator", SMALL, ids=lambda op: op.name)


def picture(*shape: int, dtype: Any = np.float32) -> Any:
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


def laplacian(u: Any, spacing: tuple[float, ...]) -> Any:
    total = np.zeros_like(u)
    for axis, h in enumerate(spacing):
        wide = np.pad(u, [(int(a == axis),) * 2 for a in range(u.ndim)], mode="edge")
        total += np.diff(wide, 2, axis) / h**2
    return total


def both_fields(block: Block) -> Any:
    assert block.carried is not None
    return np.stack([block.u[0], as_image(block.carried, block.spatial)[0]])


# ---- the equations


REACTIONS = {
    "gray-scott": (
        gray_scott_row,
        (1.0, 0.04, 0.1),
        lambda v, u: (u * v * v - 0.1 * v, 0.04 * (1 - u) - u * v * v),
    ),
    "fitzhugh-nagumo": (
        fitzhugh_nagumo_row,
        (1.0, 2.0, 1.6, 0.2),
        lambda u, w: (u - u**3 - w, 2 * u - 1.6 * w - 0.2),
    ),
    "schnakenberg": (
        schnakenberg_row,
        (2.0, 0.2, 1.8),
        lambda u, v: (0.2 - 2 * u + 2 * u * u * v, 1.8 - 2 * u * u * v),
    ),
}


@pytest.mark.parametrize("name", REACTIONS)
@pytest.mark.parametrize("spacing", [(1.0, 2.0), (2.0, 1.0, 1.5)], ids=str)
def test_a_step_is_the_explicit_one_of_its_equations(name: str, spacing: tuple[float, ...]) -> None:
    row, numbers, reaction = REACTIONS[name]
    shape = (9, 10, 21)[-len(spacing) :]
    u, v = np.random.default_rng(1).random((2, *shape))
    block = make_block(u[None], spacing)
    block.carried = make_block(v[None], spacing).storage
    tau = 0.03
    take_reaction_steps(block, row, 3, tau, (0.7, 1.9), [tau * k for k in numbers])
    for _ in range(3):
        f, g = reaction(u, v)
        u, v = u + tau * (0.7 * laplacian(u, spacing) + f), v + tau * (1.9 * laplacian(v, spacing) + g)
    np.testing.assert_allclose(both_fields(block), [u, v], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("mode", "rate"), [(2, -0.088957), (3, 0.055545), (4, -0.065221), (6, -0.679565)], ids=str
)
def test_waves_of_schnakenberg_grow_at_the_rate_of_the_scheme(mode: int, rate: float) -> None:
    a, b, d, h, dt, n = 0.1, 0.9, 10.0, 0.5, 0.004, 64
    operator = do.Schnakenberg(a=a, b=b, other_diffusion=d)
    u, v = a + b, b / (a + b) ** 2
    jacobian = np.array([[-1 + 2 * u * v, u * u], [-2 * u * v, -u * u]])
    values, vectors = np.linalg.eig(
        jacobian - np.diag([1, d]) * (2 - 2 * math.cos(2 * math.pi * mode / n)) / h**2
    )
    lam, vector = values[values.real.argmax()].real, vectors[:, values.real.argmax()].real
    known = math.log(1 + dt * lam) / dt
    assert known == pytest.approx(rate, abs=1e-6)
    wave = np.cos(2 * math.pi * mode * (np.arange(n) + 0.5) / n)
    block = make_block(np.full((1, 3, n), u), (h, h))
    operator.start(block)
    assert block.carried is not None
    steps, eps = 200, 1e-6
    block.u[0] += eps * vector[0] * wave
    as_image(block.carried, block.spatial)[0] += eps * vector[1] * wave
    operator.run(block, Cycle(dt), steps)
    grown = (both_fields(block)[:, 1] - [[u], [v]]) @ wave / (wave @ wave)
    # The quadratic part of the reaction puts no first-order wave into the same mode.
    found = np.log(grown / (eps * vector)) / (steps * dt)
    np.testing.assert_allclose(found, known, atol=1e-8)


@each
def test_a_wall_is_where_the_image_ends(operator: Any) -> None:
    image = picture(20, 30, dtype=np.float64)
    cut = image.copy()
    cut[:, 17] = np.nan
    result = do.evolve(cut, operator, steps=20)
    np.testing.assert_allclose(result[:, :17], do.evolve(image[:, :17], operator, steps=20), rtol=1e-12)


# ---- rest and bounds


@pytest.mark.parametrize(
    ("operator", "rest"),
    [(do.GrayScott(), 0.0), (do.FitzHughNagumo(white=2.0), 1.0), (do.Schnakenberg(), 1.0)],
    ids=lambda x: getattr(x, "name", None),
)
def test_what_is_at_rest_stays_at_rest(operator: Any, rest: float) -> None:
    image = np.full((30, 31), rest)
    np.testing.assert_allclose(do.evolve(image, operator, steps=300), image, atol=1e-12)


def largest_steps(operator: Any, steps: int) -> Any:
    """Yield both fields every 50 of the largest stable steps."""
    block = make_block(picture(1, 40, 41), (1.0, 1.0))
    operator.start(block)
    for _ in range(steps // 50):
        operator.run(block, Cycle(operator.stable_dt((1.0, 1.0))), 50)
        yield both_fields(block)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_concentrations_of_gray_scott_stay_between_none_and_all(pattern: str) -> None:
    for v, u in largest_steps(do.GrayScott(pattern=pattern, white=200.0), 1000):
        assert v.min() >= -1e-6
        assert v.max() <= 1
        assert u.min() >= -1e-6
        assert u.max() <= 1 + 1e-6


@pytest.mark.parametrize("threshold", [0.0, 0.4, -2.0])
def test_fields_of_fitzhugh_nagumo_stay_in_their_rectangle(threshold: float) -> None:
    operator = do.FitzHughNagumo(white=200.0, threshold=threshold, decay=0.5)
    bound = math.sqrt((operator.rates[0] + 1) / 3)
    for u, w in largest_steps(operator, 500):
        assert abs(u).max() <= bound * (1 + 1e-6)
        assert abs(w).max() <= (bound + abs(threshold)) / 0.5 * (1 + 1e-6)


def test_concentrations_of_schnakenberg_stay_positive_and_below_the_peak() -> None:
    operator = do.Schnakenberg(white=50.0)
    for u, v in largest_steps(operator, 2000):
        assert u.min() >= 0
        assert v.min() >= 0
        assert u.max() <= operator.limits[1]


@each
def test_no_extreme_or_mean_is_promised(operator: Any) -> None:
    assert not operator.keeps_maximum
    assert not operator.keeps_mean
    assert not operator.inertial_cycles


@each
def test_unstable_steps_are_refused(operator: Any) -> None:
    limit = operator.stable_dt((0.5, 1.0))
    make_legs(operator, (0.5, 1.0), steps=1, dt=limit)
    with pytest.raises(ValueError, match="unstable"):
        make_legs(operator, (0.5, 1.0), steps=1, dt=1.01 * limit)


# ---- patterns


def period_of(image: Any) -> float:
    """Return one over the mean frequency."""
    power = np.abs(np.fft.rfft2(image - image.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    return float(power.sum() / (power * frequency).sum())


def test_spots_form_and_stay() -> None:
    operator = do.GrayScott(perturbation=0.5)
    image = np.zeros((128, 128), np.float32)
    spreads = [do.evolve(image, operator, time=t).std() for t in (500, 3000, 6000)]
    assert spreads[0] < spreads[1] < spreads[2]
    assert spreads[2] > 0.08


@pytest.mark.parametrize(
    ("operator", "rest", "time", "period"),
    [
        (do.FitzHughNagumo(perturbation=0.01), 0.5, 150.0, 10.0),
        (do.Schnakenberg(perturbation=0.01), 1.0, 300.0, 11.0),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_waves_of_the_period_that_grows_fastest_appear(
    operator: Any, rest: float, time: float, period: float
) -> None:
    result = do.evolve(np.full((128, 128), rest, np.float32), operator, time=time)
    assert result.std() > 0.15
    assert period_of(result) == pytest.approx(period, rel=0.25)


def test_seeds_make_other_patterns() -> None:
    image = np.zeros((32, 32))
    first, again, other = (
        do.evolve(image, do.GrayScott(perturbation=0.5, seed=seed), steps=1) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_grains_are_squares_of_the_image_and_not_of_the_tile() -> None:
    block = make_block(np.zeros((1, 24, 24)), (1.0, 1.0))
    block.origin = (4, 2)
    do.GrayScott(perturbation=0.5, grain=8).start(block)
    v = block.u[0]
    assert np.array_equal(v[4:12, 6:14], np.broadcast_to(v[4, 6], (8, 8)))
    assert v[3, 6] != v[4, 6] or v[4, 5] != v[4, 6]


# ---- the image at both ends


@each
def test_white_is_white_again_in_the_result(operator: Any) -> None:
    image = np.clip(picture(12, 13, dtype=np.float64), 0, None)
    block = make_block(image[None], (1.0, 1.0))
    operator.start(block)
    operator.finish(block)
    np.testing.assert_allclose(block.u[0], image, rtol=1e-12, atol=1e-12)


def test_white_may_be_the_maximum_of_the_image() -> None:
    image = picture(20, 21, dtype=np.float64)
    found = do.evolve(image, do.GrayScott(white="auto"), steps=5)
    assert np.array_equal(found, do.evolve(image, do.GrayScott(white=float(image.max())), steps=5))


@each
@pytest.mark.parametrize("shape", [(50, 61), pytest.param((12, 19, 23), marks=pytest.mark.slow)], ids=len)
def test_chunks_and_batches_change_no_bit(operator: Any, shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    image[3, 4] = np.nan
    for perturbed in (operator, type(operator)(white=operator.white, perturbation=0.3, grain=4)):
        whole = do.evolve(image, perturbed, steps=9)
        assert np.array_equal(do.evolve(image, perturbed, steps=9, batch=2), whole, equal_nan=True)
        lazy = da.from_array(image, chunks=tuple(n // 2 + 1 for n in shape))
        found = do.evolve(lazy, perturbed, steps=9, batch=4).compute()
        assert np.array_equal(found, whole, equal_nan=True)


def test_a_window_needs_a_halo_of_one_cell_per_step() -> None:
    operator, steps = do.GrayScott(white=200.0), 5
    image = picture(40, 40, dtype=np.float64)
    legs = make_legs(operator, (1.0, 1.0), steps=steps)
    whole = advance(make_block(image[None], (1.0, 1.0)), legs).u[0]
    for halo in (steps, steps - 1):
        window = slice(15 - halo, 25 + halo)
        block = make_block(image[None, window, window], (1.0, 1.0), open_sides=((True, True),) * 2)
        inside = advance(block, legs).u[0, halo:-halo, halo:-halo]
        assert np.array_equal(inside, whole[15:25, 15:25]) is (halo == steps)


# ---- along the structures of an image


def stripes(n: int, angle: float, dtype: Any = np.float64) -> Any:
    """Return waves whose crests are at right angles to a direction."""
    y, x = np.mgrid[:n, :n]
    return np.sin((x * math.cos(angle) + y * math.sin(angle)) / 3).astype(dtype)


@pytest.mark.parametrize(
    "angle", [0.0, 0.6, *(pytest.param(angle, marks=pytest.mark.slow) for angle in (math.pi / 2, 2.2))]
)
def test_patterns_follow_the_structures_of_a_guide(angle: float) -> None:
    operator = do.FitzHughNagumo(diffusion=2.0, other_diffusion=20.0, perturbation=0.05, anisotropy=0.8)
    image = np.full((96, 96), 0.5)
    result = do.evolve(image, operator, time=100, guide=stripes(96, angle))
    assert result.std() > 0.15
    gy, gx = np.gradient(result[10:-10, 10:-10])
    found = 0.5 * math.atan2(2 * (gx * gy).sum(), (gx * gx - gy * gy).sum())
    assert math.cos(2 * (found - angle)) > 0.95


def test_a_tensor_points_across_the_structures() -> None:
    block = make_block(stripes(40, 0.6)[None], (1.0, 1.0))
    tensor = allocate(3, block.spatial, block.storage.dtype)
    align(tensor, block, 0.7, 0.5, 2.0)
    xx, yy, xy = as_image(tensor, block.spatial)[:, 10:30, 10:30]
    e = np.array([math.cos(0.6), math.sin(0.6)])
    known = np.eye(2) - 0.7 * np.outer(e, e)
    np.testing.assert_allclose(
        [xx.mean(), yy.mean(), xy.mean()], [known[0, 0], known[1, 1], known[0, 1]], atol=0.01
    )


@pytest.mark.parametrize("shape", [(9, 10), (5, 6, 7)], ids=len)
def test_corners_get_the_mean_of_the_valid_cells_around_them(shape: tuple[int, ...]) -> None:
    ndim = len(shape)
    image = np.random.default_rng(0).random(shape)
    image[2, 3] = np.nan
    block = make_block(image[None], (1.0,) * ndim)
    tensor = allocate(ndim * (ndim + 1) // 2, block.spatial, block.storage.dtype)
    cells = as_image(tensor, block.spatial)
    cells[...] = np.random.default_rng(1).random(cells.shape)
    corners = as_image(at_corners(block, tensor), tuple(n + 1 for n in shape))
    known = np.where(np.isnan(image), np.nan, cells)
    for corner in ((0,) * ndim, (1,) * ndim, (3,) + (4,) * (ndim - 1), shape):
        around = tuple(slice(max(i - 1, 0), i + 1) for i in corner)
        np.testing.assert_allclose(
            corners[:, *corner], np.nanmean(known[:, *around], axis=tuple(range(1, ndim + 1)))
        )


def test_a_flat_guide_makes_no_direction() -> None:
    """Only smooth images and short steps are alike: the stencil and the order of a step are others."""
    y, x = np.mgrid[:40, :41]
    image, far = 100 + 50 * np.cos(x / 6) * np.cos(y / 5), {"time": 4, "dt": 0.02}
    flat = do.evolve(image, do.GrayScott(white=200.0, anisotropy=0.9), guide=np.zeros(image.shape), **far)
    plain = do.evolve(image, do.GrayScott(white=200.0), **far)
    np.testing.assert_allclose(flat, plain, atol=0.003 * abs(plain - image).max())


def test_without_a_guide_it_is_the_image_at_the_start_that_leads() -> None:
    image = picture(40, 40)
    operator = do.GrayScott(white=200.0, anisotropy=0.9, sigma=0.5, rho=1.0)
    alone = do.evolve(image, operator, steps=9, batch=4)
    assert np.array_equal(do.evolve(image, operator, steps=9, guide=image), alone)


@pytest.mark.parametrize("shape", [(60, 61), pytest.param((24, 23, 26), marks=pytest.mark.slow)], ids=len)
def test_chunks_change_no_bit_of_aligned_patterns(shape: tuple[int, ...]) -> None:
    image, guide = picture(*shape), np.array(picture(*shape[::-1]).T)
    image[3, 4] = np.nan
    operator = do.Schnakenberg(white=100.0, anisotropy=0.9, sigma=0.5, rho=0.7, perturbation=0.1)
    whole = do.evolve(image, operator, steps=5, guide=guide)
    chunks = tuple(n // 2 + 1 for n in shape)
    lazy, lazy_guide = da.from_array(image, chunks=chunks), da.from_array(guide, chunks=chunks)
    found = do.evolve(lazy, operator, steps=5, batch=2, guide=lazy_guide).compute()
    assert np.array_equal(found, whole, equal_nan=True)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: do.GrayScott(pattern="stars"), "pattern='stars' is not known"),
        (lambda: do.GrayScott(feed=-1.0), "feed=-1.0 is not possible"),
        (lambda: do.GrayScott(diffusion=-1.0), "diffusion=-1.0 is not possible"),
        (lambda: do.GrayScott(white=0.0), "white=0.0 is not possible"),
        (
            lambda: do.GrayScott(anisotropy=1.5),
            "anisotropy=1.5 is not possible. Allowed: a number from 0 to 1",
        ),
        (lambda: do.GrayScott(grain=3), "grain=3 is not known"),
        (lambda: do.GrayScott(seed=-1), "seed=-1 is not possible"),
        (lambda: do.GrayScott(kill="auto"), "kill='auto' is not possible"),
        (lambda: do.FitzHughNagumo(decay=0.0), "decay=0.0 is not possible"),
        (lambda: do.FitzHughNagumo(threshold=math.inf), "threshold=inf is not possible"),
        (lambda: do.Schnakenberg(b=0.0), "b=0.0 is not possible"),
    ],
)
def test_what_is_out_of_range_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
