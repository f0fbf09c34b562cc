"""What formats of tables share: a target without arrays, its columns and rows, and the lines that a table holds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.image.georeference import to_ground
from pipelines.image.info import ImageInfo
from pipelines.image.levels import create_level
from pipelines.image.sink import LINES, Level, Sink

Table = NDArray[np.int64]


class TableSink(Sink):
    """A target that is made of `TABLE`."""

    is_table: ClassVar[bool] = True

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return no arrays: a table needs only those that the run has anyhow."""
        return ()

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Make the folder that the table is put into, and the labels that it is made from where no other has them."""
        Path(root).mkdir()
        for level in levels:
            create_level(root, level, self.spec.compression)


# ---- columns and rows


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    unit : str
        "" where the numbers have none, or none that is known.
    whole : bool
        True for whole numbers.
    """

    name: str
    unit: str = ""
    whole: bool = False

    @property
    def title(self) -> str:
        """The name with the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def columns_of(table: Table, info: ImageInfo) -> list[Column]:
    """Return the columns of a table of regions, or of lines with one row for each of their points."""
    if not holds_lines(table):
        return list(_region_columns(table, info))
    ndim = int(table[0, 0])
    names = (*("plane", "row", "column")[-ndim:], *"xyz"[:ndim], "time")
    return [Column("path", whole=True), Column("label", whole=True), *(Column(name) for name in names)]


def rows_of(table: Table, info: ImageInfo) -> Iterator[list[float]]:
    """Yield the rows in order of frames and labels, or of lines and their points."""
    return _points(table, info) if holds_lines(table) else _regions(table, info)


def _axes(table: Table) -> str:
    return "zyx"[-int(table[0, 0]) :]


def _has_frames(axes: str, info: ImageInfo) -> bool:
    return math.prod(info.size(a) for a in "tcz" if a not in axes) > 1


def _region_columns(table: Table, info: ImageInfo) -> Iterator[Column]:
    axes, channels = _axes(table), int(table[0, 1])
    units = [info.units.get(a, "") for a in axes]
    if _has_frames(axes, info):
        yield Column("frame", whole=True)
    yield from (Column(name, whole=True) for name in ("label", "cells"))
    power = "²" if len(axes) == 2 else "³"
    known = bool(units[0]) and len(set(units)) == 1
    yield Column("area" if len(axes) == 2 else "volume", f"{units[0]}{power}" if known else "")
    yield from (Column(f"centroid {a}", unit) for a, unit in zip(axes, units, strict=True))
    yield from (Column(f"{end} {a}", whole=True) for a in axes for end in ("first", "end"))
    words = info.channel_names if len(info.channel_names) == channels else range(channels)
    yield from [Column("mean")] if channels == 1 else (Column(f"mean {word}") for word in words)


def _regions(table: Table, info: ImageInfo) -> Iterator[list[float]]:
    axes = _axes(table)
    ndim, framed = len(axes), _has_frames(axes, info)
    sizes = [info.spacing.get(a, 1.0) for a in axes]
    for row in table[1:]:
        frame, label, cells = (int(n) for n in row[:3])
        centroid = [int(total) / cells * size for total, size in zip(row[3 : 3 + ndim], sizes, strict=True)]
        box = [int(n) for n in row[3 + ndim : 3 + 3 * ndim]]
        means = np.ascontiguousarray(row[3 + 3 * ndim :]).view(np.float64).tolist()
        yield [*([frame] if framed else []), label, cells, cells * math.prod(sizes), *centroid, *box, *means]


def _points(table: Table, info: ImageInfo) -> Iterator[list[float]]:
    for line in lines_of(table, info):
        for cell, place, time in zip(
            line.cells.tolist(), line.places.tolist(), line.times.tolist(), strict=True
        ):
            yield [line.number, line.label, *cell, *place, time]


# ---- lines


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
