"""Steady states over files have the bits of the whole image in memory, go on when ended, and say what is wrong."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffusion_ops as do
from diffusion_ops.steady.conjugate import Steps
from pipelines.events import Event, StageDone
from pipelines.refusal import RefusedError
from pipelines.run.run import run
from pipelines.steady import cycle
from tests.pipelines.runs import read_result, save_source, small_spec

SHAPE = (90, 75)
TOLERANCE = 0.02
"""Coarse: what is compared here are bits, and they are the same at any; every cycle is a dozen small tasks."""


WALKER = {"operator": "random-walker", "tolerance": TOLERANCE}


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return an image of patches with noise, and five labels; a line of negative ones makes a wall."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = ((y // 23 + x // 17) % 3 * 60 + 20 * rng.random(SHAPE)).astype(np.uint8)
    markers = np.where(rng.random(SHAPE) < 0.01, rng.integers(1, 6, SHAPE), 0).astype(np.int16)
    markers[50:70, 20] = -1
    return image, markers


def steady_spec(
    folder: Path, image: np.ndarray, step: dict[str, Any], tile: int = 64, **beside: np.ndarray
) -> Any:
    """Return a spec with further images beside the source."""
    for word, one in beside.items():
        np.save(folder / f"{word}.npy", one)
        step = {**step, word: str(folder / f"{word}.npy")}
    return small_spec(
        save_source(folder, image),
        folder / "out.zarr",
        steps=[step],
        sink={"chunk": 16},
        run={"tile": tile, "batch": None},
    )


class Stop:
    """Ends a run as a signal would, after so many stages."""

    def __init__(self, stages: int) -> None:
        self.left = stages

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageDone):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


@pytest.mark.thorough
@pytest.mark.parametrize("tile", [pytest.param(32, marks=pytest.mark.slow), 64])
def test_labels_of_a_random_walker_are_those_of_the_whole_image(tmp_path: Path, tile: int) -> None:
    image, markers = scene()
    spec = steady_spec(tmp_path, image, WALKER, tile, markers=markers)
    report = run(spec).data
    assert report["complete"]
    whole = do.solve(image, do.RandomWalker(), markers=markers, tolerance=TOLERANCE)
    assert np.array_equal(read_result(tmp_path / "out.zarr"), whole)
    (found,) = report["steady_states"]
    assert found["cycles"] > 5
    assert found["largest_correction"] <= TOLERANCE / 16
    assert found["unreached"] == 0


@pytest.mark.thorough
def test_probabilities_are_channels_with_the_bits_of_the_whole_image(tmp_path: Path) -> None:
    image, markers = scene()
    image = image.astype(np.float32)
    image[3:9, 7], markers[3:9, 7] = np.nan, 0
    step = {"operator": "random-walker", "probabilities": True, "labels": 5, "tolerance": 1e-2}
    assert run(steady_spec(tmp_path, image, step, markers=markers)).data["complete"]
    walker = do.RandomWalker(probabilities=True)
    whole = do.solve(image, walker, markers=markers, tolerance=1e-2)
    result = read_result(tmp_path / "out.zarr")
    assert result.shape == (5, *SHAPE)
    assert np.array_equal(result, whole, equal_nan=True)


def test_a_run_that_is_ended_within_a_cycle_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    image, markers = scene()
    spec = steady_spec(tmp_path, image, WALKER, markers=markers)
    for stages in (4, 9, 60):
        with pytest.raises(KeyboardInterrupt):
            run(spec, listeners=[Stop(stages)])
    report = run(spec).data
    assert report["complete"]
    # Four tiles; only those in flight are done twice.
    cycles = report["steady_states"][0]["cycles"] + 2
    lines = (tmp_path / "out.zarr.run" / "journal.jsonl").read_text().splitlines()
    assert len(lines) <= 4 + 4 + cycles * (4 + 1 + 4) + 2 * 4 + 4 + 20
    assert np.array_equal(
        read_result(tmp_path / "out.zarr"),
        do.solve(image, do.RandomWalker(), markers=markers, tolerance=TOLERANCE),
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "lost",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("answers@*", "rows", "labels")] + ["state@*"],
)
def test_a_run_that_has_lost_an_array_starts_again_where_it_must(tmp_path: Path, lost: str) -> None:
    image, markers = scene()
    spec = steady_spec(tmp_path, image, WALKER, 80, markers=markers)
    # The second two of five labels are being solved.
    with pytest.raises(KeyboardInterrupt):
        run(spec, listeners=[Stop(62)])
    (folder,) = (tmp_path / "out.zarr.run").glob("run-*")
    gone = list((folder / "state").glob(f"random-walker-{lost}"))
    assert gone
    for one in gone:
        shutil.rmtree(one)
    assert run(spec).data["complete"]
    assert np.array_equal(
        read_result(tmp_path / "out.zarr"),
        do.solve(image, do.RandomWalker(), markers=markers, tolerance=TOLERANCE),
    )


@pytest.mark.thorough
def test_unknown_pixels_of_colours_are_filled_with_the_bits_of_the_whole_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = (rng.random((60, 50, 3)) * 200).astype(np.float32)
    known = (rng.random(image.shape[:2]) < 0.2).astype(np.uint8)
    image[5, 5] = np.nan
    spec = steady_spec(tmp_path, image, {"operator": "inpainting", "by": "harmonic"}, known=known)
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"axes": "yxc"})})
    assert run(spec).data["complete"]
    whole = do.solve(image, do.Inpainting(by="harmonic"), known=known > 0, channel_axis=-1)
    result = read_result(tmp_path / "out.zarr")
    assert np.array_equal(result if result.shape == whole.shape else np.moveaxis(result, 0, -1), whole)
    there = (known > 0) & ~np.isnan(image).any(-1)
    assert np.array_equal(whole[there], image[there])


def test_pixels_without_a_value_are_those_to_be_filled_where_the_valid_ones_are_known(tmp_path: Path) -> None:
    image = np.random.default_rng(2).random((40, 45)).astype(np.float32)
    image[10:20, 5:30] = np.nan
    step = {"operator": "inpainting", "by": "harmonic", "known": "valid"}
    assert run(steady_spec(tmp_path, image, step)).data["complete"]
    result = read_result(tmp_path / "out.zarr")
    assert np.isfinite(result).all()
    assert np.array_equal(result, do.solve(image, do.Inpainting(by="harmonic")))


def test_a_tolerance_that_is_not_reached_is_said_and_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, markers = scene()
    spec = steady_spec(tmp_path, image, WALKER, 80, markers=markers)
    monkeypatch.setattr(cycle, "CYCLES", 2)
    report = run(spec)
    assert report.exit_code == 3
    assert "After 2 cycles" in report.data["problem"]
    assert not (tmp_path / "out.zarr").exists()
    assert list((tmp_path / "out.zarr.run").glob("run-*/state/random-walker-state@*"))


@pytest.mark.parametrize(
    ("change", "step", "said"),
    [
        (lambda m: m * 0, {}, "markers holds no label"),
        (lambda m: m, {"tolerance": 1e-12}, "below what rounding leaves"),
        (lambda m: m, {"probabilities": True}, "Give labels"),
        (lambda m: m, {"probabilities": True, "labels": 4}, "5 different labels; labels=4"),
    ],
    ids=["no-label", "tolerance", "unknown-number", "other-number"],
)
def test_what_has_no_answer_is_refused(tmp_path: Path, change: Any, step: dict[str, Any], said: str) -> None:
    image, markers = scene()
    spec = steady_spec(tmp_path, image, {"operator": "random-walker", **step}, markers=change(markers))
    with pytest.raises(RefusedError, match=said):
        run(spec)
    assert not (tmp_path / "out.zarr").exists()


def test_markers_at_walls_are_refused_once_they_are_found(tmp_path: Path) -> None:
    image, markers = scene()
    image = image.astype(np.float32)
    image[np.nonzero(markers == 1)] = np.nan
    spec = steady_spec(tmp_path, image, WALKER, markers=markers)
    with pytest.raises(RefusedError, match="markers lie at walls"):
        run(spec)


def test_steps_follow_from_products_once() -> None:
    first = Steps.after(4.0, 2.0, None)
    assert (first.alpha, first.beta) == (2.0, 0.0)
    assert dataclasses.astuple(Steps.after(0.0, 0.0, first)) == (0.0, 0.0, 0.0)


@pytest.mark.thorough
def test_proven_bounds_are_those_of_the_whole_image_and_open_pixels_follow(tmp_path: Path) -> None:
    image, markers = scene()
    walker = do.RandomWalker(error_bound=1.0)
    step = {"operator": "random-walker", "error_bound": 1.0, "tolerance": 1e-2}
    report = run(steady_spec(tmp_path, image, step, 64, markers=markers)).data
    assert report["complete"]
    (found,) = report["steady_states"]
    with pytest.raises(ValueError, match="proven to be at most") as refused:
        do.solve(image, do.RandomWalker(error_bound=1e-12), markers=markers, tolerance=1e-2)
    assert f"at most {found['error_bound']:.3g};" in str(refused.value)
    assert 0 < found["open"] < 0.1 * image.size
    assert np.array_equal(
        read_result(tmp_path / "out.zarr"), do.solve(image, walker, markers=markers, tolerance=1e-2)
    )
