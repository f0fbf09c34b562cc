"""Write a table of labelled regions, or of lines, as CSV, in the units of the image."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipelines.formats.metadata.tables import Table, TableSink, holds_lines, lines_of
from pipelines.image.info import ImageInfo
from pipelines.image.sink import SINKS, TABLE, Level
from pipelines.store.publish import finished_file


@SINKS.register("csv")
class CsvSink(TableSink):
    """One row per region of a label image: place, size, box and mean values; of lines one per point."""

    extensions: ClassVar[tuple[str, ...]] = (".csv",)
    about: ClassVar[str] = (
        "CSV, one row per region of a label image: cells, area, centroid, box, means in units; or per point of a path"
    )

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Write the rows in order of frames and labels, or of lines and their points."""
        with finished_file(target) as part, open(part, "w", newline="", encoding="utf-8") as file:
            table = np.load(Path(root, TABLE), mmap_mode="r")
            rows = _points(table, info) if holds_lines(table) else _rows(table, info)
            csv.writer(file).writerows(rows)


def _points(table: Table, info: ImageInfo) -> Iterator[list[object]]:
    """Yield the names of the columns, then the points of all lines."""
    ndim = int(table[0, 0])
    yield ["path", "label", *("plane", "row", "column")[-ndim:], *"xyz"[:ndim], "time"]
    for line in lines_of(table, info):
        for cell, place, time in zip(
            line.cells.tolist(), line.places.tolist(), line.times.tolist(), strict=True
        ):
            yield [line.number, line.label, *cell, *place, time]


def _rows(table: Table, info: ImageInfo) -> Iterator[list[object]]:
    """Yield the names of the columns, then the regions; the table begins with the numbers of axes and of means."""
    ndim, channels = (int(n) for n in table[0, :2])
    axes = "zyx"[-ndim:]
    sizes = [info.spacing.get(a, 1.0) for a in axes]
    framed = math.prod(info.size(a) for a in "tcz" if a not in axes) > 1
    yield _names(axes, channels, info, framed)
    for row in table[1:]:
        frame, label, cells = (int(n) for n in row[:3])
        centroid = [int(total) / cells * size for total, size in zip(row[3 : 3 + ndim], sizes, strict=True)]
        box = [int(n) for n in row[3 + ndim : 3 + 3 * ndim]]
        means = np.ascontiguousarray(row[3 + 3 * ndim :]).view(np.float64).tolist()
        yield [*([frame] if framed else []), label, cells, cells * math.prod(sizes), *centroid, *box, *means]


def _names(axes: str, channels: int, info: ImageInfo, framed: bool) -> list[object]:
    units = [info.units.get(a) for a in axes]
    size = f" ({units[0]}{'²' if len(axes) == 2 else '³'})" if units[0] and len(set(units)) == 1 else ""
    names: list[object] = [*(["frame"] if framed else []), "label", "cells"]
    names.append(("area" if len(axes) == 2 else "volume") + size)
    names += [f"centroid {a}" + (f" ({unit})" if unit else "") for a, unit in zip(axes, units, strict=True)]
    names += [f"{end} {a}" for a in axes for end in ("first", "end")]
    known = info.channel_names if len(info.channel_names) == channels else ()
    words = known or tuple(str(c) for c in range(channels))
    return names + (["mean"] if channels == 1 else [f"mean {word}" for word in words])
