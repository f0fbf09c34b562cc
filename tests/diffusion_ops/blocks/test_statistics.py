"""Statistics: the same number for any tiling, and the number that NumPy and scikit-image give."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import estimate_sigma

from diffusion_ops import PeronaMalik
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, statistic_from
from diffusion_ops.statistics.energy import Energy
from diffusion_ops.statistics.extremes import Maximum, Minimum, ordered_key, value_of_key
from diffusion_ops.statistics.gradient import GradientMAD, GradientQuantile
from diffusion_ops.statistics.mean import Mean
from diffusion_ops.statistics.noise import Noise


def examples(name: str) -> list[Statistic]:
    """Return a statistic with its defaults, 0.5 where it has none, also smoothed where it can be."""
    cls = STATISTICS[name]
    fields = dataclasses.fields(cls)
    needed = {f.name: 0.5 for f in fields if f.default is dataclasses.MISSING}
    found = [cls(**needed)]
    if any(f.name == "sigma" for f in fields):
        found.append(cls(**needed, sigma=0.7))
    return found


def whole(statistic: Statistic, image: np.ndarray, valid=None, spacing=None) -> float:
    """Return a statistic of an image of shape (channels, *spatial) in one block."""
    block = Block.from_image(image, spacing or (1.0,) * (image.ndim - 1), valid)
    return statistic.value(statistic.measure(block, (slice(None),) * (image.ndim - 1)))


def tiles(shape: tuple[int, ...], cuts: list[list[int]], radius: tuple[int, ...]):
    """Yield (window, open sides, keep inside the window) of the tiles between cuts."""
    pieces = (itertools.pairwise([0, *c, n]) for c, n in zip(cuts, shape, strict=True))
    for ends in itertools.product(*pieces):
        read = [(max(a - r, 0), min(b + r, n)) for (a, b), r, n in zip(ends, radius, shape, strict=True)]
        window = tuple(slice(a, b) for a, b in read)
        sides = tuple((a > 0, b < n) for (a, b), n in zip(read, shape, strict=True))
        yield window, sides, tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(ends, read, strict=True))


@st.composite
def tilings(draw, ndim: int):
    """Draw a shape and where to cut it along every axis."""
    shape = tuple(draw(st.integers(4, 40 if ndim == 2 else 13)) for _ in range(ndim))
    cuts = [sorted(draw(st.sets(st.integers(1, n - 1), max_size=3))) for n in shape]
    return shape, cuts


CASES = {"plane": (2, np.float32), "double": (2, np.float64), "volume": (3, np.float32)}
WHOLE = ("mean", "quantile")
"""Statistics whose doubles and volumes are not slow: the others sum or sort in the same way."""
FURTHER = pytest.mark.slow, pytest.mark.thorough


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=() if case == "plane" else FURTHER[name in WHOLE])
        for name in STATISTICS.names()
        for case in CASES
    ],
)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_tiling_gives_the_identical_number(name: str, case: str, data: st.DataObject) -> None:
    ndim, dtype = CASES[case]
    shape, cuts = data.draw(tilings(ndim))
    seed, masked = data.draw(st.integers(0, 999)), data.draw(st.booleans())
    rng = np.random.default_rng(seed)
    image = (rng.normal(size=(data.draw(st.integers(1, 3)), *shape)) * 10).astype(dtype)
    valid = np.ones(shape, bool)
    if masked:
        valid.flat[rng.integers(0, valid.size, 3)] = False
    spacing = (2.0, 0.5, 1.0)[:ndim]
    for statistic in examples(name):
        try:
            expected = whole(statistic, image, valid, spacing)
        except ValueError:
            continue
        parts = [
            statistic.measure(Block.from_image(image[:, *window], spacing, valid[window], sides), keep)
            for window, sides, keep in tiles(shape, cuts, statistic.radius(spacing))
        ]
        rng.shuffle(parts)
        assert statistic.value(functools.reduce(statistic.merge, parts)) == expected


@pytest.mark.thorough
@pytest.mark.parametrize("name", STATISTICS.names())
def test_a_tally_survives_json(name: str) -> None:
    image = np.random.default_rng(0).normal(size=(1, 9, 9)).astype(np.float32)
    for statistic in examples(name):
        tally = statistic.measure(Block.from_image(image, (1.0, 1.0)), (slice(None),) * 2)
        assert statistic.value(Tally.from_text(tally.to_text())) == statistic.value(tally)


@pytest.mark.thorough
@pytest.mark.parametrize("name", STATISTICS.names())
def test_an_image_without_valid_cells_is_refused(name: str) -> None:
    image = np.ones((1, 6, 6), np.float32)
    for statistic in examples(name):
        with pytest.raises(ValueError, match=r"no valid cell|no patch|no window"):
            whole(statistic, image, np.zeros((6, 6), bool))
        with pytest.raises(ValueError, match=r"no valid cell|no patch|no window"):
            statistic.value(Tally())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40),
    small=st.floats(2.0**-149, 2.0**-100, width=32),
)
@settings(max_examples=100, deadline=None)
def test_mean_is_the_exact_mean_rounded_once(dtype: type, values: list[float], small: float) -> None:
    image = np.array([values, [small] * len(values)], dtype)
    exact = sum(map(Fraction, image.ravel().tolist()), Fraction(0)) / image.size
    assert whole(Mean(), image[None]) == float(exact)


def test_mean_of_doubles_of_all_sizes_is_fsum() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(1, 64, 256)) * 10.0 ** rng.integers(-300, 300, (1, 64, 256))
    assert whole(Mean(), image) == math.fsum(image.ravel()) / image.size
    assert whole(Mean(), np.array([[[1e16, 1.0], [-1e16, 2.0]]])) == 0.75


def test_mean_of_more_values_than_one_table_takes() -> None:
    image = np.full((1, 70, 9000), np.nextafter(np.float32(2), np.float32(0)))
    image[0, 0, :5] = -3
    assert whole(Mean(), image) == math.fsum(image.ravel().tolist()) / image.size


def test_a_mean_of_infinite_values_is_refused() -> None:
    for image in ([[np.inf, 1.0]], [[np.inf, -np.inf]]):
        with pytest.raises(ValueError, match="infinite"):
            whole(Mean(), np.array([image]))


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=2))
def test_keys_sort_as_their_values(pair: list[float]) -> None:
    a, b = pair
    assert (a < b) == (ordered_key(a) < ordered_key(b))
    assert value_of_key(ordered_key(a)) == a


def test_extremes_leave_out_invalid_cells() -> None:
    image = np.array([[[-7.0, 2.0, 3.0], [5.0, 11.0, -0.0]]])
    valid = np.array([[False, True, True], [True, False, True]])
    assert (whole(Minimum(), image, valid), whole(Maximum(), image, valid)) == (0.0, 5.0)
    assert (whole(Minimum(), image), whole(Maximum(), image)) == (-7.0, 11.0)


def test_energy_is_the_mean_square_of_forward_differences() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(size=(2, 7, 5, 6))
    spacing = (2.0, 0.5, 3.0)
    wanted = sum((np.diff(image, axis=1 + i) ** 2).sum() / h**2 for i, h in enumerate(spacing)) / (7 * 5 * 6)
    assert whole(Energy(), image, spacing=spacing) == pytest.approx(wanted, rel=1e-12)


def test_no_energy_crosses_a_wall() -> None:
    image = np.array([[[0.0, 2.0, 9.0, 3.0]]])
    valid = np.array([[True, True, False, True]])
    assert whole(Energy(), image, valid) == 4 / 3


def gradient(image: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return |∇u| by central differences of the image with its edges repeated."""
    squares = np.zeros(image.shape[1:])
    for channel in image.astype(float):
        for axis, h in enumerate(spacing):
            wide = np.pad(channel, [(int(i == axis),) * 2 for i in range(channel.ndim)], "edge")
            lower, upper = np.split(wide, [-2], axis)[0], np.split(wide, [2], axis)[1]
            squares += ((upper - lower) / (2 * h)) ** 2
    return np.sqrt(squares)


