"""Filling hole by hole over files has the bits of memory, goes on when it was ended, and refuses what is too large."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffusion_ops as do
from pipelines.events import StageDone
from pipelines.image.kept_sources import cached_source
from pipelines.plan.search import make_plan
from pipelines.refusal import RefusedError
from pipelines.run.run import run
from pipelines.steady import holes
from tests.pipelines.cli.test_command import diffuse
from tests.pipelines.kinds.test_fill_by_levels import as_read
from tests.pipelines.kinds.test_steady_state import Stop, steady_spec
from tests.pipelines.runs import read_result, save_source

WAYS = ("biharmonic", "telea")


def scene() -> tuple[Any, Any, Any]:
    """Return an image, where it is known, and a mask; holes lie in tiles, over their corners, and at edges."""
    y, x = np.mgrid[:210, :200]
    image = (100 + 60 * np.sin(y / 7) * np.cos(x / 9) + (x + 0.4 * y > 80) * 30).astype(np.uint8)
    known = np.ones(image.shape, bool)
    for row, column in ((3, 3), (180, 5), (5, 190)):
        known[row : row + 8, column : column + 9] = False
    # Over corners of tiles of 48 and of 64.
    known[92:130, 92:131] = known[-1, -1] = False
    mask = np.ones(image.shape, bool)
    mask[105, 80:110] = mask[184, 7] = False
    return image, known, mask


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("tile", [48, 160, pytest.param(32, marks=pytest.mark.slow)])
def test_tiles_of_any_size_have_the_bits_of_the_whole_image(tmp_path: Path, by: str, tile: int) -> None:
    image, known, mask = scene()
    beside = {"known": known.astype(np.uint8), "mask": mask.astype(np.uint8)}
    report = run(steady_spec(tmp_path, image, {"operator": "inpainting", "by": by}, tile, **beside)).data
    assert report["complete"]
    assert report["fillings"] == [{"position": 0, "boxes": 5, "largest": 38 * 39}]
    whole = do.solve(image, do.Inpainting(by=by), known=known, mask=mask)
    result = read_result(tmp_path / "out.zarr")
    assert np.array_equal(result, whole)
    assert np.array_equal(result[known], image[known])


@pytest.mark.parametrize("by", WAYS)
def test_channels_and_gaps_without_a_value_are_filled(tmp_path: Path, by: str) -> None:
    image, known, _ = scene()
    colours = np.stack([image, image[::-1], 255 - image], -1).astype(np.float32)
    colours[~known] = np.nan
    spec = steady_spec(tmp_path, colours, {"operator": "inpainting", "by": by, "known": "valid"}, 64)
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"axes": "yxc"})})
    assert run(spec).data["complete"]
    whole = do.solve(colours, do.Inpainting(by=by), channel_axis=-1)
    assert not np.isnan(whole).any()
    assert np.array_equal(as_read(read_result(tmp_path / "out.zarr"), whole), whole)


@pytest.mark.slow
@pytest.mark.parametrize("by", WAYS)
def test_volumes_are_filled_with_the_bits_of_the_whole_image(tmp_path: Path, by: str) -> None:
    random = np.random.default_rng(1)
    volume = (np.indices((36, 40, 110)).sum(0) * 2 + 9 * random.random((36, 40, 110))).astype(np.float32)
    known = np.ones(volume.shape, np.uint8)
    known[29:36, 29:35, 30:36] = known[2, 3, 100:] = 0
    assert run(steady_spec(tmp_path, volume, {"operator": "inpainting", "by": by}, 32, known=known)).data[
        "complete"
    ]
    whole = do.solve(volume, do.Inpainting(by=by), known=known > 0)
    assert np.array_equal(read_result(tmp_path / "out.zarr"), whole)


@pytest.mark.parametrize("by", WAYS)
def test_a_run_that_is_ended_anywhere_goes_on_to_the_same_bits(tmp_path: Path, by: str) -> None:
    image, known, _ = scene()
    spec = steady_spec(
        tmp_path, image, {"operator": "inpainting", "by": by}, 48, known=known.astype(np.uint8)
    )
    for stages in (1, 1):
        with pytest.raises(KeyboardInterrupt):
            run(spec, listeners=[Stop(stages)])
    done: list[str] = []
    report = run(spec, listeners=[lambda e: done.append(e.title) if isinstance(e, StageDone) else None]).data
    assert report["complete"]
    # The survey and the boxes are not made again.
    assert done == ["write inpainting", *done[1:]]
    assert report["fillings"][0]["boxes"] == 5
    whole = do.solve(image, do.Inpainting(by), known=known)
    assert np.array_equal(read_result(tmp_path / "out.zarr"), whole)


@pytest.mark.parametrize("by", WAYS)
def test_a_hole_that_no_task_has_memory_for_is_refused_before_anything_is_written(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "LEAST_CELLS", 0)
    image, known, _ = scene()
    known[5:200, 5:190] = False
    spec = tmp_path / "spec.json"
    np.save(tmp_path / "known.npy", known.astype(np.uint8))
    parts = {
        "source": {"uri": save_source(tmp_path, image)},
        "steps": [{"operator": "inpainting", "by": by, "known": str(tmp_path / "known.npy")}],
        "sink": {"uri": str(tmp_path / "out.zarr"), "chunk": 16},
        "run": {"tile": 32},
    }
    spec.write_text(json.dumps(parts))
    done = diffuse("run", str(spec))
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "lies in a box of 207 x 197 pixels, or more" in said
    assert "Give tiles of" in said
    assert "Take by: edge-enhancing, harmonic or total-variation" in said
    assert not (tmp_path / "out.zarr").exists()
    assert not list(tmp_path.glob("out.zarr.run/*"))


@pytest.mark.parametrize("by", ["telea", pytest.param("biharmonic", marks=pytest.mark.slow)])
def test_one_operator_is_applied_and_verified_by_the_command(tmp_path: Path, by: str) -> None:
    image, known, _ = scene()
    gaps = np.where(known, image, np.nan).astype(np.float32)
    source, target = save_source(tmp_path, gaps), str(tmp_path / "out.zarr")
    assert (
        diffuse("apply", "inpainting", source, target, "-p", f"by={by}", "-p", "known=valid").exit_code == 0
    )
    assert np.array_equal(read_result(target), do.solve(gaps, do.Inpainting(by=by)))
    assert diffuse("verify", target).exit_code == 0


def test_more_holes_than_can_be_joined_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_ops.blocks.boxes.MOST_CELLS", 6)
    image, known, _ = scene()
    spec = steady_spec(
        tmp_path, image, {"operator": "inpainting", "by": "telea"}, known=known.astype(np.uint8)
    )
    with pytest.raises(RefusedError, match=r"spreads over \d+ squares of a coarse grid.*Allowed: 6.*Take by"):
        run(spec)


def test_the_plan_says_how_large_a_hole_may_be_and_needs_no_pixel(tmp_path: Path) -> None:
    image, known, _ = scene()
    titles = {}
    for by in WAYS:
        step = {"operator": "inpainting", "by": by}
        spec = steady_spec(tmp_path, image, step, known=known.astype(np.uint8))
        plan = make_plan(spec, cached_source(spec.source).info)
        titles[by] = [stage.title for stage in plan.stages]
        assert plan.memory_per_task >= holes.LEAST_CELLS * {"biharmonic": 270, "telea": 52}[by]
    assert titles["telea"][1] == "find holes of up to about 65,536 pixels in a box"


def test_pixels_that_walls_part_from_all_known_ones_are_refused(tmp_path: Path) -> None:
    image, known, mask = scene()
    mask[91, 91:132] = mask[130, 91:132] = mask[91:131, 91] = mask[91:131, 131] = False
    beside = {"known": known.astype(np.uint8), "mask": mask.astype(np.uint8)}
    with pytest.raises(RefusedError, match="unknown pixels have no known one"):
        run(steady_spec(tmp_path, image, {"operator": "inpainting", "by": "telea"}, 48, **beside))
    assert not (tmp_path / "out.zarr").exists()
