"""Positive differences on a lattice: decomposition, reach, extremes, walls."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.blocks.block import Block, allocate, as_image
from diffusion_ops.kernels.tensors.lattice import (
    lattice_links,
    lattice_offsets,
    lattice_radius,
    stable_lattice_dt,
    take_link_steps,
    touched,
)
from diffusion_ops.kernels.tensors.structure import tensor_arrays
from tests.diffusion_ops.operators.test_tensor import gaussian_error

pytestmark = pytest.mark.thorough

Array = NDArray[Any]


def tensors(block: Block, ratio: float, seed: int = 0) -> Array:
    """Return tensors at the cells, axes at random, eigenvalues between 1 and 1 / ratio with both taken."""
    rng, ndim = np.random.default_rng(seed), len(block.spatial)
    axes = np.linalg.qr(rng.standard_normal((*block.spatial, ndim, ndim)))[0]
    values = ratio ** -rng.random((*block.spatial, ndim))
    values[..., 0], values[..., -1] = 1, 1 / ratio
    full = np.einsum("...ij,...j,...kj->...ik", axes, values, axes)
    found = allocate(tensor_arrays(ndim), block.spatial, block.storage.dtype)
    pairs = [(i, i) for i in range(ndim)] + list(itertools.combinations(range(ndim), 2))
    for view, (i, j) in zip(as_image(found, block.spatial), pairs, strict=True):
        view[...] = full[..., i, j]
    return found


GRIDS = [((1, 23, 26), (1.0, 1.0)), ((1, 22, 27), (1.0, 1.5)), ((1, 9, 10, 11), (1.0, 1.0, 1.0))]


@pytest.mark.parametrize("ratio", [1.0, 3.0, 10.0, 100.0])
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_tensors_are_sums_of_positive_weights_on_their_offsets(
    shape: Any, spacing: Any, ratio: float
) -> None:
    block, ndim = Block.from_image(np.zeros(shape), spacing), len(spacing)
    tensor = tensors(block, ratio)
    weights, codes = lattice_links(block, tensor, ratio * (1 + 1e-9))
    offsets = np.array(lattice_offsets(ratio * (1 + 1e-9), spacing), float)[:, 3 - ndim :] * spacing
    assert (weights >= 0).all()
    e = offsets[codes >> 2][..., ::-1]
    found = np.einsum("nk,nki,nkj->nij", 2 * weights, e, e)
    pairs = [(i, i) for i in range(ndim)] + list(itertools.combinations(range(ndim), 2))
    for component, (i, j) in zip(tensor, pairs, strict=True):
        np.testing.assert_allclose(found[:, i, j], component, atol=2e-6)


@pytest.mark.parametrize(("ratio", "radius"), [(1, 1), (3, 1), (10, 2), (30, 3), (100, 5)])
def test_reach_grows_with_the_root_of_the_ratio(ratio: float, radius: int) -> None:
    assert lattice_radius(ratio, (1.0, 1.0)) == (radius, radius)
    # An edge of Farey's tree is met where 4 |v|² |w|² <= ratio + 1 / ratio + 2; what is beyond it is needed.
    wanted, edges = {(0, 1), (1, 0)}, [((0, 1), (1, 0)), ((1, 0), (0, -1))]
    while edges:
        v, w = edges.pop()
        if 4 * (v[0] ** 2 + v[1] ** 2) * (w[0] ** 2 + w[1] ** 2) < ratio + 1 / ratio + 2 - 1e-9:
            between = (v[0] + w[0], v[1] + w[1])
            wanted.add(between)
            edges += [(v, between), (between, w)]
    assert {(m, j) for _, m, j in lattice_offsets(ratio, (1.0, 1.0))} == wanted


def test_links_meet_the_cells_on_their_way() -> None:
    assert touched((0, 0, 1)) == []
    assert touched((0, 1, 1)) == [(0, 0, 1), (0, 1, 0)]
    assert touched((0, 2, 1)) == [(0, 1, 0), (0, 1, 1)]
    assert len(touched((1, 1, 1))) == 6


@pytest.mark.parametrize("ratio", [3.0, 30.0])
@pytest.mark.parametrize("walls", [False, True])
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_explicit_steps_are_means_of_neighbours(shape: Any, spacing: Any, walls: bool, ratio: float) -> None:
    """The matrix of a step: symmetric, rows that add up to 1, no entry negative."""
    cells = int(np.prod(shape[1:]))
    valid = np.random.default_rng(1).random(shape[1:]) > 0.2 if walls else None
    block = Block.from_image(np.eye(cells).reshape(cells, *shape[1:]), spacing, valid)
    links = lattice_links(block, tensors(block, ratio), ratio)
    take_link_steps(block, [block.storage], links, ratio, stable_lattice_dt(ratio, spacing), [1.0])
    inside = np.ones(cells, bool) if valid is None else valid.ravel()
    matrix = block.u.reshape(cells, cells)[np.ix_(inside, inside)]
    assert matrix.min() >= -1e-15
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)
    np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-13)


@pytest.mark.parametrize("spacing", [(1.0, 1.5), (2.0, 1.0, 1.0)])
def test_the_unit_tensor_is_the_heat_equation(spacing: Any) -> None:
    image = np.random.default_rng(0).random((11, 12, 13)[: len(spacing)])
    operator = do.EdgeEnhancing(1e9, discretisation="lattice", condition=1)
    for far in ({"steps": 5, "dt": 0.02}, {"time": 2.0, "schedule": {"cycles": 30}}):
        heat = do.evolve(image, do.Heat(), spacing=spacing, **far)
        np.testing.assert_allclose(do.evolve(image, operator, spacing=spacing, **far), heat, atol=1e-12)


@pytest.mark.parametrize(("ratio", "mean", "worst"), [(10, 0.008, 0.010), (100, 0.018, 0.032)])
def test_directions_are_kept(ratio: float, mean: float, worst: float) -> None:
    def run(block: Block, components: tuple[float, float, float], time: float) -> Array:
        tensor = allocate(3, block.spatial, block.storage.dtype)
        for view, value in zip(as_image(tensor, block.spatial), components, strict=True):
            view[...] = value
        links = lattice_links(block, tensor, ratio * 1.001)
        take_link_steps(block, [block.storage], links, ratio * 1.001, 0.05, [1.0] * round(time / 0.05))
        return block.u[0]

    found = gaussian_error(run, ratio)
    assert found[0] < 1.15 * mean
    assert found[1] < 1.15 * worst


def test_operators_keep_extremes_with_it_and_say_so() -> None:
    image = np.random.default_rng(0).random((40, 41)) * 200
    image[20, 20] = 1e4
    for operator in (
        do.EdgeEnhancing(20.0, "weickert", discretisation="lattice", condition=30),
        do.CoherenceEnhancing(20.0, discretisation="lattice", condition=30),
    ):
        assert operator.keeps_maximum
        result = do.evolve(image, operator, steps=10, dt=operator.stable_dt((1.0, 1.0)))
        assert image.min() <= result.min()
        assert result.max() <= image.max()
        assert result.mean() == pytest.approx(image.mean(), rel=1e-12)
    assert not do.EdgeEnhancing(20.0).keeps_maximum


def test_it_agrees_with_nonstandard_differences_on_smooth_images() -> None:
    y, x = np.indices((80, 80)) / 10
    image = 100 + 30 * np.sin(x + 0.5 * y) + 20 * np.cos(0.7 * x - y)
    results = [
        do.evolve(
            image, do.CoherenceEnhancing(10.0, alpha=0.1, discretisation=how), time=2, schedule={"cycles": 4}
        )
        for how in ("www", "lattice")
    ]
    inner = (slice(10, -10),) * 2
    change = np.abs(results[0] - image)[inner].max()
    assert math.sqrt(np.mean((results[0] - results[1])[inner] ** 2)) < 0.05 * change


def test_nothing_jumps_over_a_thin_wall() -> None:
    image = np.random.default_rng(0).random((24, 24)) * 100
    mask = np.ones(image.shape, bool)
    mask[:, 12] = False
    mask[np.arange(24), np.arange(24)] = False
    operator = do.EdgeEnhancing(1e4, sigma=0.0, alpha=0.01, discretisation="lattice", condition=100)
    other = image.copy()
    region = np.tril(np.ones_like(mask)) & (np.indices(mask.shape)[1] < 12) & mask
    other[~region] += 1e3
    first, second = (do.evolve(each, operator, steps=5, mask=mask) for each in (image, other))
    assert np.array_equal(first[region], second[region])
