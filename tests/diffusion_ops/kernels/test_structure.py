"""The structure tensor and its axes, against SciPy and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from diffusion_ops.blocks.block import Block, as_image
from diffusion_ops.kernels.gaussian import gaussian_radius, gaussian_taps
from diffusion_ops.kernels.tensors.structure import principal_axes, structure_radius, structure_tensor

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

GRIDS = [((1, 34, 41), (1.0, 1.5)), ((3, 20, 19), (0.5, 0.7)), ((2, 9, 12, 17), (2.0, 1.0, 1.2))]


def picture(shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
    """Return noise between 0 and 200."""
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


def blurred(image: Array, sigma: float, spacing: tuple[float, ...], valid: Array) -> Array:
    """Return the normalised convolution with the same taps by SciPy."""
    total, weight = image * valid, valid.astype(np.float64)
    for axis, (h, r) in enumerate(zip(spacing, gaussian_radius(sigma, spacing), strict=True)):
        taps = gaussian_taps(sigma / h, r) if r else np.ones(1)
        total, weight = (correlate1d(a, taps, axis, mode="constant") for a in (total, weight))
    return total / np.maximum(weight, 1e-300) * valid


def slopes(u: Array, spacing: tuple[float, ...], valid: Array) -> list[Array]:
    """Return central differences along x, y(, z); differences across walls are 0."""
    found = []
    for axis, h in reversed(list(enumerate(spacing))):
        both = np.take(valid, range(1, u.shape[axis]), axis) & np.take(valid, range(u.shape[axis] - 1), axis)
        face = np.diff(u, axis=axis) * both / (2 * h)
        ends = [(0, 0)] * u.ndim
        lower, upper = [*ends], [*ends]
        lower[axis], upper[axis] = (1, 0), (0, 1)
        found.append(np.pad(face, lower) + np.pad(face, upper))
    return found


@pytest.mark.parametrize("walls", [False, True])
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_it_is_the_smoothed_product_of_smoothed_gradients(shape: Any, spacing: Any, walls: bool) -> None:
    image, ndim = picture(shape), len(spacing)
    valid = np.random.default_rng(1).random(shape[1:]) > 0.2 if walls else np.ones(shape[1:], bool)
    block = Block.from_image(image, spacing, valid)
    found = as_image(structure_tensor(block, 0.8, 1.1), block.spatial)
    gradients = [slopes(blurred(channel, 0.8, spacing, valid), spacing, valid) for channel in image]
    pairs = [(k, k) for k in range(ndim)] + [(k, m) for k in range(ndim) for m in range(k + 1, ndim)]
    for component, (k, m) in zip(found, pairs, strict=True):
        wanted = blurred(sum(g[k] * g[m] for g in gradients), 1.1, spacing, valid)
        np.testing.assert_allclose(component, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("walls", [False, True])
@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_its_windows_have_the_bits_of_the_whole_and_no_fewer_cells_do(
    shape: Any, spacing: Any, walls: bool
) -> None:
    image, (sigma, rho) = picture((1, 60, 60)), (0.75, 1.25)
    valid = picture((60, 60)) > 20 if walls else None
    whole = as_image(structure_tensor(Block.from_image(image, spacing[-2:], valid), sigma, rho), (60, 60))
    radius = structure_radius(sigma, rho, spacing[-2:])
    for short in [(0, 0), (1, 0), (0, 1)]:
        window = tuple(slice(27 - r + s, 32 + r - s) for r, s in zip(radius, short, strict=True))
        inner = tuple(slice(r - s, r - s + 5) for r, s in zip(radius, short, strict=True))
        part = Block.from_image(
            image[(0, *window)][None], spacing[-2:], None if valid is None else valid[window]
        )
        found = as_image(structure_tensor(part, sigma, rho), part.spatial)[(slice(None), *inner)]
        assert np.array_equal(found, whole[:, 27:32, 27:32]) is not any(short)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("components", [3, 6])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_axes_and_eigenvalues_are_those_of_numpy(dtype: Any, components: int, scale: float) -> None:
    ndim = 2 if components == 3 else 3
    rng, eps = np.random.default_rng(0), np.finfo(dtype).eps
    root = rng.standard_normal((4096, ndim, ndim)) * 10.0 ** rng.uniform(-2, 2, (4096, 1, ndim))
    full = (np.einsum("nij,nkj->nik", root, root) * scale).astype(dtype)
    full[:3] = 0
    full[1:3] = np.eye(ndim) * scale
    full[2, 0, 0] *= 3
    upper = [(k, m) for k in range(ndim) for m in range(k + 1, ndim)]
    tensor = np.stack([full[:, k, m] for k, m in [(k, k) for k in range(ndim)] + upper])
    values, axis = principal_axes(tensor)
    wanted, vectors = np.linalg.eigh(full.astype(np.float64))
    size = np.maximum(wanted[:, -1], 1e-300)
    assert np.abs((values.T[:, ::-1] - wanted) / size[:, None]).max() < 20 * eps
    clear = wanted[:, -1] - wanted[:, -2] > 0.1 * size
    across = np.abs(np.einsum("kn,nk->n", axis.astype(np.float64), vectors[..., -1]))
    assert np.abs(across[clear] - 1).max() < 100 * eps


def test_channels_add_up_and_another_image_may_be_read() -> None:
    image = picture((2, 30, 31))
    block = Block.from_image(image, (1.0, 1.0))
    singles = [structure_tensor(Block.from_image(image[c : c + 1], (1.0, 1.0)), 1.0, 2.0) for c in (0, 1)]
    np.testing.assert_allclose(
        structure_tensor(block, 1.0, 2.0), singles[0] + singles[1], rtol=1e-12, atol=1e-9
    )
    other = Block.from_image(image[:1], (1.0, 1.0)).storage
    assert np.array_equal(structure_tensor(block, 1.0, 2.0, of=other), singles[0])
