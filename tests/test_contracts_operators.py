"""What every registered operator promises, whichever it is; a new one is tested here by itself."""

from __future__ import annotations

import itertools
import math
import pickle
import re
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from diffusion_ops.accessor import function_of
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import ALIASES, make_legs, split_batches
from diffusion_ops.evolution.operator import OPERATORS, Iteration, Operator
from pipelines.spec.describe import describe_operator, describe_parameters
from tests.operator_samples import (
    DECISIVE,
    FAINT,
    LOPSIDED,
    NUMBERED,
    PLACED,
    each_evolution,
    each_operator,
    each_sample,
    each_sample_and,
    each_sample_where,
    flat_shape,
    picture,
    samples,
    ways,
)


def image_for(operator: Operator, rows: int, columns: int, **more: Any) -> NDArray[Any]:
    """Return noise of as many axes as it is defined on."""
    return picture(*flat_shape(operator, rows, columns), **more)


def test_names_are_words_that_people_can_type() -> None:
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) for name in OPERATORS)


def test_every_exemption_is_of_an_operator_and_has_a_reason() -> None:
    for exempt in (DECISIVE, FAINT, LOPSIDED, NUMBERED, PLACED):
        assert set(exempt) <= set(OPERATORS)
        assert all(exempt.values())


# ---- what it says of itself


@each_sample
def test_it_is_a_frozen_value(name: str, sample: int) -> None:
    operator, same = samples(name)[sample], samples(name)[sample]
    word = "anything"
    with pytest.raises(FrozenInstanceError):
        setattr(operator, word, 1)
    assert operator == same
    assert hash(operator) == hash(same)
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
    parameters, words = cls.parameters(), [w for one in cls.parameters().values() for w in one.aliases]
    assert len({*parameters, *words}) == len(parameters) + len(words)
    for one in parameters.values():
        assert set(one.alias_values) <= set(one.aliases)
        assert all(one.fits(value) for values in one.alias_values.values() for value in values.values())
    assert not {*parameters, *words} & {*function_of(cls).__kwdefaults__, *ALIASES}
    with pytest.raises(TypeError, match="Allowed"):
        cls(no_such_parameter=1)


@each_sample_and(
    "spacing", [(1.0, 1.0), (0.5, 2.0), (3.0, 1.0, 1.0)], lambda o, spacing: len(spacing) in o.dimensions
)
def test_it_tells_what_a_plan_needs(name: str, sample: int, spacing: tuple[float, ...]) -> None:
    operator, ndim = samples(name)[sample], len(spacing)
    assert operator.stable_dt(spacing) > 0
    assert (operator.stable_dt(spacing) < math.inf) is (operator.controlled_by == "time")
    assert operator.stable_dt(tuple(h / 2 for h in spacing)) <= operator.stable_dt(spacing)
    reach = operator.reach(spacing)
    for cells in (reach.step, reach.setup, reach.start, reach.finish, reach.further):
        assert len(cells) == ndim
        assert all(isinstance(n, int) and n >= 0 for n in cells)
    for inertial in {False, operator.inertial_cycles}:
        assert operator.extra_arrays(ndim, inertial, 3) >= 0
    assert operator.setup_arrays(ndim, 3) >= 0
    assert operator.carried_arrays(ndim, 3) >= 0
    assert operator.result_channels(3) >= 1
    assert operator.pace(ndim, 3) > 0


# ---- how it goes, and what it refuses


