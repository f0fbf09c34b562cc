"""Fronts over Zarr: the bits of the whole image in memory, whatever the tiles, and whatever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from pipelines.refusal import RefusedError
from pipelines.run.run import Report, run
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec
from tests.pipelines.run.test_never_lost import (
    command,
    kill_all,
    linux,
    start,
    tiles_in_journal,
    wait_for_tiles,
)
from tests.pipelines.runs import read_result, save_source, small_spec


def rough(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """Return speeds that vary, with walls that are to be gone around."""
    speed = np.exp(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)
    speed[..., 30, 5:] = speed[..., 50, :-5] = np.nan
    return speed


def marked(shape: tuple[int, ...], *cells: tuple[int, ...]) -> NDArray[np.int32]:
    """Return markers 1, 2, ... at some cells."""
    markers = np.zeros(shape, np.int32)
    for label, cell in enumerate(cells, start=1):
        markers[cell] = label
    return markers


def spec_of(folder: Path, image: NDArray[Any], markers: NDArray[Any], tile: int = 32, **step: Any) -> Spec:
    np.save(folder / "markers.npy", markers)
    step = {"operator": "eikonal", "markers": str(folder / "markers.npy"), **step}
    step["markers"] = step.pop("marked_by", step["markers"])
    how = {"run": {"tile": tile}, "sink": {"chunk": 16}}
    return small_spec(save_source(folder, image), folder / f"out{tile}.zarr", steps=[step], **how)


def found(report: Report, key: str) -> int:
    assert report.exit_code == 0, report.data["failed"][:1]
    return next(entry[key] for entry in report.data["fronts"] if key in entry)


@pytest.mark.parametrize("tile", [16, 48])
def test_times_have_the_bits_of_the_whole_image(tmp_path: Path, tile: int) -> None:
    image, markers = rough((83, 101)), marked((83, 101), (3, 3), (70, 90))
    spec = spec_of(tmp_path, image, markers, tile)
    report = run(spec)
    assert found(report, "residual") == 0
    assert found(report, "visits") > found(report, "tiles")
    expected = do.solve(image, do.Eikonal(), markers=markers)
    assert read_result(spec.sink.uri).tobytes() == expected.tobytes()
    proof = verify(spec.sink.uri)
    assert proof["ok"]
    assert "runs through the whole image" in " ".join(proof["notes"])


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(53, 61), pytest.param((20, 60, 40), marks=pytest.mark.slow)])
def test_times_of_second_order_have_the_bits_of_the_whole_image(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    image, markers = rough(shape), marked(shape, (3,) * len(shape), tuple(n - 5 for n in shape))
    problem = do.Eikonal(order=2, until=60)
    whole = do.solve(image, problem, markers=markers)
    for tile in (16, 32):
        spec = spec_of(tmp_path, image, markers, tile, order=2, until=60)
        report = run(spec)
        assert found(report, "residual") == 0
        assert found(report, "unreachable") == np.isinf(whole).sum()
        assert read_result(spec.sink.uri).tobytes() == whole.tobytes()


@pytest.mark.thorough
def test_signed_distances_have_the_bits_of_the_whole_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(65, 101)).astype(np.float32).cumsum(axis=0).cumsum(axis=1)
    image[30, 5:] = np.nan
    for order, tile in ((1, 32), (2, 16)):
        step = {"operator": "signed-distance", "level": 9, "order": order}
        spec = small_spec(
            save_source(tmp_path, image),
            tmp_path / f"distance{order}.zarr",
            steps=[step],
            run={"tile": tile},
            sink={"chunk": 16},
        )
        report = run(spec)
        assert found(report, "residual") == 0
        whole = do.solve(image, do.SignedDistance(level=9, order=order))
        assert (whole < 0).any()
        assert read_result(spec.sink.uri).tobytes() == whole.tobytes()
        assert verify(spec.sink.uri)["ok"]
    lost = small_spec(spec.source.uri, tmp_path / "none.zarr", steps=[{**step, "level": 1e9}])
    with pytest.raises(RefusedError, match="does not cross the level 1e\\+09"):
        run(lost)
    assert not (tmp_path / "none.zarr").exists()


@pytest.mark.thorough
def test_labels_of_volumes_have_the_bits_of_the_whole_image(tmp_path: Path) -> None:
    shape = (36, 52, 40)
    image, markers = rough(shape), marked(shape, (0, 3, 3), (35, 51, 39), (7, 40, 10))
    markers[:, 10:12, 10:12] = -1  # walls
    spec = spec_of(tmp_path, image, markers, 32, operator="geodesic-labels", sigma=0.7)
    assert run(spec).exit_code == 0
    expected = do.solve(image, do.GeodesicLabels(sigma=0.7), markers=markers)
    result = read_result(spec.sink.uri)
    assert result.dtype == np.int32
    assert result.tobytes() == expected.tobytes()
    assert (result[:, 10:12, 10:12] == 0).all()


@pytest.mark.thorough
def test_frames_and_channels_run_as_if_alone(tmp_path: Path) -> None:
    image, markers = rough((3, 2, 83, 40)), marked((83, 40), (2, 2), (80, 30))
    spec = spec_of(tmp_path, image, markers, operator="geodesic-labels")
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"axes": "tcyx"})})
    assert run(spec).exit_code == 0
    alone = [do.solve(one, do.GeodesicLabels(), markers=markers, channel_axis=0) for one in image]
    assert read_result(spec.sink.uri).tobytes() == np.stack(alone).tobytes()


def test_markers_and_masks_may_be_results_of_steps(tmp_path: Path) -> None:
    image = np.zeros((70, 66), np.float32)
    image[20:40, 20:40], image[5, 5] = 9, 2
    steps = [
        {"name": "edges", "operator": "canny", "sigma": 1.0, "low": 1, "high": 2},
        {
            "name": "far",
            "operator": "geodesic-labels",
            "input": "source",
            "markers": "edges",
            "mask": "source",
        },
    ]
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", steps=steps, run={"tile": 16})
    spec = spec.model_copy(update={"sink": spec.sink.model_copy(update={"chunk": 16})})
    assert run(spec).exit_code == 0
    edges = do.evolve(image, do.Canny(sigma=1.0, low=1, high=2)).astype(int)
    expected = do.solve(image, do.GeodesicLabels(), markers=edges, mask=image != 0)
    assert read_result(spec.sink.uri).tobytes() == expected.tobytes()


@pytest.mark.thorough
def test_tiles_beyond_the_last_time_are_not_visited(tmp_path: Path) -> None:
    image, markers = np.ones((160, 160), np.float32), marked((160, 160), (5, 5))
    spec = spec_of(tmp_path, image, markers, 16, until=30)
    report = run(spec)
    assert found(report, "tiles") <= 9
    expected = do.solve(image, do.Eikonal(until=30), markers=markers)
    assert found(report, "unreachable") == np.isinf(expected).sum() > 0
    assert read_result(spec.sink.uri).tobytes() == expected.tobytes()


@pytest.mark.thorough
def test_apply_takes_markers_from_a_file(tmp_path: Path) -> None:
    image = np.ones((40, 50), np.float32)
    (tmp_path / "points.csv").write_text("row,column,label\n3,4,9\n30,44,2\n")
    source, target = save_source(tmp_path, image), str(tmp_path / "out.zarr")
    given = ["geodesic-labels", source, target, "--markers", "points.csv", "-p", "by=image"]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli.command", "apply", *given],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    markers = np.zeros(image.shape, int)
    markers[3, 4], markers[30, 44] = 9, 2
    expected = do.solve(image, do.GeodesicLabels("image"), markers=markers)
    assert read_result(target).tobytes() == expected.tobytes()


# ---- never lost


@pytest.mark.thorough
@linux
def test_a_killed_front_goes_on_and_has_the_same_bytes(tmp_path: Path) -> None:
    image = np.ones((68, 160), np.float32)
    image[8::16] = np.nan
    image[8::32, -3:] = image[24::32, :3] = 1
    markers = marked(image.shape, (0, 0))
    np.save(tmp_path / "source.npy", image)
    np.save(tmp_path / "markers.npy", markers)
    spec = tmp_path / "killed.yaml"
    spec.write_text(
        "source: {uri: source.npy}\nsteps: [{operator: eikonal, markers: ./markers.npy, order: 2}]\n"
        "sink: {uri: killed.zarr, chunk: 16}\nrun: {tile: 32, threads: 2, memory: 2GiB}\n"
    )
    # In the front, and while its order is raised.
    for stage, visits in ((1, 25), (2, 5)):
        process = start(spec)
        wait_for_tiles(tmp_path, "killed", visits, process, stage)
        kill_all(process)
    assert not (tmp_path / "killed.zarr").exists()
    last = subprocess.run(command(spec), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    expected = do.solve(image, do.Eikonal(order=2), markers=markers)
    assert read_result(tmp_path / "killed.zarr").tobytes() == expected.tobytes()
    report = json.loads((tmp_path / "killed.zarr.run" / "report.json").read_text())
    visits = sum(entry.get("visits", 0) for entry in report["fronts"])
    # Every visit is in the journal once, but for one that a kill has cut off: nothing began anew.
    tiles = 2 * report["stages"][0]["tiles"]
    assert tiles_in_journal(tmp_path, "killed") - tiles - 2 <= visits + 2


# ---- bad input


def refusal(folder: Path, image: NDArray[Any], markers: NDArray[Any], **step: Any) -> str:
    spec = spec_of(folder, image, markers, **step)
    with pytest.raises(RefusedError) as error:
        run(spec)
    assert not Path(spec.sink.uri).exists()
    return str(error.value)


def test_impossible_markers_are_refused(tmp_path: Path) -> None:
    image = rough((64, 64))
    none, walled = np.zeros((64, 64), np.int32), marked((64, 64), (30, 20))
    assert "There is no marker" in refusal(tmp_path, image, none)
    assert "All 1 marked pixels are walls" in refusal(tmp_path, image, walled)
    assert "64" in refusal(tmp_path, image, marked((60, 64), (3, 3)))
    assert "along z" in refusal(tmp_path, np.stack([image, image]), marked((64, 64), (3, 3)))
    with pytest.raises(RefusedError, match="eikonal needs markers"):
        spec_of(tmp_path, image, none, marked_by="")
    with pytest.raises(RefusedError, match="heat does not read markers"):
        spec_of(tmp_path, image, none, operator="heat", steps=1)
    with pytest.raises(RefusedError, match="no earlier step 'seeds'"):
        spec_of(tmp_path, image, none, marked_by="seeds")


def test_speeds_and_costs_that_are_none_are_refused_before_work_starts(tmp_path: Path) -> None:
    markers, image = marked((64, 64), (3, 3)), np.ones((64, 64), np.float32)
    image[50, 50], image[9, 40] = -1, -2
    for step in ({"image_is": "cost"}, {"operator": "geodesic-labels", "by": "image"}, {"zero": "wall"}):
        said = refusal(tmp_path, image, markers, **step)
        assert " is -2 at one of 2 pixels" in said
        assert not (tmp_path / "out32.zarr.run").exists()
    image[image < 0] = 1
    image[40, 40] = 0
    assert "speed is 0 at one of 1 pixels" in refusal(tmp_path, image, markers)
    spec = spec_of(tmp_path, image, marked((64, 64), (3, 3)), 16, zero="wall")
    assert run(spec).exit_code == 0
    assert np.isnan(read_result(spec.sink.uri)).sum() == 1


@pytest.mark.thorough
@linux
def test_a_damaged_state_is_noticed_and_made_again(tmp_path: Path) -> None:
    image, markers = rough((120, 130)), marked((120, 130), (3, 3))
    spec = spec_of(tmp_path, image, markers, 32)
    text = json.dumps(spec.model_dump(mode="json"))
    (tmp_path / "spec.json").write_text(text)
    process = start(tmp_path / "spec.json")
    wait_for_tiles(tmp_path, "out32", 35, process)
    kill_all(process)
    states = Path(f"{spec.sink.uri}.run").glob("run-*/state/*@*/c/**/*")
    chunk = sorted(path for path in states if path.is_file())[3]
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    report = run(spec)
    assert report.exit_code == 0, report.data["failed"][:1]
    expected = do.solve(image, do.Eikonal(), markers=markers)
    assert read_result(spec.sink.uri).tobytes() == expected.tobytes()
