"""Read NumPy files (.npy) by region."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.image.axes import resolve_axes
from pipelines.image.errors import damaged, local_file, pick_level, refuse_options
from pipelines.image.identity import file_identity
from pipelines.image.info import ImageInfo
from pipelines.image.source import SOURCES, Source, SourceSpec
from pipelines.store.addresses import local_path

MAGIC = b"\x93NUMPY"
PAGE_BYTES = 4096


@SOURCES.register("npy")
class NpySource(Source):
    """One array in one file."""

    extensions = (".npy",)
    about = "NumPy array file, read through a memory map"

    def __init__(self, spec: SourceSpec) -> None:
        refuse_options(spec, "a NumPy file", ("path", "series"))
        self._path = local_file(spec, "NumPy files")
        try:
            array = self._map()
        except (ValueError, EOFError) as error:
            raise damaged(spec.uri, "a NumPy file", error) from error
        pick_level(spec, [array.shape])
        self.info = ImageInfo(
            shape=array.shape,
            dtype=array.dtype.newbyteorder("="),
            axes=resolve_axes(spec, array.shape, array.dtype),
            chunks=_pages(array),
            identity=file_identity(spec),
        )

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 10 for files that begin as NumPy files do."""
        path = local_path(uri)
        if path is None or not path.is_file():
            return 0
        with path.open("rb") as file:
            return 10 if file.read(len(MAGIC)) == MAGIC else 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open the file, reading only its header."""
        return cls(spec)

    def _map(self) -> NDArray[Any]:
        return np.lib.format.open_memmap(self._path, mode="r")

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region."""
        # Mapped anew for each read: pages of a map that stays open count as this process's memory until it is
        # closed, and a run over a large file would seem to hold all of it.
        return np.array(self._map()[region], dtype=self.info.dtype, order="C")


def _pages(array: NDArray[Any]) -> tuple[int, ...]:
    """Return the extent of one page of memory along the axis that is contiguous in the file."""
    run = 0 if array.flags.f_contiguous and not array.flags.c_contiguous else array.ndim - 1
    length = max(1, PAGE_BYTES // max(1, array.dtype.itemsize))
    return tuple(max(1, min(n, length)) if axis == run else 1 for axis, n in enumerate(array.shape))
