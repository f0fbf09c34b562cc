"""Edge maps against formulas, exact images and scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage import feature

import diffusion_ops as do
from diffusion_ops.operators.canny import Canny
from diffusion_ops.operators.coherence import Coherence
from diffusion_ops.operators.edge_stopping import EdgeStopping
from diffusion_ops.operators.gradient_magnitude import GradientMagnitude
from diffusion_ops.operators.orientation import Orientation
from diffusion_ops.operators.zero_crossings import ZeroCrossings

pytestmark = pytest.mark.thorough

Array = NDArray[Any]
INSIDE = (slice(8, -8), slice(8, -8))


def waves(angle: float, period: float = 8.0, shape: tuple[int, int] = (64, 64)) -> Array:
    """Return a plane wave that varies along a direction, an angle from the columns' axis."""
    rows, columns = np.indices(shape)
    return 100 + 50 * np.sin(2 * np.pi * (np.cos(angle) * columns + np.sin(angle) * rows) / period)


def disc(radius: float, side: int = 65) -> Array:
    """Return a bright disc of 100 on 20, smooth over about two cells."""
    rows, columns = np.indices((side, side)) - side // 2
    return 20 + 80 / (1 + np.exp(2 * (np.hypot(rows, columns) - radius)))


# Slopes


def test_magnitude_of_a_ramp_is_its_slope_in_units() -> None:
    z, y, x = (np.indices((7, 9, 11)).T * (2.0, 0.5, 1.0)).T
    found = do.evolve(3 * z + 4 * y + 12 * x, GradientMagnitude(sigma=0), spacing=(2.0, 0.5, 1.0))
    np.testing.assert_allclose(found[1:-1, 1:-1, 1:-1], 13)


def test_magnitude_is_that_of_central_differences() -> None:
    image = np.random.default_rng(0).random((30, 40)) * 100
    smooth = gaussian_filter(image, 1.5, radius=6)
    down, right = np.gradient(smooth)
    np.testing.assert_allclose(
        do.evolve(image, GradientMagnitude(1.5))[INSIDE], np.hypot(down, right)[INSIDE]
    )


def test_channels_give_one_field() -> None:
    image = np.random.default_rng(0).random((20, 30, 3)) * 100
    each = [do.evolve(image[..., c], GradientMagnitude()) for c in range(3)]
    together = do.evolve(image, GradientMagnitude(), channel_axis=-1)
    assert together.shape == (20, 30, 1)
    np.testing.assert_allclose(together[..., 0], np.sqrt(np.sum(np.square(each), axis=0)))


@pytest.mark.parametrize("name", ["exponential", "rational"])
def test_conductance_is_a_function_of_the_magnitude(name: str) -> None:
    image = np.random.default_rng(0).random((20, 30)) * 100
    q = (do.evolve(image, GradientMagnitude()) / 7) ** 2
    wanted = {"exponential": np.exp(-q), "rational": 1 / (1 + q)}[name]
    np.testing.assert_allclose(do.evolve(image, EdgeStopping(7, name)), wanted, rtol=1e-12)


# Directions


@pytest.mark.parametrize("angle", np.linspace(-np.pi / 2, np.pi / 2, 13)[1:])
def test_orientation_is_along_the_waves(angle: float) -> None:
    across = angle - np.pi / 2
    found = do.evolve(waves(across), Orientation())[INSIDE]
    # Central differences see waves turned a little towards the axes.
    np.testing.assert_allclose(np.sin(found - angle), 0, atol=0.05)
    assert -np.pi / 2 <= found.min() <= found.max() <= np.pi / 2


def test_orientation_is_the_angle_of_the_tensor() -> None:
    image = np.random.default_rng(0).random((40, 50)) * 100
    down, right = np.gradient(gaussian_filter(image, 1.0, radius=4))
    xx, yy, xy = (gaussian_filter(p, 2.0, radius=8) for p in (right * right, down * down, right * down))
    inner = (slice(14, -14),) * 2
    found = do.evolve(image, Orientation(1.0, 2.0))[inner]
    np.testing.assert_allclose(found, 0.5 * np.arctan2(-2 * xy, yy - xx)[inner], atol=1e-9)
    coherence = ((xx - yy) ** 2 + 4 * xy * xy) / (xx + yy) ** 2
    np.testing.assert_allclose(do.evolve(image, Coherence(1.0, 2.0))[inner], coherence[inner], rtol=1e-9)
    spread = (xx - yy) ** 2 + 4 * xy * xy
    found = do.evolve(image, Coherence(1.0, 2.0, normalised=False))[inner]
    np.testing.assert_allclose(found, spread[inner], rtol=1e-9)


def test_coherence_is_1_on_waves_and_on_layers_and_0_on_flat_areas() -> None:
    assert do.evolve(waves(0.4), Coherence())[INSIDE].min() > 0.99
    layers = np.broadcast_to(waves(0.0, shape=(1, 24)), (20, 22, 24)).copy()
    assert do.evolve(layers, Coherence())[8:-8, 8:-8, 8:-8].min() > 0.99
    assert not do.evolve(np.full((20, 20), 7.0), Coherence(sigma=0)).any()
    assert not do.evolve(np.full((20, 20), 7.0), Orientation(sigma=0)).any()


# Zero crossings


def test_crossings_of_a_disc_are_a_closed_ring() -> None:
    found = do.evolve(disc(20), ZeroCrossings(2.0, contrast=1.0))
    rows, columns = np.nonzero(found)
    assert len(rows) > 100
    assert np.abs(np.hypot(rows - 32, columns - 32) - 20).max() < 1.5


