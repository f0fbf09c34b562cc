"""Write chunks of an array of a run so that each is there whole or not at all, and refuse to read missing ones.

A task that is killed, or that the run has given up and that still writes, must leave nothing that another task could
read. So its chunks are written into a folder of its own first. On a disk they are then moved into the array one by one;
an array that has been removed or published in the meantime takes none of them. In a store each is one object, which is
written only if there is none, or in the place of the one that was there before a last look at whether the task may
still write: a late one never replaces what another task has written since.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from zarr import Array
from zarr.core.array import AsyncArray
from zarr.storage import LocalStore, StorePath

from pipelines.store.addresses import within
from pipelines.store.arrays import chunk_names
from pipelines.store.guarded import MissingChunkError
from pipelines.store.place import Place
from pipelines.store.places import place_of

Region = tuple[slice, ...]

SENT_AT_ONCE = 4
"""Chunks of a tile that are on their way to a store at a time; each is in memory once as encoded."""

REWRITES = 100
"""Times that a chunk may be found replaced by another task, while this one may still write."""


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
    with _own_folder(writing) as own:
        _stage(array, own, region, values)
        check()
        for name in chunk_names(array, region):
            _move(own / name, folder / name, folder)


def send_chunks(
    array: Array[Any], uri: str, region: Region, values: NDArray[Any], check: Callable[[], None]
) -> None:
    """Write a region of whole chunks into an array in a store; see `write_chunks`.

    Parameters
    ----------
    array : zarr.Array
        Array at the address `uri`.
    uri : str
    region : tuple of slice
    values : ndarray
    check : callable
        Called before each chunk that takes the place of another, and before the first of all.
    """
    _require_whole_chunks(array, region)
    place, path = place_of(uri)
    with (
        tempfile.TemporaryDirectory(prefix="diffuse-") as own,
        ThreadPoolExecutor(SENT_AT_ONCE) as pool,
    ):
        _stage(array, Path(own), region, values)
        check()
        sent = [
            # What a task may do depends on its context, which a thread has not by itself.
            pool.submit(copy_context().run, _send, place, within(path, name), Path(own, name), check)
            for name in chunk_names(array, region)
        ]
        for one in sent:
            one.result()


def _send(place: Place, path: str, file: Path, check: Callable[[], None]) -> None:
    data = file.read_bytes()
    if place.write_if_absent(path, data):
        return
    for _ in range(REWRITES):
        there = place.entry(path)
        # After this look, and before the write: whoever has written since then keeps what is there.
        check()
        if there is None:
            if place.write_if_absent(path, data):
                return
        elif place.write_over(path, data, there.mark):
            return
    raise OSError(f"{place.address(path)} was replaced {REWRITES} times while it was written.")


def _stage(array: Array[Any], folder: Path, region: Region, values: NDArray[Any]) -> None:
    """Write the chunks of a region into a folder, under their names in the array."""
    metadata: Any = array.metadata
    staged = Array(AsyncArray(metadata, StorePath(LocalStore(folder)), array.config))
    staged[region] = values


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
