"""Finite elements: their integrals, their spectra, exact solutions, walls, and the same bits in any window."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg, total_halo
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.schedule import Cycle, Cycles, Explicit
from diffusion_ops.families.elements import boxes, edge_matrices, element_mass, mass_steps, stable_step
from diffusion_ops.kernels.finite_elements.element_edges import STIFFNESS
from diffusion_ops.operators.finite_element_heat import FiniteElementHeat
from diffusion_ops.operators.finite_element_perona_malik import FiniteElementPeronaMalik
from diffusion_ops.operators.perona_malik import PeronaMalik

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

GRIDS: list[tuple[tuple[int, ...], tuple[float, ...]]] = [
    ((23, 37), (1.0, 1.0)),
    ((23, 16), (0.7, 1.6)),
    ((9, 12, 21), (2.0, 1.0, 0.8)),
]
both_masses = pytest.mark.parametrize("mass", ["lumped", "consistent"])


def evolved(
    image: Array, operator: Operator, cycles: tuple[Cycle, ...], spacing: Any = None, valid: Any = None
) -> Array:
    """Return an image of shape (channels, *spatial) after some cycles."""
    spacing = spacing or (1.0,) * (image.ndim - 1)
    return advance(Block.from_image(image, spacing, valid), [Leg(operator, cycles)]).u


def rate(image: Array, operator: Operator, spacing: Any) -> Array:
    """Return ∂u/∂t of an image without channels, from one tiny step."""
    tau = 1e-3 * operator.stable_dt(spacing)
    return (evolved(image[None], operator, (Cycle(tau),), spacing)[0] - image) / tau


# ---- integrals and spectra


def exact_matrices(ndim: int) -> tuple[list[Array], Array]:
    """Return the stiffness per axis and the mass of one unit element as products of integrals of linear functions."""
    stiff, mass = np.array([[1.0, -1], [-1, 1]]), np.array([[2.0, 1], [1, 2]]) / 6

    def product(factors: list[Array]) -> Array:
        result = np.ones((1, 1))
        for factor in factors:
            result = np.kron(result, factor)
        return result

    along = [product([stiff if k == axis else mass for k in range(ndim)]) for axis in range(ndim)]
    return along, product([mass] * ndim)


@pytest.mark.parametrize("ndim", [2, 3])
def test_fluxes_along_edges_are_the_exact_integrals(ndim: int) -> None:
    valid = np.ones((2,) * ndim, bool)
    along, mass = exact_matrices(ndim)
    np.testing.assert_allclose(edge_matrices(ndim, STIFFNESS[ndim], valid), along, atol=1e-15)
    np.testing.assert_allclose(element_mass(ndim, valid), mass, atol=1e-15)


@pytest.mark.parametrize("ndim", [2, 3])
def test_elements_cut_by_walls_are_symmetric_positive_and_without_sources(ndim: int) -> None:
    for nodes in itertools.product((False, True), repeat=2**ndim):
        valid = np.array(nodes).reshape((2,) * ndim)
        stiffness, mass = edge_matrices(ndim, STIFFNESS[ndim], valid).sum(0), element_mass(ndim, valid)
        for matrix in (stiffness, mass):
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-15)
        np.testing.assert_allclose(stiffness.sum(0), 0, atol=1e-15)
        np.testing.assert_allclose(mass.sum(0), 2.0**-ndim, atol=1e-15)
        assert np.linalg.eigvalsh(stiffness).min() > -1e-14
        assert np.linalg.eigvalsh(mass).min() > 6.0**-ndim * (1 - 1e-12)
        # Nothing leaves or enters a node beyond a wall.
        assert not stiffness[~valid.ravel()].any()
        assert np.array_equal(mass[~valid.ravel()], np.eye(2**ndim)[~valid.ravel()] / 2**ndim)


def test_boxes_are_found() -> None:
    valid = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]], bool)
    assert np.array_equal(boxes(valid), [[True, False, True], [True, False, True]])


def test_stable_steps() -> None:
    assert stable_step("lumped", (1.0, 1.0)) == pytest.approx(1 / 3)
    assert stable_step("lumped", (1.0, 1.0, 1.0)) == pytest.approx(1 / 4)
    for spacing in ((1.0, 1.0), (0.5, 3.0), (2.0, 1.0, 1.0)):
        whole = 1 / (6 * sum(h**-2 for h in spacing))
        assert stable_step("consistent", spacing) == pytest.approx(whole, rel=2e-7)
        assert stable_step("consistent", tuple(2 * h for h in spacing)) == pytest.approx(4 * whole, rel=2e-7)


@both_masses
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((24, 24), (1.0, 0.6)), pytest.param((8, 9, 10), (1.0, 1.0, 0.6), marks=pytest.mark.slow)],
)
def test_steps_at_the_stable_limit_never_grow(mass: str, shape: tuple[int, ...], spacing: Any) -> None:
    rng = np.random.default_rng(0)
    for part in (0.0, 0.2, 0.5):
        operator, valid = FiniteElementHeat(mass), rng.random(shape) >= part
        image = rng.normal(size=(1, *shape)) * valid
        cycles = (Cycle(operator.stable_dt(spacing)),) * 30
        after = evolved(image, operator, cycles, spacing, valid)
        # The consistent scheme falls in the norm of its mass, which is within a factor of 27 of this one.
        room = 1 if mass == "lumped" else 27
        assert np.square(after[:, valid]).sum() <= room * np.square(image[:, valid]).sum() * (1 + 1e-5)


# ---- exact solutions


def symbol(shape: tuple[int, ...], spacing: tuple[float, ...], mass: str) -> Array:
    """Return the eigenvalues of the elements' Laplacian in the DCT-II basis."""
    grids = np.ix_(*[2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in shape])
    masses = [1 - a / 6 for a in grids]
    total: Any = 0.0
    for k, h in enumerate(spacing):
        along: Any = grids[k] / h**2
        for m in masses[:k] + masses[k + 1 :]:
            along = along * m
        total = total + along
    for m in masses if mass == "consistent" else []:
        total = total / m
    return np.asarray(total)


