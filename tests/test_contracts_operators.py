"""What every registered operator promises, whichever it is; a new one is tested here by itself."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.advance import Leg, advance, total_halo
from diffusion_ops.block import Block
from diffusion_ops.evolve import evolve
from diffusion_ops.fields import make_block
from diffusion_ops.operator import OPERATORS, Operator
from diffusion_ops.problem import ALIASES, make_legs
from pipelines.describe import describe_operator, describe_parameters, operator_fields

NEAR_LINEAR = 1e4
"""For required numbers: conductance near 1, so that errors travel far; near 0 a short halo hides."""

FAR = ({"steps": 3}, {"time": 2.5, "schedule": {"cycles": 2}})

each_operator = pytest.mark.parametrize("name", OPERATORS.names())
each_way = pytest.mark.parametrize("far", FAR, ids=["explicit", "cycles"])


def make(name: str, number: float = NEAR_LINEAR, **more: Any) -> Operator:
    """Return an operator with a number for every parameter that has no default."""
    fields = operator_fields(OPERATORS[name])
    known = {key: value for key, value in more.items() if key in {f.name for f in fields}}
    return OPERATORS[name](**{f.name: number for f in fields if f.default is dataclasses.MISSING}, **known)


def makes(name: str) -> list[Operator]:
    """Return an operator without and with smoothing before its gradient, where it has one."""
    return list(dict.fromkeys([make(name), make(name, sigma=0.8)]))


def picture(*shape: int, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    """Return noise between 0 and 200."""
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def test_names_are_words_that_people_can_type() -> None:
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) for name in OPERATORS)


# ---- what it says of itself


@each_operator
def test_it_is_a_frozen_value(name: str) -> None:
    operator = make(name)
    assert type(operator).__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert operator == make(name)
    assert hash(operator) == hash(make(name))
    assert pickle.loads(pickle.dumps(operator)) == operator
    assert type(operator).name == name
    assert getattr(do, type(operator).__name__) is type(operator)


@each_operator
def test_it_is_documented_with_units(name: str) -> None:
    described = describe_operator(OPERATORS[name])
    assert all(described[key] for key in ("about", "equation", "reference"))
    for parameter in describe_parameters(OPERATORS[name]):
        assert parameter["about"], f"{name}: {parameter['name']} is not documented"
        if "float" in parameter["type"]:
            assert parameter["unit"], f"{name}: {parameter['name']} has no unit"


@each_operator
def test_its_aliases_mean_one_thing(name: str) -> None:
    cls = OPERATORS[name]
    fields = {f.name for f in operator_fields(cls)}
    assert set(cls.aliases.values()) <= fields
    assert set(cls.alias_values) <= set(cls.aliases)
    arguments = {*evolve.__kwdefaults__, *ALIASES}
    assert not (fields | set(cls.aliases)) & arguments
    with pytest.raises(TypeError, match="Allowed"):
        cls(no_such_parameter=1)


@each_operator
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (3.0, 1.0, 1.0)], ids=str)
def test_it_tells_what_a_plan_needs(name: str, spacing: tuple[float, ...]) -> None:
    operator = make(name)
    if len(spacing) not in operator.dimensions:
        pytest.skip(f"{name} is not defined on {len(spacing)} axes")
    ndim = len(spacing)
    assert 0 < operator.stable_dt(spacing) < math.inf
    assert operator.stable_dt(tuple(h / 2 for h in spacing)) <= operator.stable_dt(spacing)
    assert len(operator.setup_radius(spacing)) == ndim
    for inertial in (False, True):
        assert operator.extra_arrays(ndim, inertial, 3) >= 0
    assert operator.setup_arrays(ndim, 3) >= 0
    assert operator.pace(ndim, 3) > 0


# ---- what it refuses


@each_operator
def test_a_step_beyond_the_stable_one_is_refused(name: str) -> None:
    operator, image = make(name), picture(8, 8)
    limit = operator.stable_dt((1.0, 1.0))
    do.evolve(image, operator, steps=1, dt=limit)
    with pytest.raises(ValueError, match=re.escape(f"{limit:g}")):
        do.evolve(image, operator, steps=1, dt=1.01 * limit)


@each_operator
@pytest.mark.parametrize("ndim", [2, 3])
def test_dimensions_it_is_not_defined_for_are_refused(name: str, ndim: int) -> None:
    operator, image = make(name), picture(*(6, 7, 8)[:ndim])
    if ndim in operator.dimensions:
        assert do.evolve(image, operator, steps=1).shape == image.shape
    else:
        with pytest.raises(ValueError, match="spatial axes"):
            do.evolve(image, operator, steps=1)


# ---- exact


def whole_and_legs(
    operator: Operator, far: dict[str, Any], image: NDArray[Any], spacing: tuple[float, ...], mask: Any
) -> tuple[NDArray[Any], tuple[Leg, ...]]:
    """Return the whole image after all steps, and the steps."""
    legs = make_legs(operator, spacing, **far)
    return advance(make_block(image, spacing, None, mask), legs).u.copy(), legs


def cut(
    image: NDArray[Any], mask: Any, spacing: tuple[float, ...], keep: Sequence[slice], halo: Sequence[int]
) -> tuple[Block, tuple[slice, ...]]:
    """Return the window around what to keep, and where in it that is."""
    shape = image.shape[1:]
    ends = [(max(s.start - h, 0), min(s.stop + h, n)) for s, h, n in zip(keep, halo, shape, strict=True)]
    window = tuple(slice(*end) for end in ends)
    sides = tuple((a > 0, b < n) for (a, b), n in zip(ends, shape, strict=True))
    walls = None if mask is None else mask[window]
    inside = tuple(slice(s.start - a, s.stop - a) for s, (a, _) in zip(keep, ends, strict=True))
    return make_block(image[(slice(None), *window)], spacing, None, walls, sides), inside


CASES = {
    "plane": ((1, 61, 47), np.float32, (1.0, 1.0), False),
    "walls": ((1, 53, 64), np.float32, (1.0, 1.0), True),
    "colours": ((3, 40, 51), np.float32, (1.0, 0.5), True),
    "double": ((1, 45, 38), np.float64, (2.0, 1.0), False),
    "volume": ((1, 19, 23, 26), np.float32, (2.0, 1.0, 1.0), False),
}


@each_operator
@each_way
@pytest.mark.parametrize("case", CASES)
@given(data=st.data())
@settings(max_examples=12)
def test_windows_equal_the_whole_image_bitwise(
    name: str, far: dict[str, Any], case: str, data: st.DataObject
) -> None:
    shape, dtype, spacing, walls = CASES[case]
    # Smoothing first is the same code for both float types; leaving it out saves its compilation.
    operator = data.draw(st.sampled_from(makes(name)[: 1 if case == "double" else None]))
    if len(spacing) not in operator.dimensions:
        return
    image = picture(*shape, dtype=dtype)
    mask = picture(*shape[1:], seed=1) > 20 if walls else None
    whole, legs = whole_and_legs(operator, far, image, spacing, mask)
    keep = []
    for n in shape[1:]:
        start = data.draw(st.integers(0, n - 1))
        keep.append(slice(start, data.draw(st.integers(start + 1, n))))
    block, inside = cut(image, mask, spacing, keep, total_halo(legs, spacing))
    found = advance(block, legs).u[(slice(None), *inside)]
    valid = (slice(None),) if mask is None else (slice(None), mask[tuple(keep)])
    assert found[valid].tobytes() == whole[(slice(None), *keep)][valid].tobytes()


@each_operator
@each_way
@pytest.mark.parametrize("axis", [0, 1])
def test_its_halo_is_no_wider_than_needed(name: str, far: dict[str, Any], axis: int) -> None:
    assert not right_with_halo(make(name), far, axis, short=1)


@each_operator
@pytest.mark.parametrize("far", [{"steps": 1}, {"time": 0.4, "schedule": {"cycles": 1}}], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_halo_of_its_smoothing_is_no_wider_than_needed(name: str, far: dict[str, Any], axis: int) -> None:
    # Smoothing shows in the conductance only, where that is not near 1, and by taps that are not too small: one
    # cycle, and 0.75 puts the last tap on the truncation itself for both spacings.
    operator = make(name, 60.0, sigma=0.75)
    assert right_with_halo(operator, far, axis, short=0)
    assert not right_with_halo(operator, far, axis, short=1)


def right_with_halo(operator: Operator, far: dict[str, Any], axis: int, short: int) -> bool:
    """Return whether a window has the right bits where its halo is `short` cells too small along an axis."""
    spacing, image, keep = (1.0, 1.5), picture(1, 70, 70), (slice(25, 45), slice(25, 45))
    whole, legs = whole_and_legs(operator, far, image, spacing, None)
    halo = list(total_halo(legs, spacing))
    halo[axis] -= short
    block, inside = cut(image, None, spacing, keep, halo)
    return np.array_equal(advance(block, legs).u[(slice(None), *inside)], whole[(slice(None), *keep)])


@each_operator
@each_way
def test_batches_change_no_bit(name: str, far: dict[str, Any]) -> None:
    image = picture(24, 25)
    for operator in makes(name):
        whole = do.evolve(image, operator, **far)
        assert all(np.array_equal(do.evolve(image, operator, batch=n, **far), whole) for n in (1, 2))


# ---- walls, channels, types


@each_operator
@each_way
def test_walls_neither_spread_nor_vanish(name: str, far: dict[str, Any]) -> None:
    image = picture(20, 30)
    image[3, 4] = np.nan
    image[:, 12] = np.nan
    for operator in makes(name):
        result = do.evolve(image, operator, **far)
        assert np.array_equal(np.isnan(result), np.isnan(image))


@each_operator
@each_way
def test_nothing_crosses_a_wall(name: str, far: dict[str, Any]) -> None:
    image = picture(20, 30)
    image[:, 12] = np.nan
    other = image.copy()
    other[:, 13:] = 1e3
    operator = make(name)
    first, second = (do.evolve(each, operator, **far) for each in (image, other))
    assert np.array_equal(first[:, :12], second[:, :12])
    np.testing.assert_allclose(first[:, :12], do.evolve(image[:, :12], operator, **far), rtol=1e-5)


@each_operator
def test_nodata_keeps_its_value_and_masks_their_pixels(name: str) -> None:
    image = picture(20, 20, dtype=np.uint8)
    image[5:7, 5:7] = 255
    mask = np.ones(image.shape, bool)
    mask[15] = False
    result = do.evolve(image, make(name), steps=3, nodata=255, mask=mask, dtype="uint8")
    assert np.array_equal(result == 255, image == 255)
    assert np.array_equal(result[15], image[15])
    assert not np.array_equal(result[mask], image[mask])


@each_operator
def test_types_are_kept_or_as_asked_for(name: str) -> None:
    image, operator = picture(12, 12, dtype=np.uint8), make(name)
    result = do.evolve(image, operator, steps=2)
    assert result.dtype == np.float32
    assert np.array_equal(do.evolve(image.astype(np.float32), operator, steps=2), result)
    rounded = do.evolve(image, operator, steps=2, dtype="uint8")
    assert np.array_equal(rounded, np.clip(np.rint(result), 0, 255).astype(np.uint8))
    assert do.evolve(image.astype(np.float64), operator, steps=2).dtype == np.float64


@each_operator
@each_way
def test_channels_are_coupled_where_it_says_so(name: str, far: dict[str, Any]) -> None:
    image = picture(16, 17, 2)
    operator = make(name, 30.0)
    together = do.evolve(image, operator, channel_axis=-1, **far)
    alone = np.stack([do.evolve(image[..., c], operator, **far) for c in range(2)], axis=-1)
    assert np.array_equal(together, alone) is not operator.couples_channels
    single = do.evolve(image[..., :1], operator, channel_axis=-1, **far)
    assert np.array_equal(single[..., 0], alone[..., 0])


# ---- the mathematics it claims


@each_operator
@pytest.mark.parametrize("number", [NEAR_LINEAR, 20.0], ids=["linear", "nonlinear"])
def test_explicit_steps_keep_the_maximum_where_it_says_so(name: str, number: float) -> None:
    if not OPERATORS[name].keeps_maximum:
        pytest.skip(f"{name} does not claim it")
    image = picture(24, 24)
    image[10, 10], image[4, 4], image[15, 3] = 1e4, -1e4, np.nan
    operator = make(name, number)
    result = do.evolve(image, operator, steps=20, dt=operator.stable_dt((1.0, 1.0)))
    slack = 1e-6 * 1e4
    assert np.nanmin(image) - slack <= np.nanmin(result)
    assert np.nanmax(result) <= np.nanmax(image) + slack


@each_operator
@each_way
@pytest.mark.parametrize("number", [NEAR_LINEAR, 20.0], ids=["linear", "nonlinear"])
def test_the_mean_is_kept_where_it_says_so(name: str, far: dict[str, Any], number: float) -> None:
    if not OPERATORS[name].keeps_mean:
        pytest.skip(f"{name} does not claim it")
    image = picture(40, 41)
    image[7:9, 20:30] = np.nan
    for operator in (make(name, number), make(name, number, sigma=0.8)):
        before = np.nanmean(image, dtype=np.float64)
        after = np.nanmean(do.evolve(image, operator, **far), dtype=np.float64)
        assert after == pytest.approx(before, rel=1e-6)


@each_operator
@each_way
def test_axes_are_alike(name: str, far: dict[str, Any]) -> None:
    """Turning image and spacing turns the result; flipping the image flips it."""
    image, operator = picture(20, 26), make(name, 30.0)
    result = do.evolve(image, operator, spacing=(1.0, 1.5), **far)
    turned = do.evolve(image.T, operator, spacing=(1.5, 1.0), **far)
    flipped = do.evolve(image[::-1, ::-1], operator, spacing=(1.0, 1.5), **far)
    np.testing.assert_allclose(turned.T, result, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(flipped[::-1, ::-1], result, rtol=1e-4, atol=1e-3)


@each_operator
def test_one_number_stands_for_equal_spacing_and_time_zero_changes_nothing(name: str) -> None:
    image, operator = picture(12, 13), make(name)
    twice = [do.evolve(image, operator, steps=2, spacing=h) for h in (2, (2.0, 2.0))]
    assert np.array_equal(*twice)
    assert np.array_equal(do.evolve(image, operator, time=0), image)
