"""Rules that choose without a clean image: exact where they can be, and near the truth on real images."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.probe import PROBE_SIZE, divergence, random_signs, uniform_numbers
from diffusion_ops.criteria.decorrelation import Decorrelation
from diffusion_ops.criteria.j_invariance import JInvariance, neighbour_mean
from diffusion_ops.criteria.sure import SURE
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.operators.heat import Heat
from diffusion_ops.operators.perona_malik import PeronaMalik
from diffusion_ops.statistics.noise import Noise
from diffusion_ops.tuning.criterion import CRITERIA, exact_means
from diffusion_ops.tuning.samples import measure, read_samples
from diffusion_ops.tuning.trajectory import Trial
from diffusion_ops.tuning.tune import default_times

Array = NDArray[Any]

each_criterion = pytest.mark.parametrize("name", CRITERIA.names())


def psnr(image: Array, clean: Array) -> float:
    """Return the peak signal-to-noise ratio for a peak of 255, in dB."""
    return -10 * math.log10(float(np.mean((image.astype(np.float64) - clean) ** 2)) / 255**2)


def noisy_pair(path: Path, level: float, seed: int) -> tuple[Array, Array]:
    """Return a photograph without and with white Gaussian noise."""
    clean = iio.imread(path).astype(np.float32)
    return clean, (clean + np.random.default_rng(seed).normal(0, level, clean.shape)).astype(np.float32)


# ---- what every criterion promises


@each_criterion
def test_it_scores_a_result_with_a_number(name: str) -> None:
    image = np.random.default_rng(0).normal(100, 10, (3, 32, 40)).astype(np.float32)
    trial = Trial.begin(CRITERIA[name](), [Block.from_image(image, (1.0, 1.0))], None, 0)
    scores = trial.scores(Heat(), default_times((1.0, 1.0)), None)
    assert all(math.isfinite(score) for score in scores)
    assert 0 <= trial.rule.best(scores) < len(scores)


@each_criterion
def test_no_order_of_samples_changes_a_bit(name: str) -> None:
    rng = np.random.default_rng(1)
    rule = CRITERIA[name]()
    samples = [Block.from_image(rng.normal(0, 5, (1, 16, 17)), (1.0, 1.0)) for _ in range(6)]
    inputs = [[s.u.copy(), *rule.disturbed(s.u, None, 5.0, 0, i)] for i, s in enumerate(samples)]
    fields = [rule.terms(some, [image * 0.9 for image in some], 5.0) for some in inputs]
    order = rng.permutation(6)
    shuffled = exact_means([samples[i] for i in order], [fields[i] for i in order])
    assert shuffled == exact_means(samples, fields)


@each_criterion
def test_invalid_cells_have_no_say(name: str) -> None:
    rng = np.random.default_rng(2)
    image, valid = rng.normal(100, 10, (1, 40, 48)), rng.random((40, 48)) > 0.2
    found = []
    for junk in (0.0, 1e6):
        block = Block.from_image(image, (1.0, 1.0), valid)
        block.u[:, ~valid] = junk
        trial = Trial.begin(CRITERIA[name](), [block], 10.0, 0)
        found.append(trial.scores(PeronaMalik(contrast=20), (0.5, 2.0), None))
    assert found[0] == found[1]


def test_means_are_exact() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 9000)) * 10.0 ** rng.integers(-200, 200, (2, 9000))
    valid = rng.random((9, 1000)) > 0.3
    samples = [Block.from_image(v.reshape(1, 9, 1000), (1.0, 1.0), valid) for v in values]
    kept = [x for v in values for x in v.reshape(9, 1000)[valid].tolist()]
    wanted = float(sum(map(Fraction, kept), Fraction(0)) / len(kept))
    assert exact_means(samples, [[v.reshape(1, 9, 1000)] for v in values]) == [wanted]


# ---- random signs


def test_signs_are_even_and_fixed_by_seed_and_stream() -> None:
    signs = random_signs(7, 3, (64, 65))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.05
    assert np.array_equal(signs, random_signs(7, 3, (64, 65)))
    assert all(abs((signs * random_signs(*key, (64, 65))).mean()) < 0.05 for key in [(7, 4), (8, 3)])
    # A known answer, so that choices stay what they are from version to version.
    assert random_signs(0, 0, (8,)).tolist() == [1, 1, -1, 1, 1, -1, -1, 1]
    assert all(0 <= x < 1 for x in uniform_numbers(0, 1, 100))


# ---- SURE


def steps_of_heat(shape: tuple[int, int], steps: int) -> tuple[Leg, float]:
    """Return explicit steps of the heat equation, and their exact mean derivative of a cell by itself."""
    symbol = sum(np.ix_(*(2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in shape)))
    return Leg(Heat(), (Cycle(0.2),) * steps), float(((1 - 0.2 * symbol) ** steps).mean())


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_divergence_of_a_linear_filter_is_its_trace(steps: int) -> None:
    leg, trace = steps_of_heat((40, 48), steps)
    image = Block.from_image(np.random.default_rng(4).normal(100, 20, (1, 40, 48)), (1.0, 1.0))
    found = []
    for seed in range(200):
        trial = Trial.begin(SURE(), [image], 20.0, seed)
        pair = (trial.inputs[0], trial.outcome([leg])[0])
        found.append(float(divergence(*pair, 20.0).mean()))
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - trace) < 4 * error
    assert error < 0.002


def test_it_is_the_squared_error_on_average() -> None:
    rng = np.random.default_rng(5)
    clean = 50 * np.sin(np.arange(64) / 9)[:, None] * np.cos(np.arange(60) / 7)
    leg, _ = steps_of_heat((64, 60), 3)
    differences = []
    for seed in range(100):
        image = Block.from_image((clean + rng.normal(0, 10, clean.shape))[None], (1.0, 1.0))
        trial = Trial.begin(SURE(), [image], 10.0, seed)
        found = trial.outcome([leg])
        terms = SURE().terms(trial.inputs[0], found[0], 10.0)
        estimate = SURE().score(exact_means([image], [terms]), 10.0)
        differences.append(estimate - float(((found[0][0][0] - clean) ** 2).mean()))
    assert abs(np.mean(differences)) < 4 * np.std(differences) / 10


def test_the_size_of_the_probe_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    image = (100 * (np.arange(96) % 24 > 11) + rng.normal(0, 20, (1, 96, 96))).astype(np.float32)
    found = []
    for size in (PROBE_SIZE / 4, PROBE_SIZE, 4 * PROBE_SIZE):
        monkeypatch.setattr("diffusion_ops.blocks.probe.PROBE_SIZE", size)
        trial = Trial.begin(SURE(), [Block.from_image(image, (1.0, 1.0))], 20.0, 0)
        found.append(trial.scores(PeronaMalik(contrast=20), (0.5, 1.0, 2.0), None))
    assert found[0] == pytest.approx(found[1], rel=0.03)
    assert found[2] == pytest.approx(found[1], rel=0.1)


# ---- the others


def test_neighbours_beyond_walls_are_left_out_of_the_mean() -> None:
    image = np.array([[[1.0, 2, 3], [5, 7, 11], [13, 17, 19]]])
    valid = np.array([[True, True, True], [True, True, False], [True, True, True]])
    mean = neighbour_mean(image, valid)[0]
    assert mean[1, 1] == (2 + 5 + 17) / 3
    assert mean[0, 0] == (2 + 5) / 2
    assert mean[2, 2] == 17
    assert neighbour_mean(image, None)[0, 1, 1] == (2 + 5 + 11 + 17) / 4


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 8, 12, 8)])
def test_masked_pixels_are_not_seen_and_do_not_touch(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(7).random(shape)
    copies = JInvariance().disturbed(image, None, 0.0, 0, 0)
    seen = np.zeros(shape)
    for copy in copies:
        changed = copy != image
        assert changed.mean() == 4.0 ** -(len(shape) - 1)
        assert all(not (changed & np.roll(changed, 1, axis)).any() for axis in range(1, len(shape)))
        seen += changed
    assert len(copies) == 4
    assert seen.max() == 1


def test_its_score_is_the_error_plus_the_variance_of_the_noise() -> None:
    clean = np.zeros((1, 256, 256))
    image = Block.from_image(clean + np.random.default_rng(8).laplace(0, 10, clean.shape), (1.0, 1.0))
    trial = Trial.begin(JInvariance(), [image], None, 0)
    # Far along everything is the mean, and the error is the noise alone: 2 * 10² for Laplace's law.
    assert trial.scores(Heat(), (200.0,), None)[0] == pytest.approx(200, rel=0.05)


def test_decorrelation_stops_at_the_first_minimum() -> None:
    assert Decorrelation().best([0.5, 0.3, 0.2, 0.4, 0.1]) == 2
    assert Decorrelation().best([0.5, 0.3, 0.2]) == 2
    assert Decorrelation().best([0.5]) == 0


# ---- real images

LEVELS = (15, 25, 50)

FIGURES = {
    "sure": {15: (30.52, 0.1), 25: (28.19, 0.1), 50: (25.20, 0.1)},
    "j-invariance": {15: (30.37, 0.8), 25: (28.07, 0.95), 50: (25.18, 0.3)},
    "discrepancy": {15: (30.27, 0.8), 25: (27.99, 0.8), 50: (25.02, 0.8)},
    "decorrelation": {15: (30.14, 3.0), 25: (27.97, 1.0), 50: (25.02, 1.1)},
}
"""Mean PSNR over Set12 at the chosen times, in dB, and the most that one image may lose against its best time."""


def chosen_and_best(name: str, clean: Array, noisy: Array, level: float) -> tuple[float, float]:
    """Return the PSNR at the time that a criterion chooses, and the best one along the evolution."""
    _, samples = read_samples(noisy)
    trial = Trial.begin(CRITERIA[name](), samples, level, 0)
    operator, times = (
        PeronaMalik(contrast=0.26 * level, conductance="rational", sigma=0.5),
        default_times((1, 1)),
    )
    quality, scores = [], []
    for _, results in trial.results(operator, times, None):
        quality.append(psnr(results[0][0][0], clean))
        scores.append(trial.score(results))
    return quality[trial.rule.best(scores)], max(quality)


@pytest.mark.thorough
@pytest.mark.parametrize("level", LEVELS)
def test_sure_finds_the_best_time_of_single_images(level: int, shared_data: Callable[..., Path]) -> None:
    for number in (1, 9):
        clean, noisy = noisy_pair(shared_data("denoise", "Set12", f"{number:02}.png"), level, number)
        chosen, best = chosen_and_best("sure", clean, noisy, level)
        assert best - chosen < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@each_criterion
def test_set12_is_denoised_as_well_as_published(
    name: str, level: int, shared_data: Callable[..., Path]
) -> None:
    found = []
    for number in range(1, 13):
        clean, noisy = noisy_pair(shared_data("denoise", "Set12", f"{number:02}.png"), level, number)
        found.append(chosen_and_best(name, clean, noisy, level))
    chosen, best = np.array(found).T
    wanted, most = FIGURES[name][level]
    assert chosen.mean() > wanted - 0.1
    assert (best - chosen).max() < most


@pytest.mark.slow
@pytest.mark.parametrize(("level", "wanted"), [(5, 6.6), (15, 15.95), (25, 25.5), (50, 49.9)])
def test_noise_of_set12(level: int, wanted: float, shared_data: Callable[..., Path]) -> None:
    found = []
    for number in range(1, 13):
        _, noisy = noisy_pair(shared_data("denoise", "Set12", f"{number:02}.png"), level, number)
        found.append(measure({"noise": Noise()}, [Block.from_image(noisy[None], (1.0, 1.0))])["noise"])
    assert np.mean(found) == pytest.approx(wanted, abs=0.5)
    assert np.mean(found) == pytest.approx(level, abs=1.7)