def test_crossings_are_the_changes_of_sign() -> None:
    image = np.random.default_rng(3).random((30, 31))
    padded = np.pad(image, 1, mode="edge")
    laplacian = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * image
    wanted = np.zeros(image.shape, bool)
    for axis in (0, 1):
        a, b = (np.moveaxis(x, axis, 0) for x in (laplacian, wanted))
        change = a[1:] * a[:-1] < 0
        b[1:] |= change & (abs(a[1:]) <= abs(a[:-1]))
        b[:-1] |= change & (abs(a[:-1]) <= abs(a[1:]))
    assert np.array_equal(do.evolve(image, ZeroCrossings(0.0)), wanted)


def test_ties_and_zeros_of_crossings_are_as_documented() -> None:
    # Second differences 1 0 0 -1 of a slope, and 1 0 -1 of a step that passes through a cell: only a cell of 0 that is
    # alone between two signs is marked.
    wide = np.tile([0.0, 0, 1, 2, 3, 3, 3], (5, 1))
    assert not do.evolve(wide, ZeroCrossings(0.0)).any()
    alone = np.tile([0.0, 0, 1, 2, 2, 2], (5, 1))
    assert do.evolve(alone, ZeroCrossings(0.0)).sum(axis=0).tolist() == [0, 0, 5, 0, 0, 0]
    step = np.tile([0.0, 0, 0, 1, 1, 1], (5, 1))
    assert do.evolve(step, ZeroCrossings(0.0)).sum(axis=0).tolist() == [0, 0, 5, 5, 0, 0]


def canny(image: Any, sigma: float = 1.0, low: Any = "auto", high: Any = "auto", **container: Any) -> Any:
    """Return where Canny's edges are."""
    return do.evolve(image, Canny(low, high, sigma), **container) == 1


# Thin edges


def test_thinning_is_that_of_scikit_image_bit_by_bit() -> None:
    reference = pytest.importorskip("skimage.feature._canny_cy")
    image = gaussian_filter(np.random.default_rng(1).random((80, 90)) * 100, 1.5)
    down, right = np.gradient(image)
    slope = np.sqrt(right * right + down * down)
    mask = np.zeros(image.shape, np.uint8)
    mask[2:-2, 2:-2] = 1
    wanted = reference._nonmaximum_suppression_bilinear(down, right, slope, mask, 2.0)
    found = do.evolve(image, Canny(2.0, 4.0, sigma=0, joined=False))[2:-2, 2:-2]
    assert np.array_equal(found > 0, wanted[2:-2, 2:-2] > 0)
    assert np.array_equal(found == 2, wanted[2:-2, 2:-2] >= 4)


def test_thin_edges_of_channels_lie_where_they_change_together() -> None:
    image = np.stack([disc(20), 100 - disc(20), np.zeros((65, 65))], axis=-1)
    one = do.evolve(disc(20) * 2**0.5, Canny(5.0, 10.0, joined=False))
    three = do.evolve(image, Canny(5.0, 10.0, joined=False), channel_axis=-1)
    assert np.mean(three[..., 0] != one) < 0.002


def test_surfaces_in_a_volume_are_thin() -> None:
    z, y, x = np.indices((24, 26, 28)) - 12
    ball = 100 / (1 + np.exp(2 * (np.sqrt(z * z + y * y + x * x) - 8)))
    found = canny(ball, 1.0, 5.0, 10.0)
    positions = np.argwhere(found) - 12
    assert np.abs(np.linalg.norm(positions, axis=1) - 8).max() < 1.2
    assert 600 < len(positions) < 1600


def test_thresholds_choose_themselves_from_the_image() -> None:
    assert canny(disc(20)).sum() > 50
    with pytest.raises(ValueError, match=r"^low="):
        Canny(2.0, 1.0, joined=False)
    with pytest.raises(ValueError, match=r"^high="):
        Canny(2.0, 0.0, joined=False)


# Canny


def test_canny_agrees_with_scikit_image_within_a_cell(shared_data: Callable[..., Path]) -> None:
    image = iio.imread(shared_data("denoise", "Set12", "01.png")).astype(float)
    ours = canny(image, 2.0, 2.0, 5.0)[2:-2, 2:-2]
    # The Sobel filter there is 8 times the slope, smoothed along the edge once more.
    theirs = feature.canny(image, 2.0, 16.0, 40.0)[2:-2, 2:-2]
    near = np.ones((3, 3), bool)
    assert theirs.mean() > 0.03
    assert (theirs & binary_dilation(ours, near)).sum() > 0.97 * theirs.sum()
    assert (ours & binary_dilation(theirs, near)).sum() > 0.97 * ours.sum()


@pytest.mark.parametrize("chunks", [(20, 30), (7, 65)])
def test_canny_is_the_same_on_any_chunks(chunks: tuple[int, int]) -> None:
    image = disc(20) + np.random.default_rng(0).normal(0, 10, (65, 65))
    lazy = canny(da.from_array(image, chunks))
    assert isinstance(lazy, da.Array)
    assert np.array_equal(lazy.compute(), canny(image))


def test_invalid_pixels_are_no_edges() -> None:
    image = np.full((20, 20), 7.0)
    image[:, 10:] = 50
    image[5:8, 8:12], image[12, 9:12] = 2.0, np.nan
    mask = np.ones(image.shape, bool)
    mask[15:18, 9:12] = False
    image[15:18, 9:12] = 1.0
    found = canny(image, 0.5, 1.0, 5.0, mask=mask, nodata=2.0)
    assert found[0, 9:11].all()
    assert not found[5:8, 8:12].any()
    assert not found[12, 9:12].any()
    assert not found[15:18, 9:12].any()
