"""Write chunks of a local Zarr array so that each is there whole or not at all, and refuse to read missing ones.

A task that is killed, or that the run has given up and that still writes, must leave nothing that another task could
read: its chunks are written into a folder of its own, and moved into the array one by one when all are there. An array
that has been removed or published in the meantime takes none of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from zarr import Array
from zarr.core.array import AsyncArray
from zarr.storage import LocalStore, StorePath

from pipelines.store.arrays import chunk_names

Region = tuple[slice, ...]


class MissingChunkError(OSError):
    """A chunk of an array of the run is not there."""


def require_chunks(array: Array[Any], folder: Path, region: Region) -> None:
    """Refuse a region of which a chunk is missing: Zarr would read the fill value in its place.

    Raises
    ------
    MissingChunkError
    """
    for name in chunk_names(array, region):
        if not os.path.exists(file := folder / name):
            raise MissingChunkError(f"The chunk {file} is missing, although its tile was finished.")


def write_chunks(
    array: Array[Any],
    folder: Path,
    region: Region,
    values: NDArray[Any],
    writing: Path,
    check: Callable[[], None],
) -> None:
    """Write a region of whole chunks.

    Parameters
    ----------
    array : zarr.Array
        Array in `folder`.
    folder : Path
        Folder of the array, inside a hierarchy.
    region : tuple of slice
        It covers whole chunks (whole shards), or ends at the array's end.
    values : ndarray
        Pixels in the array's axis order.
    writing : Path
        Folder for chunks that are not whole yet: on the same disk, but in no hierarchy.
    check : callable
        Called before the first chunk is moved into the array; raises where the task must not write any more.

    Raises
    ------
    ValueError
        For any other region: two tasks would then write one chunk, and one of them be lost.
    FileNotFoundError
        Where the array is gone.
    """
    _require_whole_chunks(array, region)
    metadata: Any = array.metadata
    with _own_folder(writing) as own:
        staged = Array(AsyncArray(metadata, StorePath(LocalStore(own)), array.config))
        staged[region] = values
        check()
        for name in chunk_names(array, region):
            _move(own / name, folder / name, folder)


def _require_whole_chunks(array: Array[Any], region: Region) -> None:
    unit = array.shards or array.chunks
    for s, u, n in zip(region, unit, array.shape, strict=True):
        if s.start % u or (s.stop % u and s.stop != n):
            raise ValueError(
                f"A write of {region} does not cover whole chunks of {unit} in an array of {array.shape}."
            )


@contextlib.contextmanager
def _own_folder(writing: Path) -> Iterator[Path]:
    """Yield a new folder inside another one, whose parent must exist, and remove it at the end."""
    with contextlib.suppress(FileExistsError):
        writing.mkdir()
    own = writing / uuid.uuid4().hex
    own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _move(here: Path, there: Path, folder: Path) -> None:
    """Move a chunk to its place; the array's own folder is never made anew."""
    try:
        os.replace(here, there)
    except FileNotFoundError:
        for parent in [*there.relative_to(folder).parents][-2::-1]:
            with contextlib.suppress(FileExistsError):
                (folder / parent).mkdir()
        os.replace(here, there)
