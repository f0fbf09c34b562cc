"""Times, parameters and weights that choose themselves: the same for any storage, and as good as by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.ensemble import Ensemble, combine, ensemble, least_weights
from diffusion_ops.evolution.operator import OPERATORS
from diffusion_ops.evolve import evolve
from diffusion_ops.kernels.conductance import CONDUCTANCES
from diffusion_ops.operators.gradient_magnitude import GradientMagnitude
from diffusion_ops.operators.heat import Heat
from diffusion_ops.operators.perona_malik import PeronaMalik
from diffusion_ops.operators.total_variation import TotalVariation
from diffusion_ops.statistics.noise import Noise
from diffusion_ops.statistics.noise_gradient import NoiseGradient
from diffusion_ops.tuning.samples import read_samples, tile_shape
from diffusion_ops.tuning.tune import default_times, make_candidates, resolve_automatic_time, tune

Array = NDArray[Any]


def blobs(*shape: int, noise: float = 20.0, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Return flat areas with noise."""
    clean = 100.0 * (sum(np.sin(2 + index / 9) for index in np.indices(shape)) > 0)
    return (clean + np.random.default_rng(seed).normal(0, noise, shape)).astype(dtype)


AUTO = PeronaMalik(contrast="auto")


# ---- samples


def test_a_small_image_is_taken_whole() -> None:
    positions, blocks = read_samples(blobs(60, 70), samples=2, size=64)
    assert positions == [(0, ((0, 60), (0, 70)))]
    assert np.array_equal(blocks[0].u[0], blobs(60, 70))


@given(
    shape=st.lists(st.integers(1, 5000), min_size=2, max_size=3),
    samples=st.integers(1, 20),
    size=st.integers(1, 300),
    seed=st.integers(0, 5),
)
@settings(max_examples=60)
def test_samples_lie_inside_and_apart(shape: list[int], samples: int, size: int, seed: int) -> None:
    # Small images are taken whole; large samples take long.
    assume(samples * size**2 < math.prod(shape) and samples * size**2 <= 1 << 20)
    image = da.zeros(shape, chunks=-1)
    # Zeros of a Dask array are made for each tile alone.
    positions, blocks = read_samples(image, samples=samples, size=size, seed=seed)
    assert len(set(positions)) == len(positions) == len(blocks) == samples
    for (_, ends), block in zip(positions, blocks, strict=True):
        assert block.spatial == tuple(b - a for a, b in ends) == tile_shape(tuple(shape), size)
        assert all(0 <= a < b <= n for (a, b), n in zip(ends, shape, strict=True))
        assert block.origin == tuple(a for a, _ in ends)


def test_tiles_have_as_many_cells_whatever_the_shape() -> None:
    assert tile_shape((5000, 5000), 256) == (256, 256)
    assert tile_shape((500, 500, 500), 256) == (40, 40, 41)
    assert tile_shape((4, 5000, 5000), 256) == (4, 128, 128)
    assert tile_shape((10, 90000), 256) == (10, 6554)


def test_seeds_move_the_samples_and_shapes_alone_fix_them() -> None:
    def positions(image: Array, seed: int) -> Any:
        return read_samples(image, samples=3, size=16, seed=seed)[0]

    image = blobs(200, 300)
    assert positions(image, 0) == positions(image * 0, 0) != positions(image, 1)


def test_tiles_without_a_valid_cell_are_drawn_again() -> None:
    image = np.full((640, 640), np.nan, np.float32)
    image[:, 320:] = blobs(640, 320)
    positions, blocks = read_samples(image, samples=8, size=64)
    assert len(blocks) == 8
    assert all(ends[1][1] > 320 for _, ends in positions)
    with pytest.raises(ValueError, match="valid cell"):
        read_samples(np.full((640, 640), np.nan), samples=2, size=16)


