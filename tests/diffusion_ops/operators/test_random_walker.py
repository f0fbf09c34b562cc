"""A random walker has the probabilities of a direct solution within its tolerance, and scikit-image's labels."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from skimage import data
from skimage.segmentation import random_walker

import diffusion_ops as do
from tests.diffusion_ops.steady.direct import laplacian, solved, walker_weights

pytestmark = pytest.mark.thorough


def seeds(shape: tuple[int, ...], labels: int = 3, part: float = 0.01, seed: int = 0) -> Any:
    """Return markers at random places."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < part, rng.integers(1, labels + 1, shape), 0)


def direct(image: Any, markers: Any, beta: float, scale: float, spacing: tuple[float, ...]) -> Any:
    """Return the probabilities of all labels."""
    matrix = laplacian(walker_weights(image, beta, scale, spacing))
    return np.stack(
        [solved(matrix, markers > 0, markers == label) for label in np.unique(markers[markers > 0])]
    )


CASES = {
    "plane": (data.camera()[100:170, 100:180], None, 130.0, (1.0, 1.0)),
    "harsh": (data.camera()[100:170, 100:180], None, 1300.0, (1.0, 1.0)),
    "colours": (data.astronaut()[100:150, 100:140], -1, 130.0, (1.0, 1.0)),
    "volume": (
        data.camera()[:240, :200].reshape(24, 10, 20, 10).sum((1, 3))[:, :, None] % 97 / np.arange(1, 9),
        None,
        90.0,
        (2.0, 1.0, 0.5),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_probabilities_are_as_near_to_the_direct_ones_as_the_tolerance_says(
    case: str, tolerance: float
) -> None:
    image, axis, beta, spacing = CASES[case]
    fields = image[None] if axis is None else np.moveaxis(image, axis, 0)
    markers = seeds(fields.shape[1:])
    walker = do.RandomWalker(beta=beta, full_scale=255.0, probabilities=True)
    found = do.solve(
        image, walker, markers=markers, channel_axis=axis, spacing=spacing, tolerance=tolerance, dtype=float
    )
    assert np.abs(found - direct(fields, markers, beta, 255.0, spacing)).max() <= tolerance
    assert np.abs(found.sum(axis=0) - 1).max() < 1e-12


def test_labels_are_those_of_scikit_image_but_where_two_are_equally_probable() -> None:
    image, _, _, _ = CASES["plane"]
    markers = seeds(image.shape)
    markers[10:50, 40] = -1
    mine = do.solve(image, do.RandomWalker(deviation=image.std(), full_scale=255.0), markers=markers)
    theirs = random_walker(image, markers.copy(), beta=130, mode="bf", return_full_prob=True)
    order = np.sort(theirs, axis=0)
    clear = (markers >= 0) & (order[-1] - order[-2] > 2e-4)
    assert clear.mean() > 0.9
    assert np.array_equal(mine[clear], theirs.argmax(0)[clear] + 1)
    assert np.array_equal(mine[markers > 0], markers[markers > 0])
    assert (mine[markers < 0] == 0).all()


def test_every_container_gives_the_same_labels() -> None:
    image, _, _, _ = CASES["plane"]
    markers = seeds(image.shape)
    whole = do.solve(image, do.RandomWalker(), markers=markers)
    lazy = do.solve(
        da.from_array(image, (32, 50)), do.RandomWalker(), markers=da.from_array(markers, (40, 40))
    )
    assert np.array_equal(lazy.compute(), whole)
    named = do.solve(xr.DataArray(image, dims=("y", "x")), do.RandomWalker(), markers=markers)
    assert np.array_equal(named.values, whole)


def test_units_do_not_matter() -> None:
    image, _, _, _ = CASES["plane"]
    markers = seeds(image.shape)
    whole = do.solve(image.astype(np.float32), do.RandomWalker(probabilities=True), markers=markers)
    scaled = do.solve(image.astype(np.float32) / 1024, do.RandomWalker(probabilities=True), markers=markers)
    assert np.array_equal(whole, scaled)


def test_regions_without_a_marker_get_no_label() -> None:
    markers, mask = np.zeros((40, 50), int), np.ones((40, 50), bool)
    markers[5, 5], markers[30, 40] = 7, 9
    mask[10:21, [10, 20]] = mask[[10, 20], 10:21] = False
    labels = do.solve(np.zeros((40, 50)), do.RandomWalker(), markers=markers, mask=mask)
    inside = np.zeros((40, 50), bool)
    inside[10:21, 10:21] = True
    assert (labels[inside] == 0).all()
    assert set(np.unique(labels[~inside])) == {7, 9}


def test_small_regions_without_a_marker_get_no_label_either() -> None:
    markers, mask = np.zeros((64, 64), int), np.ones((64, 64), bool)
    markers[3, 3], markers[50, 50] = 1, 2
    islands = np.zeros_like(mask)
    for n in range(1, 6):
        mask[20 : 22 + n, 10 * n - 5 : 10 * n - 3 + n] = False
        islands[21 : 21 + n, 10 * n - 4 : 10 * n - 4 + n] = True
    mask |= islands
    labels = do.solve(np.zeros((64, 64)), do.RandomWalker(), markers=markers, mask=mask)
    assert (labels[islands] == 0).all()
    assert (labels[mask & ~islands] > 0).all()


@pytest.mark.parametrize("case", ["plane", "harsh"])
def test_no_error_is_above_its_proven_bound(case: str) -> None:
    image, _, beta, spacing = CASES[case]
    markers = seeds(image.shape)
    walker = do.RandomWalker(beta=beta, full_scale=255.0, probabilities=True, error_bound=1.0)
    settings: dict[str, Any] = {"markers": markers, "tolerance": 1e-5, "dtype": float}
    error = np.abs(
        do.solve(image, walker, **settings) - direct(image[None], markers, beta, 255.0, spacing)
    ).max()
    with pytest.raises(ValueError, match="at most") as refused:
        do.solve(image, do.RandomWalker(beta=beta, full_scale=255.0, error_bound=1e-15), **settings)
    bound = float(str(refused.value).split("at most ")[1].split(";")[0])
    assert error <= bound < 0.1


def test_one_label_goes_everywhere() -> None:
    markers = np.zeros((20, 20), int)
    markers[3, 4] = 2
    assert (do.solve(np.eye(20), do.RandomWalker(), markers=markers) == 2).all()


def test_what_has_no_answer_is_refused() -> None:
    image, markers = np.eye(20), np.zeros((20, 20), int)
    with pytest.raises(ValueError, match="holds no label"):
        do.solve(image, do.RandomWalker(), markers=markers)
    markers[3, 4] = 2
    with pytest.raises(ValueError, match="1 markers lie at walls"):
        do.solve(image, do.RandomWalker(), markers=markers, mask=markers == 0)
    with pytest.raises(ValueError, match="below what rounding leaves"):
        do.solve(image, do.RandomWalker(), markers=markers, tolerance=1e-12)
    with pytest.raises(ValueError, match="probabilities"):
        do.solve(da.from_array(image), do.RandomWalker(probabilities=True), markers=markers)
