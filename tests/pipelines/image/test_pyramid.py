"""Pyramids: any tiling gives the same bits, means are exact, nodata neither spreads nor appears."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.image.info import ImageInfo
from pipelines.image.levels import level_factors, pyramid_infos, reordered
from pipelines.image.pyramid import reduce_block, reduced_shape

INTEGERS = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float16", "float32", "float64"]
DTYPES = INTEGERS + FLOATS


def image_of(dtype: str, shape: tuple[int, ...], seed: int, nodata: float | None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        image = rng.normal(0, 100, shape).astype(kind)
        image[rng.random(shape) < 0.2] = np.nan
    else:
        limits = np.iinfo(kind)
        low, high = (limits.min, limits.max) if seed % 2 else (max(limits.min, -3), 3)
        image = rng.integers(low, high, shape, dtype=kind, endpoint=True)
    if nodata is not None:
        image[rng.random(shape) < 0.4] = kind.type(nodata)
    return image


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(*[st.integers(1, 23)] * 3),
    factors=st.tuples(*[st.integers(1, 3)] * 3),
    tile=st.tuples(*[st.integers(1, 3)] * 3),
    labels=st.booleans(),
    nodata=st.sampled_from([None, 0.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_any_tiling_gives_the_same_bits(dtype, shape, factors, tile, labels, nodata, seed):
    image = image_of(dtype, shape, seed, nodata)
    whole = reduce_block(image, factors, labels, nodata)
    tiled = np.zeros_like(whole)
    steps = [t * f for t, f in zip(tile, factors, strict=True)]
    for start in product(*(range(0, n, s) for n, s in zip(shape, steps, strict=True))):
        part = image[tuple(slice(a, a + s) for a, s in zip(start, steps, strict=True))]
        region = tuple(slice(a // f, a // f + t) for a, f, t in zip(start, factors, tile, strict=True))
        tiled[region] = reduce_block(part, factors, labels, nodata)
    assert whole.shape == reduced_shape(shape, factors)
    assert whole.dtype == image.dtype
    assert whole.tobytes() == tiled.tobytes()


def windows(image: np.ndarray, factors: tuple[int, ...]):
    for position in np.ndindex(*reduced_shape(image.shape, factors)):
        region = tuple(slice(i * f, (i + 1) * f) for i, f in zip(position, factors, strict=True))
        yield position, image[region].ravel()


@settings(max_examples=80, deadline=None)
@given(
    dtype=st.sampled_from(INTEGERS),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factors=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    nodata=st.sampled_from([None, 0.0, 2.0, 127.0]),
    seed=st.integers(0, 1000),
)
def test_integer_means_are_the_exact_ones_rounded(dtype, shape, factors, nodata, seed):
    image = image_of(dtype, shape, seed, nodata)
    result = reduce_block(image, factors, nodata=nodata)
    for position, values in windows(image, factors):
        valid = [int(v) for v in values if nodata is None or v != nodata]
        if not valid:
            assert result[position] == nodata
            continue
        mean = Fraction(sum(valid), len(valid))
        if nodata is None or round(mean) != nodata:
            assert int(result[position]) == round(mean)
        else:
            assert abs(int(result[position]) - mean) <= Fraction(3, 2)
            assert result[position] != nodata


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(FLOATS),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    nodata=st.sampled_from([None, math.nan, 1.0, -9999.0]),
    seed=st.integers(0, 1000),
)
def test_float_means_count_valid_cells_only(dtype, shape, nodata, seed):
    image = image_of(dtype, shape, seed, nodata)
    result = reduce_block(image, (2, 2), nodata=nodata)
    # As the image holds it: -9999 is -10000 in float16.
    nodata = None if nodata is None else image.dtype.type(nodata)
    for position, values in windows(image, (2, 2)):
        valid = [float(v) for v in values if not np.isnan(v) and v != nodata]
        if valid:
            assert float(result[position]) == pytest.approx(math.fsum(valid) / len(valid), rel=2e-3, abs=1e-2)
        else:
            assert np.array_equal(result[position], np.nan if nodata is None else nodata, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factors=st.tuples(st.integers(1, 3), st.integers(2, 3)),
    nodata=st.sampled_from([None, 0.0]),
    seed=st.integers(0, 1000),
)
def test_labels_take_the_commonest_and_of_ties_the_smallest(shape, factors, nodata, seed):
    image = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint32)
    result = reduce_block(image, factors, labels=True, nodata=nodata)
    for position, values in windows(image, factors):
        counts = Counter(int(v) for v in values if v != nodata)
        expected = min(counts, key=lambda v: (-counts[v], v)) if counts else nodata
        assert result[position] == expected


@pytest.mark.parametrize(
    ("dtype", "values", "nodata"), [("int16", [-10000, -9998], -9999), ("float32", [1, 3], 2)]
)
def test_a_mean_never_becomes_nodata(dtype, values, nodata):
    result = reduce_block(np.array([values], dtype), (1, 2), nodata=nodata)
    assert result[0, 0] != nodata
    assert abs(float(result[0, 0]) - nodata) <= 1


def test_the_smallest_float_as_nodata():
    nodata = -3.4028226550889045e38
    image = np.array([[nodata, 5.0], [7.0, nodata], [nodata, nodata]], np.float32)
    assert reduce_block(image, (2, 2), nodata=nodata).tolist() == [[6.0], [nodata]]


def test_infinities_are_values_like_any_other():
    image = np.array([[np.inf, 1.0, np.inf, -np.inf]], np.float32)
    assert np.array_equal(reduce_block(image, (1, 2)), [[np.inf, np.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("block", "factors"),
    [(np.zeros((2, 2)), (2,)), (np.zeros((2, 2)), (0, 2)), (np.zeros(4, complex), (2,))],
)
def test_what_cannot_be_reduced_is_refused(block, factors):
    with pytest.raises(ValueError, match=r"factors|complex"):
        reduce_block(block, factors)


def info(shape: tuple[int, ...], axes: str, **spacing: float) -> ImageInfo:
    return ImageInfo(shape, np.dtype("uint8"), axes, shape, spacing=spacing)


def test_an_automatic_pyramid_ends_when_a_plane_fits_into_one_chunk():
    shapes = [level.shape for level, _ in pyramid_infos(info((3, 3000, 1001), "cyx"), "auto")]
    assert shapes == [(3, 3000, 1001), (3, 1500, 501), (3, 750, 251), (3, 375, 126)]


def test_z_is_halved_once_cells_are_cubes():
    image = info((100, 4096, 4096), "zyx", z=2.0, y=0.5, x=0.5)
    assert level_factors(image, "auto") == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert level_factors(image, "auto", reduce_z=False) == ((1, 2, 2),) * 3
    assert [level.spacing["z"] for level, _ in pyramid_infos(image, "auto")] == [2.0, 2.0, 2.0, 4.0]


def test_a_number_of_levels_ends_where_nothing_is_left_to_halve():
    assert level_factors(info((5, 9), "yx"), "none") == ()
    assert level_factors(info((5, 9), "yx"), 2) == ((2, 2), (2, 2))
    assert level_factors(info((1, 5), "yx"), 9) == ((1, 2),) * 3


def test_reordering_moves_shape_and_chunks():
    image = reordered(ImageInfo((5, 6, 3), np.dtype("uint8"), "yxc", (2, 4, 3)), "cyx")
    assert (image.axes, image.shape, image.chunks) == ("cyx", (3, 5, 6), (3, 2, 4))
