"""What formats of tables share: a target without arrays, and the lines that a table of points holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.image.georeference import to_ground
from pipelines.image.info import ImageInfo
from pipelines.image.sink import LINES, Level, Sink

Table = NDArray[np.int64]


class TableSink(Sink):
    """A target that is made of `TABLE` instead of arrays."""

    is_table: ClassVar[bool] = True

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return no arrays."""
        return ()

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Make the folder that the table is put into."""
        Path(root).mkdir()


@dataclass(frozen=True)
class Line:
    """A line of an image.

    Attributes
    ----------
    number, label : int
    times : ndarray of shape (points,)
    cells : ndarray of shape (points, axes)
        Rows first, in pixels from the centre of the first one.
    places : ndarray of shape (points, axes)
        x first: in the image's coordinate system, or in units of its spacing.
    """

    number: int
    label: int
    times: NDArray[np.float64]
    cells: NDArray[np.float64]
    places: NDArray[np.float64]


def holds_lines(table: Table) -> bool:
    """Return whether a table is one of lines."""
    return bool(table[0, 1] == LINES)


def lines_of(table: Table, info: ImageInfo) -> Iterator[Line]:
    """Yield the lines of a table in the order of their numbers."""
    rows = table[1:]
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
    for first, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        numbers = np.ascontiguousarray(rows[first:stop, 2:]).view(np.float64)
        cells = numbers[:, 1:]
        number, label = (int(n) for n in rows[first, :2])
        yield Line(number, label, numbers[:, 0], cells, to_ground(cells, info))


def crs_name(info: ImageInfo) -> str:
    """Return the name of the coordinate system that places are in, "" for none: a number of EPSG, else its WKT."""
    ground = info.georeference
    if ground is None or ground.transform is None or not ground.crs:
        return ""
    # The system's own number stands last, after those of its parts.
    found = re.findall(r'(?:ID|AUTHORITY)\["EPSG",\s*"?(\d+)"?\]\s*\]\s*$', ground.crs)
    plain = re.fullmatch(r"EPSG:(\d+)", ground.crs)
    number = plain[1] if plain else found[-1] if found else ""
    return f"urn:ogc:def:crs:EPSG::{number}" if number else ground.crs