@pytest.mark.parametrize("shape", [(1, 40, 50), (3, 40, 50), (1, 9, 20, 30)])
@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.999])
def test_quantile_agrees_with_numpy_within_a_bin(shape: tuple[int, ...], q: float) -> None:
    image = np.random.default_rng(3).normal(size=shape).astype(np.float32) * 40
    spacing = (1.5, 0.25, 2.0)[: len(shape) - 1]
    magnitudes = gradient(image, spacing)
    # Between two ranks any value is a quantile; bins are 0.1 % wide.
    low, high = (np.quantile(magnitudes, q, method=m) for m in ("inverted_cdf", "higher"))
    assert 0.998 * low <= whole(GradientQuantile(q), image, spacing=spacing) <= 1.002 * high


def test_smoothing_lowers_the_quantile_as_it_lowers_the_noise() -> None:
    image = np.random.default_rng(4).normal(size=(1, 200, 200)).astype(np.float32)
    assert whole(GradientQuantile(0.9, sigma=1.5), image) < 0.2 * whole(GradientQuantile(0.9), image)


def test_mad_agrees_with_numpy() -> None:
    image = np.random.default_rng(5).normal(size=(1, 90, 110)).astype(np.float32) * 7
    g = gradient(image, (1.0, 1.0))
    wanted = 3 * 1.4826 * np.median(np.abs(g - np.median(g)))
    assert whole(GradientMAD(3), image) == pytest.approx(wanted, rel=3e-3)


