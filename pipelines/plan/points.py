"""Read files of points, CSV or GeoJSON, as labels of pixels."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from pipelines.image.georeference import to_pixels
from pipelines.image.info import ImageInfo
from pipelines.refusal import RefusedError
from pipelines.store.places import place_of

ENDINGS = (".csv", ".geojson", ".json")
"""Endings of files of points."""

_CELLS, _GROUND = {"z": "plane", "y": "row", "x": "column"}, {"z": "z", "y": "y", "x": "x"}


def is_points(uri: str) -> bool:
    """Return whether an address is that of a file of points."""
    return PurePath(uri).suffix.lower() in ENDINGS


def read_points(uri: str, source: ImageInfo, spatial: str) -> tuple[tuple[int, ...], ...]:
    """Return the pixels of points, one index per spatial axis, and the label of each.

    A CSV file has columns row, column (and plane), the numbers of pixels from 0; or x, y (and z), as a GeoJSON file
    has: in the coordinate system of the image, or in units of its spacing where it has none. A column or property
    `label` holds whole numbers > 0; without it the points are 1, 2, 3, ...

    Raises
    ------
    RefusedError
        For a file that is none of these, points outside of the image, and two labels at one pixel.
    """
    found: dict[tuple[int, ...], int] = {}
    place, path = place_of(uri)
    try:
        text = place.read(path).decode("utf-8-sig")
        rows = list(
            _csv_rows(text) if PurePath(uri).suffix.lower() == ".csv" else _features(json.loads(text))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            f"{uri} cannot be read as points ({type(error).__name__}: {error}). Allowed: a CSV file with columns x, y "
            "or row, column, and label; a GeoJSON file of points."
        ) from error
    for number, row in enumerate(rows, start=1):
        cell = tuple(_cell(uri, number, row, source, spatial))
        label = _label(uri, number, row)
        if found.setdefault(cell, label) != label:
            raise RefusedError(
                f"{uri}: the labels {found[cell]} and {label} are at the same pixel {cell}. Remove one."
            )
    if not found:
        raise RefusedError(f"{uri} has no points. Give at least one.")
    return tuple((*cell, label) for cell, label in found.items())


def _csv_rows(text: str) -> Iterator[Mapping[str, Any]]:
    for row in csv.DictReader(io.StringIO(text)):
        yield {str(key).strip().lower(): value for key, value in row.items() if value not in (None, "")}


def _features(data: Any) -> Iterator[Mapping[str, Any]]:
    for feature in data["features"]:
        geometry, properties = feature["geometry"], feature.get("properties") or {}
        several = geometry["type"] == "MultiPoint"
        if geometry["type"] not in ("Point", "MultiPoint"):
            raise ValueError(f"a {geometry['type']} is no point")
        for position in geometry["coordinates"] if several else [geometry["coordinates"]]:
            label = {"label": properties["label"]} if "label" in properties else {}
            yield {**dict(zip("xyz", position, strict=False)), **label}


def _cell(uri: str, number: int, row: Mapping[str, Any], source: ImageInfo, spatial: str) -> Iterable[int]:
    words = _CELLS if "row" in row else _GROUND
    try:
        values = {axis: float(row[words[axis]]) for axis in spatial}
    except (KeyError, ValueError) as error:
        wanted = ", ".join(words[axis] for axis in reversed(spatial))
        raise RefusedError(f"{uri}, point {number}: {wanted} are to be numbers, got {dict(row)}.") from error
    if words is _GROUND:
        values = to_pixels(values, source)
    for axis in spatial:
        index = math.floor(values[axis]) if math.isfinite(values[axis]) else -1
        if not 0 <= index < source.size(axis):
            raise RefusedError(
                f"{uri}: point {number} lies outside of the image, at {values[axis]:g} of {source.size(axis):,} cells "
                f"along {axis}. Give points in the image's coordinate system, or row and column."
            )
        yield index


def _label(uri: str, number: int, row: Mapping[str, Any]) -> int:
    text = row.get("label", number)
    try:
        label = int(text)
    except (TypeError, ValueError):
        label = 0
    if not 0 < label < 1 << 31 or float(text) != label:
        raise RefusedError(f"{uri}, point {number}: the label {text!r} is not a whole number > 0.")
    return label
