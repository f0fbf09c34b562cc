"""Write lines as GeoJSON, in the coordinate system of the image where it has one."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from pipelines.formats.metadata.tables import Line, TableSink, crs_name, lines_of
from pipelines.image.info import ImageInfo
from pipelines.image.sink import SINKS, TABLE, Level
from pipelines.store.addresses import within
from pipelines.store.places import local_copy
from pipelines.store.publish import finished_file

LONGITUDES = "urn:ogc:def:crs:EPSG::4326"
"""The system that GeoJSON is in where it names none."""


@SINKS.register("geojson")
class GeoJsonSink(TableSink):
    """One LineString per path, with its label, length and time."""

    extensions: ClassVar[tuple[str, ...]] = (".geojson",)
    about: ClassVar[str] = (
        "GeoJSON, one line per path, in the image's coordinate system or in units of its spacing"
    )
    lines_only: ClassVar[bool] = True

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Write the lines in the order of their numbers, one per row of the file."""
        table, name = np.load(local_copy(within(root, TABLE)), mmap_mode="r"), crs_name(info)
        crs = {"type": "name", "properties": {"name": name}}
        head = {"type": "FeatureCollection", **({"crs": crs} if name not in ("", LONGITUDES) else {})}
        with finished_file(target) as part, open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps(head)[:-1] + ', "features": [')
            for number, line in enumerate(lines_of(table, info)):
                file.write((",\n" if number else "\n") + json.dumps(_feature(line)))
            file.write("\n]}\n")


def _feature(line: Line) -> dict[str, Any]:
    places = line.places if len(line.places) > 1 else np.repeat(line.places, 2, axis=0)
    length = float(np.linalg.norm(np.diff(line.places, axis=0), axis=1).sum())
    about = {"path": line.number, "label": line.label, "length": length, "time": float(line.times[0])}
    geometry = {"type": "LineString", "coordinates": places.tolist()}
    return {"type": "Feature", "properties": about, "geometry": geometry}
