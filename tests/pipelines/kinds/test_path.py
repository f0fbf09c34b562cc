"""Shortest paths over Zarr: the bits of the whole image in memory, as labels, GeoJSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diffusion_ops as do
from pipelines.image.georeference import to_ground, to_pixels
from pipelines.image.info import Georeference, ImageInfo
from pipelines.refusal import RefusedError
from pipelines.run.run import Report, run
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec
from tests.pipelines.kinds.test_front import marked, rough
from tests.pipelines.runs import read_result, save_source, small_spec

SHAPE, SEED, ENDS = (83, 101), (3, 3), ((75, 90), (80, 2), (40, 60))
IN_ROWS = "row,column,label\n75,90,5\n80,2,2\n40,60,9\n"


def spec_of(folder: Path, tile: int, outputs: tuple[str, ...], ends: str = IN_ROWS, **first: Any) -> Spec:
    """Return the spec of times from a seed, and of paths from ends in a file."""
    np.save(folder / "seeds.npy", marked(SHAPE, SEED))
    (folder / "ends.csv").write_text(ends)
    return small_spec(
        save_source(folder, rough(SHAPE)),
        folder / f"out{tile}.zarr",
        steps=[
            {"name": "times", "operator": "eikonal", "markers": str(folder / "seeds.npy"), **first},
            {"name": "paths", "operator": "shortest-path", "markers": str(folder / "ends.csv")},
        ],
        outputs=[{"name": "paths", "uri": str(folder / f"{tile}-{name}")} for name in outputs],
        run={"tile": tile},
        sink={"chunk": 16},
    )


def whole(**first: Any) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return the times of the whole image, and the ends."""
    times = do.solve(rough(SHAPE), do.Eikonal(**first), markers=marked(SHAPE, SEED))
    ends = np.zeros(SHAPE, np.int32)
    for cell, label in zip(ENDS, (5, 2, 9), strict=True):
        ends[cell] = label
    return times, ends


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def found(report: Report, key: str) -> int:
    assert report.exit_code == 0, report.data["problem"] or report.data["failed"][:1]
    return next(entry[key] for entry in report.data["paths"] if key in entry)


@pytest.mark.parametrize("tile", [pytest.param(16, marks=pytest.mark.slow), 48])
def test_paths_have_the_bits_of_the_whole_image(tmp_path: Path, tile: int) -> None:
    spec = spec_of(tmp_path, tile, ("paths.csv", "paths.geojson"), order=2)
    times, ends = whole(order=2)
    lines = do.ShortestPath().lines(times, ends)
    report = run(spec)
    assert found(report, "paths") == 3
    assert found(report, "points") == sum(len(line.points) for line in lines)
    result = read_result(spec.sink.uri)
    assert result.dtype == np.int32
    assert result.tobytes() == do.solve(times, do.ShortestPath(), markers=ends).tobytes()
    rows = rows_of(tmp_path / f"{tile}-paths.csv")
    points = [[float(row[word]) for word in ("time", "row", "column")] for row in rows]
    assert np.array_equal(points, np.concatenate([line.points for line in lines]))
    features = json.loads((tmp_path / f"{tile}-paths.geojson").read_text())["features"]
    assert [feature["properties"]["label"] for feature in features] == [9, 5, 2]
    for feature, line in zip(features, lines, strict=True):
        assert np.array_equal(feature["geometry"]["coordinates"], line.points[:, :0:-1])
        assert feature["properties"]["time"] == times[tuple(line.points[0, 1:].astype(int))]
    assert verify(spec.sink.uri)["ok"]


def test_paths_end_where_times_begin_also_where_0_is_nodata(tmp_path: Path) -> None:
    """Between two steps a time of 0 stays; in a result it is the number next to it, and a beginning all the same."""
    spec = spec_of(tmp_path, 48, ())
    speed = rough(SHAPE)
    speed[20:30, 20:60] = 0
    np.save(spec.source.uri, speed)
    source = spec.source.model_copy(update={"nodata": 0.0})
    times = do.solve(speed, do.Eikonal(), markers=marked(SHAPE, SEED), nodata=0)
    ends = whole()[1]
    expected = do.solve(np.where(times == 0, np.nan, times), do.ShortestPath(), markers=ends)
    assert set(np.unique(expected)) == {0, 2, 5, 9}
    assert run(spec.model_copy(update={"source": source})).exit_code == 0
    assert np.array_equal(read_result(spec.sink.uri), expected)
    assert np.array_equal(do.solve(times, do.ShortestPath(), markers=ends, nodata=0), expected)


def test_places_on_the_ground_are_those_that_points_are_read_at() -> None:
    cells = np.array([[3.25, 7.5], [0.0, 0.0]])
    for reference in (None, Georeference(transform=(10.0, 2.0, 5e5, 1.0, -20.0, 4e6))):
        spacing = {"y": 2.0, "x": 0.5}
        info = ImageInfo((9, 9), np.dtype("u1"), "yx", (9, 9), spacing=spacing, georeference=reference)
        for cell, (x, y) in zip(cells, to_ground(cells, info), strict=True):
            back = to_pixels({"x": x, "y": y}, info)
            assert (back["y"] - 0.5, back["x"] - 0.5) == pytest.approx(tuple(cell), abs=1e-9)


def test_ends_that_no_front_reaches_are_said_and_nothing_is_published(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, 48, ("paths.csv",), until=1)
    report = run(spec)
    assert report.exit_code == 3
    assert "No path leads to 3 of the marked pixels" in report.data["problem"]
    assert not Path(spec.sink.uri).exists()
    assert not (tmp_path / "48-paths.csv").exists()


def test_what_cannot_be_lines_is_refused(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, 48, ())
    wrong = spec.model_dump() | {
        "steps": spec.model_dump()["steps"][:1],
        "outputs": [{"name": "times", "uri": str(tmp_path / "times.geojson")}],
    }
    with pytest.raises(RefusedError, match="no label image"):
        run(Spec.model_validate(wrong))
    np.save(tmp_path / "ends.npy", np.zeros(SHAPE, np.int32))
    data = spec.model_dump()
    data["steps"][1]["markers"] = str(tmp_path / "ends.npy")
    with pytest.raises(RefusedError, match="There is no marker"):
        run(Spec.model_validate(data))
    assert not Path(spec.sink.uri).exists()