@both_masses
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_explicit_heat_is_the_exact_power_of_its_symbol(mass: str, shape: Any, spacing: Any) -> None:
    image, operator = np.random.default_rng(0).random(shape), FiniteElementHeat(mass)
    tau = 0.8 * operator.stable_dt(spacing)
    exact = idctn((1 - tau * symbol(shape, spacing, mass)) ** 6 * dctn(image))
    found = evolved(image[None], operator, (Cycle(tau),) * 6, spacing)[0]
    assert np.abs(found - exact).max() < (1e-14 if mass == "lumped" else 1e-7)


@both_masses
def test_cycle_of_heat_is_the_exact_polynomial_of_its_symbol(mass: str) -> None:
    shape, spacing = (23, 37), (1.0, 1.3)
    image, operator = np.random.default_rng(0).random(shape), FiniteElementHeat(mass)
    (cycle,) = Cycles(1).cycles(operator.stable_dt(spacing), 3.0, None, None)
    polynomial = before = np.ones(shape)
    for a in cycle.weights:
        step = a * (1 - cycle.tau * symbol(shape, spacing, mass)) * polynomial + (1 - a) * before
        polynomial, before = step, polynomial
    exact = idctn(polynomial * dctn(image))
    assert np.abs(evolved(image[None], operator, (cycle,), spacing)[0] - exact).max() < (
        1e-13 if mass == "lumped" else 1e-6
    )


@both_masses
def test_convergence_is_of_second_order_and_its_sign_is_known(mass: str) -> None:
    """Waves decay at k² (1 ± (k h)²/12 ...): too slowly with the lumped mass, too fast with the consistent one."""
    relative = []
    for n in (16, 32, 64):
        h = 1 / n
        x = (np.arange(n) + 0.5) * h
        k = np.pi * np.array([2, 2])
        wave = np.cos(k[0] * x)[:, None] * np.cos(k[1] * x)
        found = rate(wave, FiniteElementHeat(mass), (h, h))
        exact = -(k @ k) * wave
        relative.append(((found * wave).sum() / (exact * wave).sum() - 1) / ((k @ k) * h**2))
        assert np.abs(found - exact).max() < 0.2 * (k @ k) * h**2 * np.abs(exact).max()
    # Along a diagonal.
    assert relative[-1] == pytest.approx(-1 / 8 if mass == "lumped" else 1 / 24, rel=0.02)


