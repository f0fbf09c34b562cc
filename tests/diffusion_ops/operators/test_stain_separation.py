"""Stains come apart as in scikit-image, exactly where they were mixed, and with the same bits in any tiling."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from skimage.color import hdx_from_rgb, hed_from_rgb, separate_stains

import diffusion_ops as do

pytestmark = pytest.mark.thorough

TISSUE: NDArray[Any] = data.immunohistochemistry()[100:220, 200:330]
FULL = {"background": 255.0}


def separated(image: Any, **parameters: Any) -> Any:
    """Return one stain of an image whose last axis are channels, as one plane."""
    return do.evolve(image, do.StainSeparation(**parameters), channel_axis=-1)[..., 0]


@pytest.mark.parametrize(
    ("stains", "names", "matrix"),
    [
        ("hematoxylin-eosin-dab", ("hematoxylin", "eosin", "dab"), hed_from_rgb),
        ("hematoxylin-dab", ("hematoxylin", "dab"), hdx_from_rgb),
    ],
)
def test_stains_are_those_of_scikit_image(stains: str, names: tuple[str, ...], matrix: Any) -> None:
    """Its vectors of hematoxylin and DAB alone have a digit more; densities are a sixth of ours."""
    wanted = separate_stains(TISSUE, matrix) * 6
    for number, name in enumerate(names):
        found = separated(TISSUE, stains=stains, stain=name, **FULL)
        atol = 3e-6 if matrix is hed_from_rgb else 2e-2
        np.testing.assert_allclose(found, wanted[..., number], atol=atol)
        assert np.array_equal(separated(TISSUE, stains=stains, stain=number + 1, **FULL), found)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_what_was_mixed_comes_apart(channels: int) -> None:
    """Of fewer stains than channels, too; light is absorbed by each in turn."""
    rng = np.random.default_rng(channels)
    vectors = rng.random((min(channels, 2), channels)) + 0.1
    amounts = rng.random((40, 50, len(vectors)))
    background = np.linspace(0.5, 0.9, channels)
    light = background * 10 ** -(amounts @ vectors)
    for number in range(len(vectors)):
        found = separated(light, stains=vectors.tolist(), stain=number + 1, background=background.tolist())
        np.testing.assert_allclose(found, amounts[..., number], atol=1e-12)
        of_array = separated(light, stains=vectors, stain=number + 1, background=background.tolist())
        assert np.array_equal(of_array, found)


def test_units_of_light_change_no_bit() -> None:
    small = separated(TISSUE.astype(np.float32) / 256)
    assert np.array_equal(small, separated(TISSUE))
    assert small.max() > 0.5


def test_black_and_glare_have_finite_amounts() -> None:
    image = np.array([[[0, 0, 0], [255, 255, 255], [300, 300, 300]]], np.float32)
    found = separated(image, **FULL)
    assert 6 < found[0, 0] < 12
    assert found[0, 1] == found[0, 2] == 0


def test_any_chunks_have_the_bits_of_the_whole() -> None:
    image = TISSUE.astype(np.float64)
    image[3:9, 5] = np.nan
    whole = do.evolve(image, do.StainSeparation(), channel_axis=-1)
    lazy = do.evolve(da.from_array(image, (37, 23, 3)), do.StainSeparation(), channel_axis=-1)
    assert lazy.shape == (*image.shape[:2], 1)
    assert lazy.compute(scheduler="synchronous").tobytes() == whole.tobytes()
    assert np.array_equal(np.isnan(whole[..., 0]), np.isnan(image[..., 0]))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"stains": "hematoxylin"}, "hematoxylin-eosin"),
        ({"stains": [[0.6, 0.7, 0.3], [0.6, 0.7]]}, "1 to 3 vectors"),
        ({"stains": [[0.6, 0.7, 0.3], [0, 0, 0]]}, "1 to 3 vectors"),
        ({"stains": [[0.6, -0.7, 0.3]]}, ">= 0"),
        ({"stains": [[0.6, 0.7, 0.3], [1.2, 1.4, 0.6]]}, "too alike"),
        ({"stains": [[0.6], [0.7]]}, "no more of them than channels"),
        ({"stain": "dab"}, "hematoxylin, eosin, 1, 2"),
        ({"stain": 3}, "hematoxylin, eosin, 1, 2"),
        ({"stains": [[0.6, 0.7, 0.3]], "stain": "eosin"}, "Allowed with these: 1"),
        ({"background": [255.0, 250.0]}, "one for each of the 3 channels"),
        ({"background": 0.0}, "> 0"),
    ],
)
def test_impossible_stains_are_refused(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        do.StainSeparation(**parameters)


@pytest.mark.parametrize("axis", [None, -1])
def test_an_image_of_other_channels_is_refused(axis: int | None) -> None:
    image = np.ones((8, 9) if axis is None else (8, 9, 4))
    for one in (image, da.from_array(image)):
        with pytest.raises(ValueError, match=rf"takes 3 channels, the image has {1 if axis is None else 4}"):
            do.evolve(one, do.StainSeparation(), channel_axis=axis)