def test_only_the_samples_of_a_dask_array_are_read() -> None:
    touched: set[Any] = set()

    def read(block_info: Any = None) -> Array:
        location = block_info[None]["chunk-location"]
        touched.add(tuple(location))
        return blobs(64, 64, seed=int(location[0]))

    image = da.map_blocks(
        read, chunks=((64,) * 40, (64,) * 40), dtype=np.float32, meta=np.zeros((0, 0), np.float32)
    )
    tuning = tune(image, AUTO, samples=3, size=64)
    assert touched == {(a // 64, b // 64) for _, ((a, _), (b, _)) in tuning.positions}
    assert tuning.cells == 3 * 64**2


def test_frames_share_the_samples() -> None:
    image = xr.DataArray(np.stack([blobs(64, 64, seed=s) for s in range(3)]), dims=("time", "y", "x"))
    positions, blocks = read_samples(image, samples=3, size=64)
    assert [frame for frame, _ in positions] == [0, 1, 2] == [block.frame for block in blocks]
    positions, _ = read_samples(image, samples=2, size=32)
    assert len({frame for frame, _ in positions}) == 2


def test_walls_guides_and_channels_come_with_the_samples() -> None:
    image, mask = np.moveaxis(blobs(3, 90, 80), 0, -1), np.ones((90, 80), bool)
    mask[:, 7] = False
    guide = blobs(90, 80, seed=5)
    positions, blocks = read_samples(
        image, channel_axis=2, mask=mask, guide=guide, spacing=2, samples=2, size=40
    )
    for (_, ((a, b), (c, d))), block in zip(positions, blocks, strict=True):
        assert block.spacing == (2.0, 2.0)
        inside = mask[a:b, c:d]
        assert np.array_equal(block.u[:, inside], np.moveaxis(image[a:b, c:d], -1, 0)[:, inside])
        assert inside.all() if block.valid is None else np.array_equal(block.valid, inside)
        assert block.guide is not None


def test_what_cannot_be_sampled_is_refused() -> None:
    image = blobs(20, 20)
    with pytest.raises(TypeError, match="Dataset"):
        read_samples(xr.Dataset({"a": (("y", "x"), image)}))
    with pytest.raises(TypeError, match="Masked"):
        read_samples(np.ma.MaskedArray(image))
    with pytest.raises(ValueError, match="spatial axes"):
        read_samples(image[0])
    for wrong in ({"samples": 0}, {"size": 1.5}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"is not possible\. Allowed: a whole number"):
            read_samples(image, **wrong)


# ---- the choice


@pytest.mark.parametrize("chunks", [(300, 400), (97, 130), (64, 64), ((1, 299), (400,))], ids=str)
@pytest.mark.parametrize("size", [32, 256])
def test_chunks_and_containers_do_not_change_the_choice(chunks: Any, size: int) -> None:
    image = blobs(300, 400)
    image[40:60, 20:200] = np.nan
    wanted = tune(image, AUTO, samples=4, size=size)
    assert tune(da.from_array(image, chunks), AUTO, samples=4, size=size) == wanted
    named = xr.DataArray(da.from_array(image, chunks), dims=("y", "x"))
    assert tune(named, AUTO, samples=4, size=size) == wanted


@pytest.mark.parametrize("criterion", ["sure", "j-invariance", "discrepancy", "decorrelation"])
def test_more_noise_takes_more_time(criterion: str) -> None:
    times = [tune(blobs(128, 128, noise=s), Heat(), criterion=criterion).time for s in (5, 20, 60)]
    assert times == sorted(times)
    assert times[0] < times[2]


@pytest.mark.thorough
def test_noise_is_estimated_or_given() -> None:
    image = blobs(128, 128)
    assert tune(image, Heat()).noise == pytest.approx(20, rel=0.1)
    assert tune(image, Heat(), noise=7).noise == 7
    assert tune(image, Heat(), criterion="decorrelation").noise is None
    with pytest.raises(ValueError, match=r"noise=-1.*image units"):
        tune(image, Heat(), noise=-1)
    with pytest.raises(ValueError, match="no noise"):
        tune(np.ones((30, 30)), Heat())


def test_times_are_in_squared_units_of_the_spacing() -> None:
    image = blobs(128, 128)
    once, wide = tune(image, AUTO), tune(image, AUTO, spacing=3)
    assert wide.time == pytest.approx(9 * once.time)
    assert default_times((2.0, 3.0)) == tuple(4 * t for t in default_times((1.0, 1.0)))


def test_candidates_are_all_ranked() -> None:
    image = blobs(96, 96)
    tuning = tune(
        image, PeronaMalik, {"contrast": [5, 40, {"noise": 2}], "sigma": [0, 0.5]}, times=[4, 0.5, 2]
    )
    assert len(tuning.curves) == 6
    assert {curve.times for curve in tuning.curves} == {(0.5, 2, 4)}
    assert [c.score for c in tuning.curves] == sorted(c.score for c in tuning.curves)
    assert (tuning.operator, tuning.time) == (tuning.curves[0].operator, tuning.curves[0].time)
    assert tuning.score == tuning.curves[0].scores[tuning.curves[0].best]
    alone = tune(image, tuning.operator, times=[0.5, 2, 4])
    assert alone.curves[0] == tuning.curves[0]
    assert tuning.work == sum(tune(image, c.operator, times=[0.5, 2, 4]).work for c in tuning.curves)


def test_candidates_are_made_of_names_classes_and_values() -> None:
    assert make_candidates("heat") == [Heat()] == make_candidates(Heat)
    found = make_candidates(PeronaMalik(contrast=3), {"sigma": [0, 1]})
    assert found == [PeronaMalik(contrast=3), PeronaMalik(contrast=3, sigma=1)]
    assert make_candidates(["heat", AUTO]) == [Heat(), AUTO]
    with pytest.raises(ValueError, match="nothing to choose"):
        make_candidates(Heat(), {"contrast": []})
    with pytest.raises(TypeError, match="is not an operator"):
        make_candidates(3)
    with pytest.raises(ValueError, match=r"no criterion 'sur'\. Did you mean 'sure'"):
        tune(blobs(20, 20), Heat(), criterion="sur")
    with pytest.raises(ValueError, match="times=0"):
        tune(blobs(20, 20), Heat(), times=[0])
    with pytest.raises(ValueError, match=r"times=1\.5 .* whole number"):
        tune(blobs(20, 20), TotalVariation(weight=20), times=[1.5])


def test_iterations_and_their_number_can_be_chosen() -> None:
    image = blobs(96, 96)
    by_weight = tune(image, TotalVariation, {"weight": [1, 20, 500]})
    assert by_weight.operator == TotalVariation(weight=20)
    assert by_weight.time is None
    along = tune(image, TotalVariation(weight=20), times=[10, 50, 200])
    assert along.curves[0].scores[-1] == by_weight.score


def test_operators_that_change_what_is_measured_are_refused() -> None:
    colour = np.stack([blobs(32, 32)] * 3)
    with pytest.raises(ValueError, match="keeps the channels"):
        tune(colour, GradientMagnitude(), channel_axis=0)


def test_a_tuning_is_a_value() -> None:
    first, second = (tune(blobs(64, 64), AUTO) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert dataclasses.replace(first, seconds=0.0) == first


# ---- "auto"


def test_automatic_times_stand_where_they_were_asked_for() -> None:
    image = blobs(96, 96)
    time = resolve_automatic_time(image, AUTO, time="auto")
    assert time == tune(image, AUTO).time
    assert resolve_automatic_time(image, AUTO, time=3) == 3
    assert resolve_automatic_time(image, [AUTO, Heat()], time=["auto", 2]) == [time, 2]
    assert resolve_automatic_time(image, TotalVariation(weight=3), time="auto") == "auto"
    with pytest.raises(ValueError, match="Leave out steps"):
        resolve_automatic_time(image, AUTO, time="auto", steps=3)


def test_times_along_a_chain_reckon_with_what_was_done() -> None:
    image = blobs(96, 96)
    first, second = resolve_automatic_time(image, [AUTO, Heat()], time="auto")
    assert first == tune(image, AUTO).time
    assert second < tune(image, Heat()).time / 3
    chunked = da.from_array(image, 31)
    assert resolve_automatic_time(chunked, [AUTO, Heat()], time="auto") == [first, second]


@pytest.mark.parametrize("conductance", CONDUCTANCES)
def test_every_conductance_chooses_its_contrast_by_the_noise(conductance: str) -> None:
    for sigma in (0, 0.5):
        chosen = PeronaMalik(contrast="auto", conductance=conductance, sigma=sigma).contrast
        assert isinstance(chosen, NoiseGradient)
        assert 0.01 < chosen.multiple < 4
    with pytest.raises(ValueError, match="'auto'"):
        OPERATORS["perona-malik"](contrast=1, sigma="auto")


def test_the_gradient_of_noise_grows_with_channels_and_finer_spacing() -> None:
    image, everything = blobs(64, 64)[None], (slice(None), slice(None))

    def found(statistic: Any, fields: Array, spacing: tuple[float, ...]) -> float:
        block = Block.from_image(fields, spacing)
        return float(statistic.value(statistic.measure(block, everything)))

    level = found(Noise(), image, (1.0, 1.0))
    assert found(NoiseGradient(), image, (1.0, 1.0)) == level
    assert found(NoiseGradient(3), image, (0.5, 0.5)) == pytest.approx(6 * level)
    assert found(NoiseGradient(), np.repeat(image, 4, 0), (1.0, 1.0)) == pytest.approx(2 * level)


def test_contrast_and_time_choose_themselves_in_any_units() -> None:
    image = blobs(96, 96)
    time = resolve_automatic_time(image, AUTO, time="auto")
    small = evolve(image, AUTO, time=time)
    large = image * np.float32(64)
    scaled = evolve(large, AUTO, time=16 * time, spacing=4)
    assert resolve_automatic_time(large, AUTO, time="auto", spacing=4) == pytest.approx(16 * time)
    assert scaled == pytest.approx(64 * small, rel=1e-3, abs=1)


# ---- ensembles


MEMBERS = [PeronaMalik(contrast="auto", conductance="rational", sigma=0.5), AUTO]


def test_weights_sum_to_one_and_lower_the_estimate() -> None:
    chosen = ensemble(blobs(128, 128), MEMBERS, noise=20)
    assert len(chosen.members) == len(chosen.weights) == len(chosen.scores) == 6
    assert sum(chosen.weights) == pytest.approx(1, abs=1e-12)
    assert chosen.score <= min(chosen.scores)
    assert chosen.gain >= 0


@given(seed=st.integers(0, 10**6), count=st.integers(1, 8), rank=st.integers(1, 8))
def test_no_ensemble_is_worse_than_its_best_member(seed: int, count: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(count, rank)) * 10.0 ** rng.integers(-3, 3, count)[:, None]
    products, slopes = factor @ factor.T, rng.normal(size=count)
    scores = np.diag(products) + 2 * slopes
    weights = least_weights(products, slopes, int(scores.argmin()))
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    combined = weights @ products @ weights + 2 * weights @ slopes
    assert combined <= scores.min() + 1e-6 * (1 + np.abs(products).max())


def test_score_of_a_member_is_that_of_its_evolution_alone() -> None:
    image = blobs(96, 96)
    chosen = ensemble(image, Heat(), times=[0, 1, 4], schedule="explicit", noise=20)
    tuned = tune(image, Heat(), times=[1, 4], schedule="explicit", noise=20)
    assert chosen.scores[1:] == pytest.approx(tuned.curves[0].scores, rel=1e-3)
    # The image itself: nothing is removed and every cell follows itself.
    assert chosen.scores[0] == pytest.approx(20**2, rel=1e-4)


@pytest.mark.thorough
def test_an_ensemble_is_the_same_for_any_chunks_and_combines_any_container() -> None:
    image = blobs(120, 150)
    image[30:40, 50:70] = np.nan
    chosen = ensemble(image, MEMBERS, samples=3, size=40)
    chunked = da.from_array(image, (50, 61))
    assert ensemble(chunked, MEMBERS, samples=3, size=40) == chosen
    whole = combine(image, chosen)
    lazy = combine(chunked, chosen)
    assert isinstance(lazy, da.Array)
    assert np.array_equal(lazy.compute(), whole, equal_nan=True)
    named = xr.DataArray(chunked, dims=("y", "x"), attrs={"units": "K"})
    result = combine(named, chosen)
    assert result.attrs == {"units": "K"}
    assert np.array_equal(result.values, whole, equal_nan=True)
    parts = [evolve(image, m.operator, time=m.time) for m in chosen.members]
    wanted = sum(w * part for w, part in zip(chosen.weights, parts, strict=True))
    assert whole == pytest.approx(wanted, abs=1e-2, nan_ok=True)


def test_pixels_without_a_value_come_out_as_they_are() -> None:
    image = blobs(64, 64)
    image[3, 4], image[5, 6] = np.inf, -9999
    chosen = ensemble(image, MEMBERS, nodata=-9999)
    result = combine(image, chosen, nodata=-9999)
    assert (result[3, 4], result[5, 6]) == (np.inf, -9999)
    assert np.isfinite(np.delete(result.ravel(), 3 * 64 + 4)).all()


def test_the_mean_is_kept() -> None:
    image = blobs(96, 96, dtype=np.float64)
    result = combine(image, ensemble(image, MEMBERS))
    assert result.mean() == pytest.approx(image.mean(), rel=1e-9)


def test_a_single_member_is_itself() -> None:
    image = blobs(40, 40)
    chosen = ensemble(image, TotalVariation(weight=20), noise=20)
    assert (chosen.weights, chosen.gain, chosen.members[0].time) == ((1.0,), 0.0, None)
    assert np.array_equal(combine(image, chosen), evolve(image, TotalVariation(weight=20)))


# ---- real images


def psnr(image: Array, clean: Array) -> float:
    """Return the peak signal-to-noise ratio for a peak of 255, in dB."""
    return -10 * math.log10(float(np.mean((image.astype(np.float64) - clean) ** 2)) / 255**2)


def noisy_pairs(find: Callable[..., Path], level: float, numbers: range) -> list[tuple[Array, Array]]:
    """Return photographs without and with white Gaussian noise."""
    pairs = []
    for number in numbers:
        clean = iio.imread(find("denoise", "Set12", f"{number:02}.png")).astype(np.float32)
        noise = np.random.default_rng(number).normal(0, level, clean.shape)
        pairs.append((clean, (clean + noise).astype(np.float32)))
    return pairs


BY_HAND = {
    ("exponential", 0.0): (30.35, 27.64, 24.28),
    ("rational", 0.0): (30.57, 27.92, 24.67),
    ("charbonnier", 0.0): (30.58, 28.06, 25.08),
    ("tukey", 0.0): (30.27, 27.54, 24.16),
    ("rational", 0.5): (30.46, 28.11, 25.37),
}
"""Mean PSNR over Set12 with contrast and time fitted to other images with noise of 15, 25 and 50, in dB."""


@pytest.mark.slow
@pytest.mark.parametrize(("conductance", "sigma"), BY_HAND)
def test_nothing_given_is_as_good_as_parameters_fitted_by_hand(
    conductance: str, sigma: float, shared_data: Callable[..., Path]
) -> None:
    operator = PeronaMalik(contrast="auto", conductance=conductance, sigma=sigma)
    for level, wanted in zip((15, 25, 50), BY_HAND[conductance, sigma], strict=True):
        found = []
        for clean, noisy in noisy_pairs(shared_data, level, range(1, 13)):
            time = resolve_automatic_time(noisy, operator, time="auto")
            found.append(psnr(evolve(noisy, operator, time=time), clean))
        assert np.mean(found) > wanted - 0.15


def gains(find: Callable[..., Path], level: float, numbers: range) -> tuple[list[float], list[Ensemble]]:
    """Return how much better than their best members ensembles of three operators are, in dB."""
    operators = [*MEMBERS, PeronaMalik(contrast="auto", conductance="charbonnier")]
    found, chosen = [], []
    for clean, noisy in noisy_pairs(find, level, numbers):
        chosen.append(ensemble(noisy, operators))
        best = chosen[-1].members[int(np.argmin(chosen[-1].scores))]
        alone = evolve(noisy, best.operator, time=best.time)
        found.append(psnr(combine(noisy, chosen[-1]), clean) - psnr(alone, clean))
    return found, chosen


@pytest.mark.thorough
def test_an_ensemble_of_three_operators_gains_on_a_photograph(shared_data: Callable[..., Path]) -> None:
    found, chosen = gains(shared_data, 25, range(1, 3))
    assert min(found) > 0.05
    assert found == pytest.approx([c.gain for c in chosen], abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("level", [15, 25, 50])
def test_an_ensemble_of_three_operators_gains_on_set12(level: int, shared_data: Callable[..., Path]) -> None:
    found, _ = gains(shared_data, level, range(1, 13))
    assert np.mean(found) > 0.15
    # An image may lose where its texture is taken for noise.
    assert min(found) > -0.1
