"""Files of points become labels of pixels, in pixels or in the image's coordinate system."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.image.info import Georeference, ImageInfo
from pipelines.plan.beside import read_beside
from pipelines.plan.points import read_points
from pipelines.refusal import RefusedError

PLAIN = ImageInfo((20, 30), np.dtype(np.uint8), "yx", (20, 30), {"y": 2.0, "x": 0.5})
GROUND = PLAIN.replace(georeference=Georeference("", (10.0, 0.0, 5000.0, 0.0, -10.0, 9000.0)))


def csv(folder: Path, text: str) -> str:
    (folder / "points.csv").write_text(text)
    return str(folder / "points.csv")


def test_rows_and_columns_are_pixels(tmp_path: Path) -> None:
    uri = csv(tmp_path, "row,column,label\n3,4,7\n19,29,2\n")
    assert read_points(uri, PLAIN, "yx") == ((3, 4, 7), (19, 29, 2))


def test_coordinates_are_those_of_the_image(tmp_path: Path) -> None:
    uri = csv(tmp_path, "X, Y\n5004,8999\n5296,8801\n")
    assert read_points(uri, GROUND, "yx") == ((0, 0, 1), (19, 29, 2))
    # Without a georeference in units of the spacing, from the centre of the first pixel.
    assert read_points(csv(tmp_path, "x,y\n0,0\n14.5,38\n"), PLAIN, "yx") == ((0, 0, 1), (19, 29, 2))


def test_geojson_has_points_and_labels(tmp_path: Path) -> None:
    one = {"geometry": {"type": "Point", "coordinates": [5004, 8999]}, "properties": {"label": 5}}
    two = {"geometry": {"type": "MultiPoint", "coordinates": [[5015, 8999], [5296, 8801]]}}
    (tmp_path / "points.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [one, two]})
    )
    found = read_points(str(tmp_path / "points.geojson"), GROUND, "yx")
    assert found == ((0, 0, 5), (0, 1, 2), (19, 29, 3))


def test_regions_of_points_are_those_of_an_image(tmp_path: Path) -> None:
    beside = read_beside(csv(tmp_path, "row,column,label\n3,4,7\n19,29,2\n"), PLAIN, "yx")
    whole = beside.reading.pixels.read((slice(0, 20), slice(0, 30)))
    assert {(int(y), int(x)): int(whole[y, x]) for y, x in np.argwhere(whole)} == {(3, 4): 7, (19, 29): 2}
    part = beside.reading.pixels.read((slice(2, 9), slice(4, 10)))
    assert np.array_equal(part, whole[2:9, 4:10])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,column\n20,3\n", "outside of the image"),
        ("x,y\n0,0\n", "outside of the image"),
        ("row,column,label\n3,4,1\n3,4,2\n", "the labels 1 and 2 are at the same pixel"),
        ("row,column,label\n3,4,0\n", "not a whole number > 0"),
        ("row,column,label\n3,4,1.5\n", "not a whole number > 0"),
        ("row,column\n3,here\n", "to be numbers"),
        ("a,b\n1,2\n", "to be numbers"),
        ("row,column\n", "has no points"),
    ],
)
def test_impossible_points_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        read_points(csv(tmp_path, text), GROUND, "yx")
