"""Write a table of labelled regions, or of lines, as CSV, in the units of the image."""

from __future__ import annotations

import csv
from typing import ClassVar

import numpy as np

from pipelines.formats.metadata.tables import TableSink, columns_of, rows_of
from pipelines.image.info import ImageInfo
from pipelines.image.sink import SINKS, TABLE, Level
from pipelines.store.addresses import within
from pipelines.store.places import local_copy
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
            table = np.load(local_copy(within(root, TABLE)), mmap_mode="r")
            writer = csv.writer(file)
            writer.writerow([column.title for column in columns_of(table, info)])
            writer.writerows(rows_of(table, info))
