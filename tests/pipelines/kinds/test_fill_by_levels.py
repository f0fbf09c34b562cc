"""Filling by levels over files has the bits of memory, goes on when it was ended, and says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffusion_ops as do
from pipelines.events import Event, StageDone
from pipelines.image.kept_sources import cached_source
from pipelines.kinds.complete import Tell
from pipelines.plan.search import make_plan
from pipelines.refusal import RefusedError
from pipelines.run.run import run
from pipelines.steady.held import ALONG_AXES, RequireHeld
from tests.diffusion_ops.operators.test_inpainting import parted_sides
from tests.pipelines.kinds.test_steady_state import Stop, steady_spec
from tests.pipelines.runs import read_result

STEP = {"operator": "inpainting", "rounds": 3}
EDGES, VARIATION = "edge-enhancing", "total-variation"


def scene() -> tuple[Any, Any, Any]:
    """Return an image of edges, where it is known, and a mask with a wall that nearly cuts it in two."""
    y, x = np.mgrid[:150, :131]
    image = (np.where(x + 0.4 * y > 80, 180, 40) + 20 * np.sin(y / 9)).astype(np.uint8)
    known = np.random.default_rng(0).random(image.shape) < 0.1
    known[40:75, 50:90] = False
    mask = np.ones(image.shape, bool)
    mask[60, 4:] = False
    return image, known, mask


def as_read(result: Any, like: Any) -> Any:
    """Return a result with its channels last, as they were given."""
    return result if result.shape == like.shape else np.moveaxis(result, 0, -1)


@pytest.mark.parametrize(
    ("by", "tile"),
    [
        (EDGES, 48),
        (VARIATION, 48),
        (EDGES, 160),
        *(pytest.param(by, tile, marks=pytest.mark.slow) for by, tile in ((EDGES, 96), (VARIATION, 96))),
        pytest.param(VARIATION, 160, marks=pytest.mark.slow),
    ],
)
def test_tiles_of_any_size_have_the_bits_of_the_whole_image(tmp_path: Path, by: str, tile: int) -> None:
    image, known, mask = scene()
    beside = {"known": known.astype(np.uint8), "mask": mask.astype(np.uint8)}
    spec = steady_spec(tmp_path, image, {**STEP, "by": by}, tile, **beside)
    report = run(spec).data
    assert report["complete"]
    assert report["fillings"] == [{"position": 0, "levels": {48: 2, 96: 1, 160: 0}[tile], "rounds": 3}]
    whole = do.solve(image, do.Inpainting(by=by, rounds=3), known=known, mask=mask)
    result = read_result(tmp_path / "out.zarr")
    assert np.array_equal(result, whole)
    assert np.array_equal(result[known], image[known])


@pytest.mark.thorough
@pytest.mark.parametrize("at", [46, 47])
def test_nothing_comes_through_a_wall_of_one_cell(tmp_path: Path, at: int) -> None:
    image, known, mask = parted_sides(at)
    beside = {"known": known.astype(np.uint8), "mask": mask.astype(np.uint8)}
    assert run(steady_spec(tmp_path, image, STEP, 32, **beside)).data["complete"]
    result = read_result(tmp_path / "out.zarr")
    assert np.abs(result - image)[mask].max() < 1e-11
    assert np.array_equal(result, do.solve(image, do.Inpainting(rounds=3), known=known, mask=mask))


@pytest.mark.thorough
@pytest.mark.parametrize("by", [EDGES, VARIATION])
def test_channels_share_the_coefficients_and_gaps_are_filled(tmp_path: Path, by: str) -> None:
    image, known, _ = scene()
    colours = np.stack([image, image[::-1], 255 - image], -1).astype(np.float32)
    colours[~known] = np.nan
    spec = steady_spec(tmp_path, colours, {**STEP, "by": by, "known": "valid"}, 64)
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"axes": "yxc"})})
    assert run(spec).data["complete"]
    whole = do.solve(colours, do.Inpainting(by=by, rounds=3), channel_axis=-1)
    assert np.array_equal(as_read(read_result(tmp_path / "out.zarr"), whole), whole)


def test_states_are_named_as_no_step_can_be_and_reading_the_scene_counts(tmp_path: Path) -> None:
    image, known, mask = scene()
    spec = steady_spec(tmp_path, image, STEP, 48, known=known.astype(np.uint8), mask=mask.astype(np.uint8))
    plan = make_plan(spec, cached_source(spec.source).info)
    works = [stage.work for stage in plan.stages]
    written = [work.writes.path for work in works if work.writes is not None and work.is_state]
    assert len(set(written)) == len(written) > 4
    assert all("@" in path for path in written)
    (check,) = (work for work in works if isinstance(work, RequireHeld))
    (tell,) = (stage for stage in plan.stages if isinstance(stage.work, Tell))
    assert tell.cost.memory_bytes >= 48 * 48 * (check.scene.bytes_per_cell() + ALONG_AXES.cell_bytes)


@pytest.mark.slow
@pytest.mark.parametrize("by", [EDGES, VARIATION])
def test_volumes_are_filled_with_the_bits_of_the_whole_image(tmp_path: Path, by: str) -> None:
    random = np.random.default_rng(1)
    volume = (np.indices((36, 40, 44)).sum(0) * 2 + 9 * random.random((36, 40, 44))).astype(np.float32)
    known = (random.random(volume.shape) < 0.1).astype(np.uint8)
    assert run(steady_spec(tmp_path, volume, {**STEP, "by": by}, 32, known=known)).data["complete"]
    whole = do.solve(volume, do.Inpainting(by=by, rounds=3), known=known > 0)
    assert np.array_equal(read_result(tmp_path / "out.zarr"), whole)


def test_what_is_known_everywhere_alike_is_filled_with_it(tmp_path: Path) -> None:
    _, known, _ = scene()
    image = np.full(known.shape, 0.1)
    assert run(steady_spec(tmp_path, image, STEP, known=known.astype(np.uint8))).data["complete"]
    assert np.array_equal(read_result(tmp_path / "out.zarr"), image)


@pytest.mark.thorough
@pytest.mark.parametrize("by", [EDGES, VARIATION])
def test_a_run_that_is_ended_anywhere_goes_on_to_the_same_bits(tmp_path: Path, by: str) -> None:
    image, known, _ = scene()
    spec = steady_spec(tmp_path, image, {**STEP, "by": by}, known=known.astype(np.uint8))
    # While levels are made, within rounds of a coarse level, and on the finest.
    for stages in (2, 3, 4, 2):
        with pytest.raises(KeyboardInterrupt):
            run(spec, listeners=[Stop(stages)])
    done: list[str] = []
    report = run(spec, listeners=[lambda e: done.append(e.title) if isinstance(e, StageDone) else None]).data
    assert report["complete"]
    assert 0 < len(done) <= 5
    whole = do.solve(image, do.Inpainting(by, rounds=3), known=known)
    assert np.array_equal(read_result(tmp_path / "out.zarr"), whole)


def test_pixels_that_walls_part_from_all_known_ones_are_refused_before_anything_is_filled(
    tmp_path: Path,
) -> None:
    image, known, mask = scene()
    mask[60] = False
    known[:60] = False
    events: list[Event] = []
    with pytest.raises(RefusedError, match=f"{60 * 131} unknown pixels have no known one"):
        run(
            steady_spec(tmp_path, image, STEP, known=known.astype(np.uint8), mask=mask.astype(np.uint8)),
            listeners=[events.append],
        )
    assert not any(isinstance(e, StageDone) and "round" in e.title for e in events)
    assert not (tmp_path / "out.zarr").exists()


def test_an_image_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    image, known, _ = scene()
    with pytest.raises(RefusedError, match="No pixel is known"):
        run(steady_spec(tmp_path, image, STEP, known=np.zeros(known.shape, np.uint8)))


@pytest.mark.parametrize("by", [EDGES, VARIATION])
def test_values_that_overflow_are_refused(tmp_path: Path, by: str) -> None:
    image, known, _ = scene()
    far = np.where(image > 100, 3e38, -3e38).astype(np.float32)
    with pytest.raises(RefusedError, match="overflows in float32"):
        run(steady_spec(tmp_path, far, {**STEP, "by": by}, known=known.astype(np.uint8)))
