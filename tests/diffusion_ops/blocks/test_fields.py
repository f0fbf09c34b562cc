"""Images come as users have them: dtypes, byte orders, strides, masks, nodata; the rest is refused in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diffusion_ops as do
from diffusion_ops.blocks.block import block_memory
from diffusion_ops.blocks.fields import (
    cast,
    cast_all,
    check_nodata,
    finish_image,
    give_back,
    make_block,
    valid_cells,
)

WHOLE = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)

IMAGE = (np.random.default_rng(0).random((23, 31)) * 200).astype(np.float32)


def smooth(image, **options):
    return do.evolve(image, "heat", **{"steps": 3, **options})


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[::-1, ::-1][::-1, ::-1],
        lambda image: np.asfortranarray(image),
        lambda image: np.repeat(image, 2, axis=1)[:, ::2],
        lambda image: image.astype(">f4"),
        lambda image: np.lib.stride_tricks.as_strided(image, image.shape, image.strides, writeable=False),
    ],
    ids=["negative strides", "Fortran order", "stride of two", "big-endian", "read-only"],
)
def test_memory_layout_changes_no_bit(view):
    assert smooth(view(IMAGE)).tobytes() == smooth(IMAGE).tobytes()


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        ("uint8", "float32"),
        (">u2", "float32"),
        ("int64", "float32"),
        ("float16", "float16"),
        (">f8", "float64"),
    ],
)
def test_floats_keep_their_type_and_integers_become_float32(dtype, result):
    assert smooth(IMAGE.astype(dtype)).dtype == np.dtype(result)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (IMAGE > 3, TypeError, r"bool cannot be diffused.*as a mask"),
        (IMAGE.astype(complex), TypeError, r"complex128.*amplitude"),
        (np.array([["a", "b"]]), TypeError, "cannot be diffused"),
        (np.ma.masked_less(IMAGE, 3), TypeError, r"mask=~image\.mask"),
        (IMAGE[0], ValueError, "1 spatial axes"),
        (IMAGE[:, :0], ValueError, "length zero"),
        (IMAGE[None, None], ValueError, "4 spatial axes"),
    ],
)
def test_what_cannot_be_diffused_is_refused(image, error, words):
    with pytest.raises(error, match=words):
        smooth(image)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"channel_axis": 2}, ValueError, "channel_axis=2"),
        ({"mask": np.ones((3, 3), bool)}, ValueError, r"shape \(3, 3\)"),
        ({"mask": np.ones(IMAGE.shape)}, TypeError, r"float64\. Allowed: bool"),
        ({"nodata": 1e300}, ValueError, "cannot be held by float32"),
        ({"dtype": "uint8", "nodata": -1}, ValueError, "cannot be held by uint8"),
        ({"dtype": "complex64"}, TypeError, "not possible for a result"),
        ({"spacing": (1, 1, 1)}, ValueError, "3 values for 2 spatial axes"),
        ({"spacing": 0}, ValueError, "numbers > 0"),
        ({"batch": 0}, ValueError, "batch=0"),
        ({"stepz": 3}, TypeError, "no argument 'stepz'"),
        ({"niter": 3}, TypeError, "given twice"),
        ({"time": float("nan")}, ValueError, "time=nan"),
        ({"dt": 0}, ValueError, "never arrives"),
    ],
)
def test_arguments_out_of_range_are_refused_with_what_is_allowed(options, error, words):
    with pytest.raises(error, match=words):
        smooth(IMAGE, **options)


@given(
    st.lists(st.floats(-(2.0**40), 2.0**40, width=32), min_size=1, max_size=20),
    st.sampled_from(["u1", "i2", "i4", "u8"]),
)
def test_integers_are_rounded_to_nearest_and_clipped(values, dtype):
    info = np.iinfo(dtype)
    result = cast(np.array(values, np.float32), np.dtype(dtype))
    for value, got in zip(values, result, strict=True):
        nearest = min(max(int(np.rint(np.float64(value))), info.min), info.max)
        # float32 has no number at the end of the wide types; the largest below it is taken.
        assert abs(int(got) - nearest) <= max(
            0, info.max - int(np.nextafter(np.float32(info.max), np.float32(0)))
        )


@given(st.sampled_from(WHOLE), st.sampled_from(WHOLE), st.lists(st.integers(-(1 << 63), (1 << 64) - 1)))
def test_whole_numbers_are_clipped_to_what_another_type_holds(held, wanted, values):
    values = np.array([v for v in values if np.iinfo(held).min <= v <= np.iinfo(held).max], held)
    low, high = np.iinfo(wanted).min, np.iinfo(wanted).max
    assert cast(values, np.dtype(wanted)).tolist() == [min(max(v, low), high) for v in values.tolist()]


@pytest.mark.parametrize(("nodata", "beside"), [(0, 1), (255, 254), (7, 6)])
def test_a_valid_pixel_never_becomes_nodata(nodata, beside):
    values = np.array([nodata - 0.2, nodata + 0.2, 100], np.float32)
    assert cast(values, np.dtype("uint8"), nodata).tolist() == [beside, beside, 100]


def test_nan_needs_a_value_to_become_where_integers_are_asked_for():
    image = IMAGE.copy()
    image[3, 4] = np.nan
    with pytest.raises(ValueError, match="Give nodata"):
        smooth(image, dtype="uint8")
    assert smooth(image, dtype="uint8", nodata=0)[3, 4] == 0


def test_a_pixel_is_a_wall_where_any_channel_has_no_value():
    image = np.ones((3, 4, 5), np.float32)
    image[0, 1, 1], image[1, 2, 2], image[2, 3, 3] = np.nan, np.inf, -9999
    valid = valid_cells(image, nodata=-9999)
    assert np.argwhere(~valid).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert valid_cells(np.ones((1, 4, 5), np.uint8)) is None


def test_nodata_is_checked_against_the_type_that_holds_it():
    check_nodata(-3.4028234663852886e38, np.dtype("float32"), "image")
    check_nodata(float("nan"), np.dtype("float16"), "image")
    with pytest.raises(ValueError, match=r"nodata=0\.5"):
        check_nodata(0.5, np.dtype("int16"), "image")


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_invalid_pixels_can_get_back_their_values_later_and_in_parts(dtype):
    image = np.random.default_rng(0).integers(0, 9, (2, 40, 33)).astype("i2")
    block = make_block(image, (1.0, 1.0), nodata=0)
    at_once = finish_image(block, image, np.dtype(dtype), 0)
    later = cast_all(make_block(image, (1.0, 1.0), nodata=0).u, np.dtype(dtype), 0)
    for rows in (slice(0, 7), slice(7, 40)):
        give_back(later[:, rows], image[:, rows], block.valid[rows], 0)
    assert later.tobytes() == at_once.tobytes()
    assert (later == 0).any()


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 33, 17), (1, 3, 9, 31), (3, 2, 16), (1, 1, 1)])
def test_an_image_in_the_memory_of_a_block_becomes_it_without_a_copy(shape, holes):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    if holes:
        image[0, 0] = np.nan
    given, spacing = block_memory(shape, np.float32), (1.0,) * (len(shape) - 1)
    given[...] = image
    taken, copied = (make_block(each, spacing, in_place=True) for each in (given, image))
    assert np.shares_memory(taken.storage, given)
    assert not np.shares_memory(copied.storage, image)
    assert np.array_equal(taken.storage, copied.storage)
    assert np.array_equal(taken.valid_storage, copied.valid_storage) or not holes
    keep = tuple(slice(n // 3, n) for n in shape[1:])
    kept, part = taken.kept(keep, in_place=True), copied.kept(keep)
    assert np.shares_memory(kept, taken.storage)
    assert np.array_equal(kept, part, equal_nan=True)