@both_masses
def test_variance_of_an_impulse_grows_by_twice_the_time(mass: str) -> None:
    image, operator = np.zeros((1, 95, 95)), FiniteElementHeat(mass)
    image[0, 47, 47] = 1
    result = evolved(image, operator, Explicit().cycles(operator.stable_dt((1.0, 1.0)), 4.0, None, None))[0]
    assert result.sum() == pytest.approx(1, rel=1e-12)
    x = np.arange(95) - 47.0
    for axis in (0, 1):
        assert (result.sum(1 - axis) * x**2).sum() == pytest.approx(8, rel=1e-6)
    gauss = np.exp(-(x[:, None] ** 2 + x**2) / 16) / (16 * np.pi)
    assert np.abs(result - gauss).max() < 0.05 * gauss.max()


# ---- nonlinear


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (1.0, 0.7, 2.0)])
@pytest.mark.parametrize("walls", [False, True])
def test_patch_test_slopes_do_not_move(spacing: tuple[float, ...], walls: bool) -> None:
    shape = (12, 13) if len(spacing) == 2 else (7, 8, 9)
    coordinates = np.meshgrid(*[h * np.arange(n) for n, h in zip(shape, spacing, strict=True)], indexing="ij")
    slope = sum(a * x for a, x in zip((3.0, -2.0, 0.7), coordinates, strict=False))
    valid = np.ones(shape, bool)
    if walls:
        valid[0] = False
    for operator in (
        FiniteElementHeat(),
        FiniteElementPeronaMalik(2.0, "rational"),
        FiniteElementPeronaMalik(2.0),
    ):
        cycle = Cycle(operator.stable_dt(spacing))
        after = evolved(np.asarray(slope)[None], operator, (cycle,), spacing, valid)[0]
        inner = (slice(2, -2),) * len(spacing)
        np.testing.assert_allclose(after[inner], slope[inner], atol=1e-12)


@pytest.mark.parametrize("mass", ["lumped", "consistent"])
def test_perona_malik_meets_the_finite_volumes_as_the_grid_gets_finer(mass: str) -> None:
    differences = []
    for n in (16, 32, 64):
        h = 1 / n
        x = (np.arange(n) + 0.5) * h
        image = np.cos(2 * np.pi * x)[:, None] * np.cos(np.pi * x) + 0.5 * np.cos(3 * np.pi * x)
        elements = rate(image, FiniteElementPeronaMalik(3.0, "rational", mass=mass), (h, h))
        volumes = rate(image, PeronaMalik(3.0, "rational", sigma=1e-12), (h, h))
        # Near the edges the central differences of the finite volumes are of first order only.
        inner = (slice(n // 8, -n // 8),) * 2
        differences.append(np.sqrt(np.mean((elements - volumes)[inner] ** 2)))
    assert differences[0] / differences[1] > 3
    assert differences[1] / differences[2] > 3


def elementwise(u: Array, contrast: float, spacing: tuple[float, float]) -> Array:
    """Return the rate of change of a two-dimensional image, element by element, with Gauss points."""
    padded, total = np.pad(u, 1, mode="edge"), np.zeros(np.array(u.shape) + 2)
    points = [0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3)]
    for i, j in np.ndindex(padded.shape[0] - 1, padded.shape[1] - 1):
        e = padded[i : i + 2, j : j + 2]
        dx, dy = (e[:, 1] - e[:, 0]) / spacing[1], (e[1] - e[0]) / spacing[0]
        s = np.mean([(dx @ [1 - t, t]) ** 2 + (dy @ [1 - r, r]) ** 2 for t in points for r in points])
        g = 1 / (1 + s / contrast**2)
        for t, r in itertools.product(points, points):
            gx, gy = dx @ [1 - t, t], dy @ [1 - r, r]
            part = g / 4
            total[i : i + 2, j : j + 2] += part * (
                np.outer([1 - t, t], [1, -1]) * gx / spacing[1]
                + np.outer([1, -1], [1 - r, r]) * gy / spacing[0]
            )
    return total


def test_perona_malik_is_the_sum_of_its_elements() -> None:
    spacing, image = (1.0, 1.5), np.random.default_rng(0).random((14, 17)) * 20
    found = rate(image, FiniteElementPeronaMalik(5.0, "rational"), spacing)
    expected = elementwise(image, 5.0, spacing)[1:-1, 1:-1]
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-7, atol=1e-8)


# ---- walls, windows

OPERATORS = [
    FiniteElementHeat(),
    FiniteElementHeat("consistent"),
    FiniteElementPeronaMalik(1e3),
    FiniteElementPeronaMalik(60.0, "rational", sigma=0.75),
    FiniteElementPeronaMalik(60.0, "charbonnier", mass="consistent"),
]
USUAL = (OPERATORS[0], OPERATORS[-1])
"""Both masses, without and with a conductance; the others are compiled for further conductances."""