@each_sample
def test_it_goes_by_time_by_iterations_or_once(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image, spacing = image_for(operator, 8, 8), (1.0,) * operator.dimensions[0]
    refused: list[dict[str, Any]] = [{"time": 1}, {"dt": 0.1, "steps": 1}, {"schedule": "explicit"}]
    if operator.controlled_by == "time":
        assert bool(make_legs(operator, spacing, time=1)[0].cycles[0].inertial) is operator.inertial_cycles
        refused = [{}, {"steps": 1, "schedule": "cycles"}]
        refused += [] if operator.inertial_cycles else [{"time": 1, "schedule": "cycles"}]
    elif operator.controlled_by == "iterations":
        assert isinstance(operator, Iteration)
        assert make_legs(operator, spacing)[0].steps == operator.usual_steps
    else:
        assert operator.carried_arrays(len(spacing), 1) == 0
        refused.append({"steps": 1})
    for far in refused:
        with pytest.raises(ValueError, match=r"[Gg]ive|Allowed|once"):
            do.evolve(image, operator, **far)


@each_sample_where(lambda operator: operator.controlled_by == "time")
def test_a_step_beyond_the_stable_one_is_refused(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 8, 8)
    limit = operator.stable_dt((1.0,) * image.ndim)
    do.evolve(image, operator, steps=1, dt=limit)
    with pytest.raises(ValueError, match=re.escape(f"{limit:g}")):
        do.evolve(image, operator, steps=1, dt=1.01 * limit)


@each_evolution
@pytest.mark.parametrize("ndim", [2, 3])
def test_dimensions_it_is_not_defined_for_are_refused(name: str, ndim: int) -> None:
    operator, image = samples(name)[0], picture(*(6, 7, 8)[:ndim])
    if ndim in operator.dimensions:
        assert do.evolve(image, operator, **ways(operator)[0]).shape == image.shape
    else:
        with pytest.raises(ValueError, match="spatial axes"):
            do.evolve(image, operator, **ways(operator)[0])


# ---- batches


@each_sample
def test_batches_change_no_bit(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 24, 25)
    for far in ways(operator):
        whole = do.evolve(image, operator, **far)
        assert all(np.array_equal(do.evolve(image, operator, batch=n, **far), whole) for n in (1, 2))


@each_sample
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_that_lasts_from_batch_to_batch_is_state_and_what_is_carried(
    name: str, sample: int, dtype: type
) -> None:
    operator = samples(name)[sample]
    image, spacing = image_for(operator, 18, 21, dtype=dtype), (1.0,) * operator.dimensions[0]
    image[..., 5:7, 9] = np.nan
    for far in ways(operator):
        legs = make_legs(operator, spacing, **far)
        whole = advance(make_block(image[None], spacing), legs)
        block, everything = make_block(image[None], spacing), (slice(None),) * len(spacing)
        for part in split_batches(legs, 1):
            carried = 0 if block.carried is None else len(block.carried)
            assert carried == (operator.carried_arrays(len(spacing), 1) if part[0].first else 0)
            block = advance(make_block(block.kept(everything), spacing, carried=carried), part)
        assert block.kept(everything).tobytes() == whole.kept(everything).tobytes()


# ---- a guide


@each_sample_where(lambda operator: not operator.reads_guide)
def test_a_guide_that_nobody_reads_is_refused(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 20, 21)
    with pytest.raises(ValueError, match="guide"):
        do.evolve(image, operator, guide=image, **ways(operator)[0])


@each_sample_where(lambda operator: operator.reads_guide)
def test_a_guide_is_followed(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image, guide = image_for(operator, 20, 21), image_for(operator, 20, 21, seed=1)
    for far in [{"steps": 1} if operator.controlled_by != "once" else {}, *ways(operator)[1:]]:
        alone = do.evolve(image, operator, **far)
        guided = do.evolve(image, operator, guide=guide, **far)
        assert not np.array_equal(guided, alone)
        if "steps" in far or not far:
            assert np.array_equal(do.evolve(image, operator, guide=image, **far), alone)
        # Holes of the guide are walls, and keep the image's values, unless there is a new quantity.
        holes = guide.copy()
        holes[..., 4:6, 3] = np.nan
        found = do.evolve(image, operator, guide=holes, **far)
        if operator.new_quantity:
            assert np.array_equal(np.isnan(found), np.isnan(holes))
        else:
            assert not np.isnan(found).any()
            assert np.array_equal(found[..., 4:6, 3], image[..., 4:6, 3])


# ---- walls, channels, types, positions


@each_sample
def test_walls_neither_spread_nor_vanish(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 20, 30)
    image[..., 3, 4] = np.nan
    image[..., 12] = np.nan
    for far in ways(operator):
        result = do.evolve(image, operator, **far)
        assert np.array_equal(np.isnan(result), np.isnan(image))


@each_sample
def test_what_walls_hold_reaches_nobody(name: str, sample: int) -> None:
    """Invalid cells hold any finite number, in the state and in the guide."""
    operator = samples(name)[sample]
    image, spacing = image_for(operator, 20, 30), (1.0,) * operator.dimensions[0]
    valid = picture(*image.shape, seed=1) > 30
    for far in ways(operator):
        results = []
        for junk in (0.0, -1e15):
            block = make_block(
                image[None], spacing, None, valid, guide=image[None] if operator.reads_guide else None
            )
            block.u[:, ~valid] = junk
            results.append(advance(block, make_legs(operator, spacing, **far)).u[:, valid])
        assert results[0].tobytes() == results[1].tobytes()


@each_sample_where(lambda operator: operator.name not in NUMBERED)
def test_nothing_crosses_a_wall(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 20, 30)
    image[..., 8:20] = np.nan
    other = image.copy()
    other[..., 20:] += 1e3
    for far in ways(operator):
        first, second = (do.evolve(each, operator, **far) for each in (image, other))
        assert np.array_equal(first[..., :8], second[..., :8])


@each_sample_where(lambda operator: operator.name not in NUMBERED)
def test_nodata_keeps_its_value_and_masks_their_pixels(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 20, 20, dtype=np.uint8)
    image[..., 5:7, 5:7] = 255
    mask = np.ones(image.shape, bool)
    mask[..., 15, :] = False
    result = do.evolve(image, operator, nodata=255, mask=mask, dtype="uint8", **ways(operator)[0])
    if operator.gives_labels:
        # Any number may name something: invalid pixels are ground, and labels those of the mask alone.
        valid = mask & (image != 255)
        masked = do.evolve(image, operator, mask=valid, dtype="uint8", **ways(operator)[0])
        assert np.array_equal(result, masked)
        assert not result[~valid[..., : result.shape[-1]]].any()
    elif operator.new_quantity:
        # What has no value of the new quantity is nodata.
        assert np.array_equal(result == 255, ((image == 255) | ~mask)[..., : result.shape[-1]])
    else:
        assert np.array_equal(result == 255, image == 255)
        assert np.array_equal(result[..., 15, :], image[..., 15, :])
        assert not np.array_equal(result[mask], image[mask])


@each_sample
def test_types_are_kept_or_as_asked_for(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image, far = image_for(operator, 12, 12, dtype=np.uint8), ways(operator)[0]
    result = do.evolve(image, operator, **far)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert np.array_equal(do.evolve(image.astype(np.float32), operator, **far), result)
    rounded = do.evolve(image, operator, dtype="uint8", **far)
    assert np.array_equal(rounded, np.clip(np.rint(result), 0, 255).astype(np.uint8))


@each_sample
@pytest.mark.parametrize("dtype", [np.float64])
def test_both_float_types_compute_the_same(name: str, sample: int, dtype: type) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 16, 17)
    for far in ways(operator):
        single, double = (do.evolve(image.astype(t), operator, **far) for t in (np.float32, dtype))
        assert (single.dtype, double.dtype) == (np.float32, dtype)
        # A decision that hangs on rounding, such as the side of a threshold, moves few pixels.
        assert np.mean(np.abs(single - double) > 1e-3 * (1 + np.abs(double))) < 0.02


@each_sample_where(lambda operator: operator.channels is None)
def test_channels_are_coupled_where_it_says_so(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = np.stack([image_for(operator, 16, 17, seed=c) for c in range(2)], axis=-1)
    for far in ways(operator):
        together = do.evolve(image, operator, channel_axis=-1, **far)
        assert together.shape == (*image.shape[:-1], operator.result_channels(2))
        alone = np.stack([do.evolve(image[..., c], operator, **far) for c in range(2)], axis=-1)
        if name not in PLACED:
            assert np.array_equal(together, alone) is not operator.couples_channels
        single = do.evolve(image[..., :1], operator, channel_axis=-1, **far)
        assert np.array_equal(single[..., 0], alone[..., 0])


@each_sample
def test_the_place_in_the_image_matters_where_it_is_said_to(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image, spacing = image_for(operator, 16, 17), (1.0,) * operator.dimensions[0]
    for far in ways(operator):
        found = []
        for origin, frame in (((0,) * len(spacing), 0), ((3, 5, 7)[: len(spacing)], 2)):
            block = make_block(image[None], spacing)
            block.origin, block.frame = origin, frame
            found.append(advance(block, make_legs(operator, spacing, **far)).u)
        assert np.array_equal(*found) is (name not in PLACED)


# ---- the mathematics it claims


@each_sample_where(lambda operator: operator.keeps_maximum)
def test_explicit_steps_keep_the_maximum_where_it_says_so(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 24, 24)
    image[..., 10, 10], image[..., 4, 4], image[..., 15, 3] = 1e4, -1e4, np.nan
    far = {"steps": 20}
    if operator.controlled_by == "time":
        far["dt"] = operator.stable_dt((1.0,) * image.ndim)
    result = do.evolve(image, operator, **({} if operator.controlled_by == "once" else far))
    slack = 1e-6 * 1e4
    assert np.nanmin(image) - slack <= np.nanmin(result)
    assert np.nanmax(result) <= np.nanmax(image) + slack


@each_sample_where(lambda operator: operator.keeps_mean)
def test_the_mean_is_kept_where_it_says_so(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image = image_for(operator, 40, 41)
    image[..., 7:9, 20:30] = np.nan
    for far in ways(operator):
        before = np.nanmean(image, dtype=np.float64)
        after = np.nanmean(do.evolve(image, operator, **far), dtype=np.float64)
        assert after == pytest.approx(before, rel=1e-6)


@each_sample_where(lambda operator: operator.name not in LOPSIDED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_axes_are_alike(name: str, sample: int, dtype: type) -> None:
    """Turning image and spacing turns the result; flipping the image flips it."""
    operator = samples(name)[sample]
    image = image_for(operator, 20, 26, dtype=dtype)
    spacing = (1.0, 1.0, 1.5)[-image.ndim :]
    near = {"rtol": 1e-7, "atol": 1e-7} if dtype is np.float64 else {"rtol": 2e-4, "atol": 2e-4}
    for far in ways(operator):
        result = do.evolve(image, operator, spacing=spacing, **far)
        turned = do.evolve(image.T, operator, spacing=spacing[::-1], **far)
        flipped = do.evolve(np.flip(image), operator, spacing=spacing, **far)
        np.testing.assert_allclose(turned.T, result, **near)
        np.testing.assert_allclose(np.flip(flipped), result, **near)


@each_sample_where(lambda operator: operator.energy() is not None and operator.controlled_by != "once")
def test_its_energy_falls_and_no_tiling_changes_it(name: str, sample: int) -> None:
    """Explicit steps never raise it; iterations, which may swing, end far below where they began."""
    operator = samples(name)[sample]
    energy = operator.energy()
    assert energy is not None
    image, spacing = image_for(operator, 24, 25), (1.0,) * operator.dimensions[0]
    image[..., 3:5, 6] = np.nan
    block, values = make_block(image[None], spacing), []
    count = 8 if operator.controlled_by == "time" else 60
    everything = (slice(None),) * len(spacing)
    for part in split_batches(make_legs(operator, spacing, steps=count), 1):
        # What is carried is there until the operator finishes.
        if not part[0].last:
            advance(block, part)
            values.append(energy.value(energy.measure(block, everything)))
    assert len(energy.radius(spacing)) == len(spacing)
    halves = [(*everything[:-1], slice(*ends)) for ends in ((0, 11), (11, 25))]
    merged = energy.merge(*(energy.measure(block, keep) for keep in halves))
    assert energy.value(merged) == values[-1]
    if operator.controlled_by == "time":
        assert all(b <= a + 1e-6 * abs(a) for a, b in itertools.pairwise(values))
    assert values[-1] < values[0]


@each_sample
def test_one_number_stands_for_equal_spacing_and_no_time_changes_nothing(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    image, far = image_for(operator, 12, 13), ways(operator)[0]
    twice = [do.evolve(image, operator, spacing=h, **far) for h in (2, (2.0,) * image.ndim)]
    assert np.array_equal(*twice)
    if operator.controlled_by != "once":
        nothing = {"time": 0} if operator.controlled_by == "time" else {"steps": 0}
        assert np.array_equal(do.evolve(image, operator, **nothing), image)
