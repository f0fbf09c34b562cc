"""Anisotropic diffusion with tensors: laws, exact solutions, figures on real images."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.blocks.block import Block, allocate, as_image
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.tensor_field import TensorField
from diffusion_ops.kernels.corners import corner_block
from diffusion_ops.kernels.tensors.fluxes import stable_tensor_dt, take_tensor_steps
from diffusion_ops.kernels.tensors.structure import corner_structure, tensor_arrays

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

GRIDS = [
    ((1, 13, 18), (1.0, 1.0)),
    ((2, 12, 17), (0.7, 2.0)),
    ((1, 5, 7, 18), (1.0, 1.0, 1.0)),
    ((1, 6, 5, 9), (2.0, 1.0, 0.5)),
]

each_cycle = pytest.mark.parametrize(
    ("shape", "spacing", "inertial"),
    [
        # Inertial steps differ from explicit ones in the same way in planes and in volumes.
        pytest.param(*grid, inertial, marks=[pytest.mark.slow] * (inertial and len(grid[1]) == 3))
        for inertial in (False, True)
        for grid in GRIDS
    ],
)


def constant(block: Block, components: Any) -> Array:
    """Return the same tensor at every corner."""
    corners = corner_block(block).spatial
    tensor = allocate(len(components), corners, block.storage.dtype)
    for view, value in zip(as_image(tensor, corners), components, strict=True):
        view[...] = value
    return tensor


def random_tensors(block: Block, ratio: float, seed: int = 0) -> Array:
    """Return tensors with axes at random, eigenvalues 1 and down to 1 / ratio."""
    corners, ndim = corner_block(block).spatial, len(block.spatial)
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((*corners, ndim, ndim)))[0]
    values = rng.choice([1.0, 1 / ratio], (*corners, ndim))
    full = np.einsum("...ij,...j,...kj->...ik", axes, values, axes)
    tensor = allocate(tensor_arrays(ndim), corners, block.storage.dtype)
    upper = [(i, j) for i in range(ndim) for j in range(i + 1, ndim)]
    for view, (i, j) in zip(as_image(tensor, corners), [(i, i) for i in range(ndim)] + upper, strict=True):
        view[...] = full[..., i, j]
    return tensor


def stepped(
    image: Array, spacing: Any, tensor: Callable[[Block], Array], tau: float, steps: int, **more: Any
) -> Array:
    """Return an image of shape (channels, *spatial) after explicit steps."""
    block = Block.from_image(image, spacing, more.pop("valid", None))
    take_tensor_steps(
        block, [block.storage], tensor(block), tau, [1.0] * steps, more.pop("alpha", 0.4), **more
    )
    return block.u


# ---- the stencil


@each_cycle
def test_standard_differences_of_the_unit_tensor_are_the_heat_equation(
    shape: Any, spacing: Any, inertial: bool
) -> None:
    image, ndim = np.random.default_rng(0).random(shape), len(spacing)
    block, cycle = Block.from_image(image, spacing), Cycle(0.01, 6, inertial)
    states = [block.storage, block.storage.copy()][: 1 + inertial]
    take_tensor_steps(
        block, states, constant(block, [1] * ndim + [0] * (ndim * (ndim - 1) // 2)), 0.01, cycle.weights, 0.0
    )
    block.storage = states[0]
    heat = Block.from_image(image, spacing)
    do.Heat().run(heat, cycle, 1)
    np.testing.assert_allclose(block.u, heat.u, rtol=0, atol=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.4, 0.5])
@pytest.mark.parametrize("walls", [False, True])
@pytest.mark.parametrize(("shape", "spacing"), [GRIDS[0], GRIDS[1], GRIDS[2]])
def test_no_mode_grows_at_the_stable_step(shape: Any, spacing: Any, walls: bool, alpha: float) -> None:
    cells = int(np.prod(shape[1:]))
    valid = np.random.default_rng(1).random(shape[1:]) > 0.2 if walls else np.ones(shape[1:], bool)
    # Every unit vector is a channel: one step gives the whole matrix.
    unit = np.eye(cells).reshape(cells, *shape[1:])
    tau = stable_tensor_dt(alpha, spacing)
    matrix = stepped(unit, spacing, lambda b: random_tensors(b, 1e3), tau, 1, alpha=alpha, valid=valid)
    matrix = matrix.reshape(cells, cells)[np.ix_(valid.ravel(), valid.ravel())]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)
    np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-13)
    values = np.linalg.eigvalsh(matrix)
    assert values[0] >= -1 - 1e-12
    assert values[-1] <= 1 + 1e-12


def test_the_stable_step_is_the_largest_for_constant_tensors() -> None:
    """Half of h² from alpha = 1/4 on, a quarter for standard differences: at more, a mode grows."""
    for alpha, limit in ((0.0, 0.25), (0.1, 0.3125), (0.25, 0.5), (0.4, 0.5)):
        assert stable_tensor_dt(alpha, (1.0, 1.0)) == pytest.approx(limit)
    sign = np.indices((8, 8)).sum(0) % 2 * 2.0 - 1
    for alpha, image in ((0.0, sign), (0.4, np.indices((8, 8))[0] % 2 * 2.0 - 1)):
        tau = 1.05 * stable_tensor_dt(alpha, (1.0, 1.0))
        after = stepped(image[None], (1.0, 1.0), lambda b: constant(b, (1, 1, 0)), tau, 1, alpha=alpha)
        assert np.abs(after[0, 2:6, 2:6]).max() > 1.04


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_moments_of_an_impulse_grow_by_twice_time_and_tensor(alpha: float) -> None:
    image, spacing = np.zeros((1, 61, 61)), (1.0, 1.5)
    image[0, 30, 30] = 1
    a, c, b = 0.9, 0.4, 0.25
    after = stepped(image, spacing, lambda block: constant(block, (a, c, b)), 0.2, 20, alpha=alpha)[0]
    y, x = np.indices((61, 61)) - 30.0
    y, x = y * spacing[0], x * spacing[1]
    found = [(after * m).sum() for m in (x * x, y * y, x * y)]
    np.testing.assert_allclose(found, [2 * 4 * v for v in (a, c, b)], rtol=1e-10)


def test_moments_of_an_impulse_in_a_volume() -> None:
    image, spacing = np.zeros((1, 31, 31, 31)), (2.0, 1.0, 1.5)
    image[0, 15, 15, 15] = 1
    tensor = (0.8, 0.5, 0.4, 0.2, -0.1, 0.15)
    after = stepped(image, spacing, lambda block: constant(block, tensor), 0.2, 10)[0]
    z, y, x = ((i - 15.0) * h for i, h in zip(np.indices(after.shape), spacing, strict=True))
    found = [(after * m).sum() for m in (x * x, y * y, z * z, x * y, x * z, y * z)]
    np.testing.assert_allclose(found, [4 * v for v in tensor], rtol=1e-10)


def rotated(ratio: float, angle: float) -> tuple[float, float, float]:
    """Return xx, yy, xy of a tensor with eigenvalues 1 and 1 / ratio."""
    c, s = math.cos(angle), math.sin(angle)
    return c * c + s * s / ratio, s * s + c * c / ratio, c * s * (1 - 1 / ratio)


def gaussian_error(
    carried_to: Callable[[Block, tuple[float, float, float], float], Array], ratio: float
) -> tuple[float, float]:
    """Return mean and largest relative L2 error over angles, of a Gaussian of 1.5 after time 30."""
    n, errors = 81, []
    y, x = np.indices((n, n)) - n // 2.0
    for angle in np.linspace(0, math.pi / 2, 9):
        a, c, b = rotated(ratio, angle)
        exact = []
        for t in (0.0, 30.0):
            xx, yy, xy = 2.25 + 2 * t * a, 2.25 + 2 * t * c, 2 * t * b
            det = xx * yy - xy * xy
            exact.append(np.exp(-(yy * x * x - 2 * xy * x * y + xx * y * y) / (2 * det)) / math.sqrt(det))
        block = Block.from_image(exact[0][None], (1.0, 1.0))
        errors.append(
            np.linalg.norm(carried_to(block, (a, c, b), 30.0) - exact[1]) / np.linalg.norm(exact[1])
        )
    return float(np.mean(errors)), max(errors)


@pytest.mark.parametrize(
    ("ratio", "mean", "worst"), [(10, 0.017, 0.018), (100, 0.026, 0.032), (1000, 0.030, 0.038)]
)
def test_directions_are_kept_at_any_ratio(ratio: float, mean: float, worst: float) -> None:
    def run(block: Block, tensor: tuple[float, float, float], time: float) -> Array:
        take_tensor_steps(
            block, [block.storage], constant(block, tensor), 0.05, [1.0] * round(time / 0.05), 0.4
        )
        return block.u[0]

    found = gaussian_error(run, ratio)
    assert found[0] < 1.1 * mean
    assert found[1] < 1.1 * worst


def test_it_converges_with_the_square_of_the_spacing() -> None:
    tensor, errors = (0.9, 0.4, 0.3), []
    for n in (24, 48, 96):
        h = 1 / n
        y, x = (np.indices((n, n)) + 0.5) * h
        image = np.cos(math.pi * x) * np.cos(2 * math.pi * y)
        # div(D ∇u) is known; only inside, as D ∇u is not tangential to the sides.
        wanted = -(tensor[0] + 4 * tensor[1]) * math.pi**2 * image
        wanted += 2 * tensor[2] * 2 * math.pi**2 * np.sin(math.pi * x) * np.sin(2 * math.pi * y)
        tau = 1e-3 * h**2
        after = stepped(image[None], (h, h), lambda b: constant(b, tensor), tau, 1)[0]
        errors.append(np.abs((after - image) / tau - wanted)[n // 4 : -n // 4, n // 4 : -n // 4].max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


# ---- walls, held cells


def test_nodata_is_the_side_of_an_image() -> None:
    image = np.random.default_rng(0).random((1, 20, 30))
    valid = np.zeros((20, 30), bool)
    valid[4:15, 6:25] = True
    for operator in (do.EdgeEnhancing(0.3, rho=1.0), do.CoherenceEnhancing(0.3)):
        whole = do.evolve(image[0], operator, mask=valid, time=3)
        part = do.evolve(image[0, 4:15, 6:25], operator, time=3)
        np.testing.assert_allclose(whole[4:15, 6:25], part, atol=1e-13)


@each_cycle
def test_held_cells_stay_and_the_others_find_their_steady_state(
    shape: Any, spacing: Any, inertial: bool
) -> None:
    rng = np.random.default_rng(0)
    image = np.stack([np.indices(shape[1:])[-1] * 2.0 + np.indices(shape[1:])[0]] * shape[0])
    free = np.zeros(shape[1:], bool)
    free[(slice(1, -1),) * len(spacing)] = True
    start = np.where(free, rng.random(shape), image)
    block = Block.from_image(start, spacing)
    flags = allocate(1, block.spatial, np.dtype(bool))
    as_image(flags, block.spatial)[0] = free
    field, tensors = TensorField(1.0), random_tensors(block, 1.0)
    for _ in range(40):
        field.take_steps(block, Cycle(0.9 * stable_tensor_dt(0.4, spacing), 20, inertial), tensors, flags[0])
    assert np.array_equal(block.u[:, ~free], image[:, ~free])
    np.testing.assert_allclose(block.u, image, atol=1e-4)


# ---- the operators


def test_where_nothing_is_an_edge_every_axis_flows_alike() -> None:
    """One tensor, the unit, whatever makes it."""
    image = np.random.default_rng(0).random((40, 41))
    results = [
        do.evolve(image, do.EdgeEnhancing(1e9, word, enhancement=how), time=3)
        for word in ("rational", "exponential", "weickert", "threshold")
        for how in ("eed", "ceed", "isotropic")
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-12)
    all_alike = do.CoherenceEnhancing(1e9, alpha=1.0)
    np.testing.assert_allclose(do.evolve(image, all_alike, time=3), results[0], atol=1e-12)
    standard = do.EdgeEnhancing(1e9, stencil=0.0)
    heat = do.evolve(image, do.Heat(), time=3, schedule={"cycles": 30})
    np.testing.assert_allclose(do.evolve(image, standard, time=3, schedule={"cycles": 30}), heat, atol=1e-12)


@pytest.mark.parametrize(
    "operator", [do.EdgeEnhancing(30.0), do.CoherenceEnhancing(30.0)], ids=["edges", "lines"]
)
def test_turning_and_flipping_the_image_turn_and_flip_the_result(operator: Operator) -> None:
    """To rounding: sums go along the axes one after another."""
    image = np.random.default_rng(0).random((33, 41)) * 200
    result = do.evolve(image, operator, time=4)
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(image, turns)
            found = do.evolve(np.flip(turned, 0) if flip else turned, operator, time=4)
            found = np.rot90(np.flip(found, 0) if flip else found, -turns)
            np.testing.assert_allclose(found, result, rtol=1e-10)


def test_edges_stay_and_noise_along_them_goes() -> None:
    y, x = np.indices((60, 60)) - 29.5
    step = np.where(x + 0.5 * y > 0, 100.0, 0.0)
    noisy = step + np.random.default_rng(0).standard_normal(step.shape) * 10
    result = do.evolve(noisy, do.EdgeEnhancing(15.0, "weickert", sigma=1.0), time=10)
    inner = (slice(8, -8),) * 2
    assert np.abs(result - step)[inner].mean() < 0.25 * np.abs(noisy - step)[inner].mean()
    smooth = do.evolve(noisy, do.Heat(), time=10)
    assert np.abs(result - step)[inner].mean() < 0.5 * np.abs(smooth - step)[inner].mean()


def test_an_interrupted_line_is_closed() -> None:
    y, x = np.indices((64, 64)) - 31.5
    ridge = 100 * np.exp(-((x - 0.7 * y) ** 2) / 4)
    image = np.where(np.abs(y) < 2.5, 0.0, ridge)
    result = do.evolve(image, do.CoherenceEnhancing(3.0, rho=3.0), time=40)
    assert image[31, 31] == 0
    assert result[31, 31] > 25
    # Little is lost to the sides: at the crest away from the gap.
    assert result[10, 17] > 0.75 * image[10, 17]
    assert do.evolve(image, do.Heat(), time=40)[10, 17] < 0.35 * image[10, 17]


def test_concentric_rings_stay_round() -> None:
    y, x = np.indices((129, 129)) - 64.0
    r = np.hypot(x, y)
    rings = 100 + 50 * np.cos(r * 0.7)
    result = do.evolve(rings, do.CoherenceEnhancing(5.0), time=20)
    profile = [result[64, 64 + 27], result[64 + 27, 64]]
    k = 27 / math.sqrt(2)
    near = result[64 + round(k), 64 + round(k)] - (100 + 50 * math.cos(0.7 * math.hypot(round(k), round(k))))
    assert abs(profile[0] - profile[1]) < 1e-9
    # On the diagonal as on the axes the rings keep their heights.
    assert abs(near - (profile[0] - rings[64, 91])) < 2.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"contrast": 0}, "contrast=0 .* > 0"),
        ({"contrast": 1, "sigma": -1}, "sigma=-1"),
        ({"contrast": 1, "conductance": "x"}, "conductance='x'"),
        ({"contrast": 1, "enhancement": "ced"}, "enhancement='ced'"),
        ({"contrast": 1, "alpha": 2}, "alpha=2 .* 0 to 1"),
        ({"contrast": 1, "stencil": 0.6}, "stencil=0.6"),
        ({"contrast": 1, "discretisation": "x"}, "www, lattice"),
        ({"contrast": 1, "condition": 0.5}, "condition=0.5"),
        ({"contrast": 1, "exponent": 0}, "exponent=0"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        do.EdgeEnhancing(**arguments)


def test_words_of_other_systems_are_understood() -> None:
    found = do.EdgeEnhancing(kappa=5.0, NoiseScale=0.7, FeatureScale=1.0, Enhancement="cEED", Exponent=2)
    assert found == do.EdgeEnhancing(5.0, sigma=0.7, rho=1.0, enhancement="ceed")
    lines = do.CoherenceEnhancing(derivativeSigma=1.0, regularizationSigma=3.0, Enhancement="cCED")
    assert lines == do.CoherenceEnhancing(sigma=1.0, rho=3.0, enhancement="cced")


def test_colours_share_one_tensor() -> None:
    """An edge in one channel holds in all: D is made of the sum of their structures."""
    image = np.random.default_rng(0).random((3, 20, 21)) * 100
    block = Block.from_image(image, (1.0, 1.0))
    parts = [corner_structure(Block.from_image(image[c : c + 1], (1.0, 1.0)), 0.5, 1.0) for c in range(3)]
    np.testing.assert_allclose(corner_structure(block, 0.5, 1.0), sum(parts), rtol=1e-12)


# ---- figures on real images


ROWS = [
    (15, 30.95, do.EdgeEnhancing(9.2, sigma=0.41), 2.57),
    (25, 28.39, do.EdgeEnhancing(9.7, sigma=0.42), 6.4),
    (50, 25.42, do.EdgeEnhancing(7.2, sigma=0.46), 22.3),
    (25, 28.19, do.EdgeEnhancing(19.7, "weickert", sigma=0.67), 1.16),
]


def denoised_psnr(shared_data: Callable[..., Path], noise: float, operator: Operator, time: float) -> float:
    """Return the mean PSNR over Set12, six cycles."""
    found = []
    for number in range(1, 13):
        clean = iio.imread(shared_data("denoise", "Set12", f"{number:02d}.png")).astype(np.float32)
        noisy = clean + noise * np.random.default_rng(number).standard_normal(clean.shape).astype(np.float32)
        result = do.evolve(noisy, operator, time=time, schedule={"cycles": 6})
        found.append(10 * math.log10(255**2 / np.mean((result - clean) ** 2, dtype=np.float64)))
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "wanted", "operator", "time"), ROWS, ids=lambda v: str(v)[:20])
def test_photographs_are_denoised_as_well_as_published_codes_do(
    shared_data: Callable[..., Path], noise: float, wanted: float, operator: Operator, time: float
) -> None:
    assert denoised_psnr(shared_data, noise, operator, time) > wanted - 0.1
