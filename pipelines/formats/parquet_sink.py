"""Write a table of labelled regions, or of lines, as Parquet, with the columns and units of the CSV."""

from __future__ import annotations

import importlib.util
import itertools
from typing import ClassVar

import numpy as np

from pipelines.formats.metadata.tables import TableSink, columns_of, rows_of
from pipelines.image.errors import missing_extra
from pipelines.image.info import ImageInfo
from pipelines.image.sink import SINKS, TABLE, Level
from pipelines.store.addresses import within
from pipelines.store.places import local_copy
from pipelines.store.publish import finished_file

GROUP_VALUES = 1 << 18
"""Numbers of a row group. As Python's objects they take 10 MB, and what is written at a time does not grow with the
table."""


@SINKS.register("parquet")
class ParquetSink(TableSink):
    """The rows of the CSV, typed and compressed, for pandas, polars, DuckDB and Dask."""

    extensions: ClassVar[tuple[str, ...]] = (".parquet",)
    about: ClassVar[str] = "Parquet, the same rows as CSV, typed, with units as metadata of the columns"
    # Measured: 30 MB for the import, and as many for the first row group.
    library_bytes: ClassVar[int] = 72 << 20

    def require_place(self, info: ImageInfo) -> None:
        """Refuse to begin where the library is not installed; it is imported when the table is written."""
        super().require_place(info)
        if importlib.util.find_spec("pyarrow") is None:
            raise missing_extra(self.spec.uri, "pyarrow", "parquet")

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Write the rows in order of frames and labels, or of lines and their points, one row group after another."""
        import pyarrow
        from pyarrow import parquet

        table = np.load(local_copy(within(root, TABLE)), mmap_mode="r")
        columns, rows = columns_of(table, info), rows_of(table, info)
        schema = pyarrow.schema(
            pyarrow.field(
                column.title,
                pyarrow.int64() if column.whole else pyarrow.float64(),
                metadata={"unit": column.unit} if column.unit else None,
            )
            for column in columns
        )
        size = max(1, GROUP_VALUES // len(columns))
        with (
            finished_file(target) as part,
            parquet.ParquetWriter(part, schema, compression=self.spec.compression) as writer,
        ):
            while group := list(itertools.islice(rows, size)):
                values = zip(zip(*group, strict=True), schema.types, strict=True)
                arrays = [pyarrow.array(column, kind) for column, kind in values]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
