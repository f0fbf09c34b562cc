"""Shock filters, forward-and-backward and inverse diffusion: plain forms, and that they sharpen within bounds."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import diffusion_ops as do
from diffusion_ops.blocks.block import as_image
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.kernels.gaussian import smoothed
from diffusion_ops.kernels.tensors.structure import principal_axes, structure_tensor
from tests import plain_motions as plain

pytestmark = pytest.mark.thorough

Image = NDArray[Any]
Spacing = tuple[float, ...]

GRIDS = pytest.mark.parametrize(
    ("shape", "spacing"), [((23, 37), (1.0, 1.5)), ((9, 11, 35), (2.0, 1.0, 0.7))]
)


def noise(*shape: int, seed: int = 0) -> Image:
    """Return noise between 0 and 200."""
    return np.random.default_rng(seed).random(shape) * 200


def blurred_edge(columns: int = 64, sigma: float = 4.0, rows: int = 24) -> Image:
    """Return a step from 0 to 100 in the middle, blurred along the rows."""
    step = np.where(np.arange(columns) < columns // 2, 0.0, 100.0)
    return np.asarray(gaussian_filter(step, sigma) * np.ones((rows, 1)))


def steepest(u: Image) -> float:
    """Return the largest difference of neighbours in a row."""
    return float(np.abs(np.diff(u, axis=-1)).max())


# ---- shock filters


def bend_across(u: Image, spacing: Spacing, epsilon: float = 1e-3) -> Image:
    """Return the sign of u_ηη of channels (channels, *spatial) with their common structure tensor."""
    jets = [plain.jet(c, spacing) for c in u]
    axes = range(len(spacing))
    steep = sum(plain.squared(g) for g, _ in jets) + epsilon**2
    bends = []
    for _, h in jets:
        pairs = itertools.product(axes, repeat=2)
        bends.append(sum(sum(g[k] * g[m] for g, _ in jets) / steep * h[k][m] for k, m in pairs))
    return np.sign(np.array(bends))


@GRIDS
@pytest.mark.parametrize("channels", [1, 3])
def test_osher_rudin_is_the_plain_form(shape: tuple[int, ...], spacing: Spacing, channels: int) -> None:
    u, op = noise(channels, *shape), do.Shock("osher-rudin")
    tau = op.stable_dt(spacing)
    bends = bend_across(u, spacing)
    expected = np.stack([plain.shock(c, spacing, tau, b) for c, b in zip(u, bends, strict=True)])
    found = do.evolve(u, op, steps=1, dt=tau, spacing=spacing, channel_axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@GRIDS
@pytest.mark.parametrize("kind", ["alvarez-mazorra", "weickert"])
def test_guided_shocks_are_the_plain_form(shape: tuple[int, ...], spacing: Spacing, kind: str) -> None:
    u, block = noise(2, *shape), make_block(noise(2, *shape), spacing)
    op = do.Shock(kind, sigma=0.8, rho=1.5, diffusion=0.2 if kind == "alvarez-mazorra" else 0.0)
    v = as_image(smoothed(block, 0.8), shape)
    if kind == "alvarez-mazorra":
        bends = bend_across(v, spacing)
    else:
        w = as_image(principal_axes(structure_tensor(block, 0.8, 1.5))[1], shape)[::-1]
        bends = np.sign([plain.second_along(list(w), plain.jet(c, spacing)[1]) for c in v])
    tau = op.stable_dt(spacing)
    expected = []
    for c, bend in zip(u, bends, strict=True):
        new = plain.shock(c, spacing, tau, bend)
        if op.diffusion:
            new = plain.bounded(new + tau * op.diffusion * plain.tangential(c, spacing, 1e-3), c)
        expected.append(new)
    found = do.evolve(u, op, steps=1, dt=tau, spacing=spacing, channel_axis=0)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-10)


SHOCKS = {
    "osher-rudin": do.Shock("osher-rudin"),
    "alvarez-mazorra": do.Shock("alvarez-mazorra", sigma=1.0, diffusion=0.1),
    "weickert": do.Shock("weickert", sigma=1.0, rho=2.0),
}


@pytest.mark.parametrize("kind", SHOCKS)
def test_a_blurred_edge_becomes_a_jump_and_nothing_overshoots(kind: str) -> None:
    edge, op = blurred_edge(), SHOCKS[kind]
    sharp = do.evolve(edge, op, time=20, dt=op.stable_dt((1.0, 1.0)))
    assert steepest(edge) < 11
    assert steepest(sharp) > 90
    assert edge.min() <= sharp.min()
    assert sharp.max() <= edge.max()
    # The jump is where the slope was steepest.
    assert np.all(sharp[:, :31] < 5)
    assert np.all(sharp[:, 33:] > 95)


def test_ramps_and_flat_areas_stand_still() -> None:
    ramp = np.add.outer(np.arange(20.0), 2 * np.arange(30.0))
    for op in (do.Shock("osher-rudin"), do.Shock("alvarez-mazorra", sigma=0.0)):
        inside = do.evolve(ramp, op, steps=3)[4:-4, 4:-4]
        np.testing.assert_array_equal(inside, ramp[4:-4, 4:-4])
    for op in SHOCKS.values():
        np.testing.assert_array_equal(do.evolve(np.full((20, 20), 7.0), op, steps=3), np.full((20, 20), 7.0))


def test_a_ramp_lets_faint_bends_move_little() -> None:
    edge = blurred_edge() + np.random.default_rng(0).normal(0, 0.5, (24, 64))
    sign, ramp = (do.evolve(edge, do.Shock("osher-rudin", ramp=r), steps=4) for r in (0.0, 5.0))
    flat = (slice(None), slice(0, 12))
    assert np.abs(ramp - edge)[flat].mean() < 0.5 * np.abs(sign - edge)[flat].mean()


def test_coherence_enhancing_shocks_close_gaps_along_lines() -> None:
    y, x = np.indices((64, 64))
    stripes = 50 * np.sin((x + 0.6 * y) * 0.8) + 100
    noisy = stripes + np.random.default_rng(0).normal(0, 20, stripes.shape)
    found = do.evolve(noisy, do.Shock("weickert", sigma=1.5, rho=5), time=10)
    sides = np.sign(stripes - 100) == np.sign(found - 100)
    assert np.mean(sides[6:-6, 6:-6]) > 0.93
    # Between shocks the image is flat along the stripes: more contrast than the noise had.
    assert np.std(found) > np.std(stripes)


def test_signs_are_shared_by_as_many_steps_as_asked() -> None:
    image = noise(30, 31)
    each = do.Shock("weickert", sigma=0.7, rho=1.0)
    shared = dataclasses.replace(each, refresh=3)
    assert not np.array_equal(do.evolve(image, shared, steps=3), do.evolve(image, each, steps=3))
    assert np.array_equal(do.evolve(image, shared, steps=1), do.evolve(image, each, steps=1))
    cycles = do.Explicit().cycles(0.5, None, 7, None)
    # Steps 0, 3 and 6 look at the image anew.
    setup = each.reach((1.0, 1.0)).setup[0]
    assert shared.reach((1.0, 1.0)).halo(cycles)[0] == 7 + 3 * setup
    assert each.reach((1.0, 1.0)).halo(cycles)[0] == 7 + 7 * setup
    # After step 0 a batch of two steps begins with signs that are known, and the third finds them anew.
    assert shared.reach((1.0, 1.0)).halo(cycles[:2], first=1)[0] == 2
    assert shared.reach((1.0, 1.0)).halo(cycles[:3], first=1)[0] == 3 + setup


def test_what_cannot_be_is_refused_in_words() -> None:
    for wrong, message in (
        ({"kind": "sharp"}, "kind='sharp' is not known. Allowed: osher-rudin"),
        ({"sigma": -1}, "sigma=-1 is not possible. Allowed: a number >= 0"),
        ({"kind": "osher-rudin", "diffusion": 1}, "diffusion=1 is not possible for kind='osher-rudin'"),
        ({"refresh": 0}, "refresh=0 is not possible. Allowed: a whole number >= 1"),
        ({"epsilon": 0}, "epsilon=0 is not possible. Allowed: a number > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            do.OPERATORS["shock"](**wrong)


# ---- forward-and-backward diffusion


@GRIDS
@pytest.mark.parametrize("diffusivity", ["exponential", "rational"])
def test_forward_backward_is_the_plain_form(
    shape: tuple[int, ...], spacing: Spacing, diffusivity: str
) -> None:
    u, op = noise(*shape), do.ForwardBackward(40.0, 200.0, diffusivity)

    def g(q: Image) -> Image:
        x = q / 40**2
        if diffusivity == "exponential":
            return np.asarray(2 * 2 ** (-4 / 3 * x) - 2 ** (-x / 3))
        s = np.sqrt(q)
        return np.asarray(1 / (1 + (s / 40) ** 4) - 0.2 / (1 + ((s - 80) / 20) ** 2))

    tau = op.stable_dt(spacing)
    once = plain.forward_backward(u, spacing, tau, g)
    expected = plain.forward_backward(once, spacing, tau, g)
    np.testing.assert_allclose(do.evolve(u, op, steps=2, dt=tau, spacing=spacing), expected, rtol=1e-11)


@pytest.mark.parametrize("diffusivity", ["exponential", "rational"])
def test_forward_backward_keeps_the_extremes_at_every_step(diffusivity: str) -> None:
    """Random images, steep as they can be for the contrast, at the largest step that is allowed."""
    for seed, contrast in enumerate((3.0, 10.0, 30.0, 100.0)):
        u = noise(30, 30, seed=seed)
        op = do.ForwardBackward(contrast, float(np.ptp(u)), diffusivity)
        tau = op.stable_dt((1.0, 1.0))
        for _ in range(40):
            new = do.evolve(u, op, steps=1, dt=tau)
            assert u.min() - 1e-9 <= new.min()
            assert new.max() <= u.max() + 1e-9
            u = new


def test_forward_backward_calms_noise_and_steepens_an_edge() -> None:
    edge = blurred_edge(sigma=1.5) + np.random.default_rng(0).normal(0, 1, (24, 64))
    op = do.ForwardBackward(contrast=8.0, extent=110.0)
    found = do.evolve(edge, op, time=3)
    assert steepest(found) > 1.15 * steepest(edge)
    assert np.std(found[:, 4:20]) < 0.5 * np.std(edge[:, 4:20])
    assert found.mean() == pytest.approx(edge.mean(), rel=1e-9)


def test_steps_of_forward_backward_are_as_small_as_its_extent_asks_for() -> None:
    wide, narrow = (do.ForwardBackward(10.0, extent).stable_dt((1.0, 1.0)) for extent in (400, 200))
    assert narrow == pytest.approx(4 * wide)
    assert do.ForwardBackward(1e6, 1.0).stable_dt((1.0, 1.0)) == 0.25
    with pytest.raises(ValueError, match="ratio=1 is not possible"):
        do.ForwardBackward(10.0, 200.0, ratio=1)


# ---- inverse diffusion


@GRIDS
def test_inverse_diffusion_is_the_plain_form(shape: tuple[int, ...], spacing: Spacing) -> None:
    u, op = noise(*shape), do.InverseDiffusion()
    tau = op.stable_dt(spacing)
    once = plain.inverse_diffusion(u, spacing, tau)
    expected = plain.inverse_diffusion(once, spacing, tau)
    np.testing.assert_allclose(do.evolve(u, op, steps=2, dt=tau, spacing=spacing), expected, rtol=1e-11)


def test_inverse_diffusion_undoes_heat_the_better_the_finer_the_cells() -> None:
    left = []
    for h in (0.4, 0.2, 0.1):
        x = np.arange(-15, 15 + h / 2, h)
        bump = np.broadcast_to(100 * np.exp(-(x**2) / 50), (4, len(x)))
        blurred = do.evolve(bump, do.Heat(), time=0.1, spacing=(1.0, h))
        back = do.evolve(blurred, do.InverseDiffusion(), time=0.1, spacing=(1.0, h))
        # Not at the extremum, which stands still, nor at the edge, where no heat flows.
        between = (np.abs(x) > 3) & (np.abs(x) < 11)
        left.append(np.abs(back - bump)[:, between].max() / np.abs(blurred - bump)[:, between].max())
    # Limited fluxes are of first order.
    assert left[1] < 0.6 * left[0]
    assert left[2] < 0.6 * left[1]
    assert left[2] < 0.06


def test_inverse_diffusion_sharpens_and_freezes_extremes() -> None:
    edge = blurred_edge()
    found = do.evolve(edge, do.InverseDiffusion(), time=60)
    assert steepest(found) > 60
    assert edge.min() <= found.min()
    assert found.max() <= edge.max()
    assert np.all(np.diff(found, axis=1) >= -1e-12)
    u = noise(40, 40)
    extreme = np.ones(u.shape, bool)
    for axis, step in itertools.product(range(2), (-1, 1)):
        extreme &= plain.along(u, axis, step) < u + (plain.along(u, axis, step) == u)
    np.testing.assert_array_equal(do.evolve(u, do.InverseDiffusion(), steps=1)[extreme], u[extreme])