@pytest.mark.parametrize("part", [0.2, 0.4, 0.49, 0.6])
def test_mad_of_a_partly_flat_image_takes_the_flat_part_as_exact_zeros(part: float) -> None:
    image = np.random.default_rng(6).normal(size=(1, 100, 100)).astype(np.float32) * 7
    image[:, : int(100 * part)] = 0
    g = gradient(image, (1.0, 1.0))
    wanted = 1.4826 * np.median(np.abs(g - np.median(g)))
    assert whole(GradientMAD(), image) == pytest.approx(wanted, rel=5e-3)


@pytest.mark.parametrize("sigma", [0.01, 5.0, 50.0])
def test_noise_agrees_with_scikit_image_and_the_truth(sigma: float) -> None:
    rows, columns = np.mgrid[:300, :400]
    image = 100 * np.sin(rows / 40) * np.cos(columns / 60)
    image += np.random.default_rng(7).normal(size=image.shape) * sigma
    image = image.astype(np.float32)
    found = whole(Noise(), image[None])
    assert found == pytest.approx(sigma, rel=0.03)
    assert found == pytest.approx(estimate_sigma(image), rel=0.03)
    assert whole(Noise(2.5), image[None]) == 2.5 * found


@pytest.mark.thorough
def test_noise_of_volumes() -> None:
    image = np.random.default_rng(8).normal(size=(1, 40, 50, 60)).astype(np.float32) * 3
    assert whole(Noise(), image) == pytest.approx(3, rel=0.03)


def test_noise_reads_no_patch_with_an_invalid_cell() -> None:
    image = np.random.default_rng(9).normal(size=(1, 60, 60)).astype(np.float32)
    valid = np.ones((60, 60), bool)
    valid[:, 30] = False
    spoilt = image.copy()
    spoilt[:, :, 30] = 1e6
    assert whole(Noise(), image, valid) == whole(Noise(), spoilt, valid)


def test_noise_leaves_out_flat_areas() -> None:
    image = np.random.default_rng(10).normal(size=(1, 200, 200)).astype(np.float32) * 10 + 100
    image[:, :140] = 255
    assert whole(Noise(), image) == pytest.approx(10, rel=0.1)
    assert whole(Noise(), np.full((1, 9, 9), 0.1, np.float32)) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GradientQuantile(0), "q=0 is not possible. Allowed: a number > 0 and < 1"),
        (lambda: GradientQuantile(1.0), "q=1.0"),
        (lambda: GradientQuantile("0.9"), "q='0.9'"),
        (lambda: GradientQuantile(0.9, sigma=-1), "sigma=-1 is not possible. Allowed: a number >= 0"),
        (lambda: GradientMAD(-2), "multiple=-2"),
        (lambda: Noise(0), "multiple=0 is not possible. Allowed: a number > 0"),
        (lambda: Noise(math.nan), "multiple=nan"),
    ],
)
def test_parameters_out_of_range_are_refused(make, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    assert words in str(refused.value)


def test_statistics_are_made_from_mappings() -> None:
    assert statistic_from("contrast", {"quantile": 0.9}) == GradientQuantile(0.9)
    assert statistic_from("contrast", {"quantile": {"q": 0.9, "sigma": 1}}) == GradientQuantile(0.9, sigma=1)
    assert statistic_from("contrast", {"noise": None}) == Noise()
    assert statistic_from("contrast", 0.5) == 0.5
    with pytest.raises(ValueError, match="Its parameters: q, sigma"):
        statistic_from("contrast", {"quantile": {"p": 0.9}})
    with pytest.raises(ValueError, match="Did you mean 'quantile'"):
        statistic_from("contrast", {"quantil": 0.9})


def test_a_contrast_that_reduces_to_zero_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"contrast.*GradientQuantile.*is 0 over this image.*Give"):
        PeronaMalik(contrast=GradientQuantile(0.9)).bind({"contrast": 0.0})