def ways(operator: Operator, spacing: Any) -> list[tuple[Cycle, ...]]:
    """Return two explicit steps, and two cycles."""
    stable = operator.stable_dt(spacing)
    return [(Cycle(stable),) * 2, Cycles(2).cycles(stable, 4 * stable, None, None)]


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        *(
            pytest.param(operator, (40, 33), marks=[pytest.mark.slow] * (operator not in USUAL))
            for operator in OPERATORS
        ),
        # One equation does for volumes.
        *(
            pytest.param(operator, (9, 11, 18), marks=[pytest.mark.slow] * (operator != OPERATORS[0]))
            for operator in OPERATORS
        ),
    ],
    ids=repr,
)
def test_walls_are_like_edges_and_keep_the_sum(operator: Operator, shape: tuple[int, ...]) -> None:
    spacing, rng = (1.0, 1.3, 0.8)[: len(shape)], np.random.default_rng(0)
    image = rng.random((2, *shape)) * 200
    valid = np.ones(shape, bool)
    valid[..., 20:] = False
    valid[6:] = False
    for cycles in ways(operator, spacing):
        walled = evolved(image, operator, cycles, spacing, valid)[:, :6, ..., :20]
        alone = evolved(image[:, :6, ..., :20], operator, cycles, spacing)
        np.testing.assert_allclose(walled, alone, rtol=1e-9)
        holes = rng.random(shape) > 0.3
        after = evolved(image, operator, cycles, spacing, holes)
        assert after[:, holes].sum() == pytest.approx(image[:, holes].sum(), rel=1e-10)


@pytest.mark.parametrize(
    "operator", [pytest.param(o, marks=[pytest.mark.slow] * (o not in USUAL)) for o in OPERATORS], ids=repr
)
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64])
def test_windows_have_the_bits_of_the_whole(operator: Operator, dtype: Any) -> None:
    spacing, rng = (1.0, 1.5), np.random.default_rng(0)
    for cycles in ways(operator, spacing):
        legs = [Leg(operator, cycles)]
        halo = total_halo(legs, spacing)
        shape = tuple(2 * h + 30 for h in halo)
        image, valid = (rng.random((1, *shape)) * 200).astype(dtype), rng.random(shape) > 0.1
        valid[: shape[0] // 2] = True
        whole = evolved(image, operator, cycles, spacing, valid)
        for start, stop in (((9, 4), (20, 25)), ((halo[0] + 8, halo[1] + 3), (halo[0] + 21, halo[1] + 26))):
            ends = [
                (max(a - h, 0), min(b + h, n)) for a, b, h, n in zip(start, stop, halo, shape, strict=True)
            ]
            window = tuple(slice(*end) for end in ends)
            sides = tuple((a > 0, b < n) for (a, b), n in zip(ends, shape, strict=True))
            block = Block.from_image(image[:, *window], spacing, valid[window], sides)
            inside = tuple(slice(s - a, e - a) for s, e, (a, _) in zip(start, stop, ends, strict=True))
            keep = tuple(slice(s, e) for s, e in zip(start, stop, strict=True))
            found = advance(block, legs).u[:, *inside][:, valid[keep]]
            assert found.tobytes() == whole[:, *keep][:, valid[keep]].tobytes()


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_inverted_mass_reads_as_far_as_it_says(ndim: int) -> None:
    operator, reach = FiniteElementHeat("consistent"), mass_steps(ndim)
    assert operator.reach((1.0,) * ndim).step == (reach,) * ndim
    image = np.zeros((1, *(3,) * (ndim - 1), 2 * reach + 5))
    image[..., reach + 2] = 1
    after = evolved(image, operator, (Cycle(operator.stable_dt((1.0,) * ndim)),))[0]
    line = np.abs(after.reshape(-1, after.shape[-1])[0])
    assert line[2] > 0
    assert line[-3] > 0
    assert not line[:2].any()
    assert not line[-2:].any()


def test_another_mass_is_refused() -> None:
    for make in (FiniteElementHeat, lambda mass: FiniteElementPeronaMalik(1.0, mass=mass)):
        with pytest.raises(ValueError, match=r"mass='row sum' is not known\. Allowed: lumped, consistent"):
            make(mass="row sum")
