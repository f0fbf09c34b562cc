"""Name the bytes behind an address without reading them, so that a changed source is noticed.

A file is named by its name, size and time of change; a Zarr array by its metadata and a listing of its
chunks; an object by its checksum or size. No name depends on where the file lies, so a moved folder keeps its
runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from pipelines.image.info import digest
from pipelines.image.source import SourceSpec
from pipelines.store.addresses import local_path, name_of

LISTED = 100_000
"""Files of a local Zarr array that are looked at. A store with more is judged by the first so many, folder by
folder in name order: a change elsewhere is then seen only if it changes the metadata. Listing so many takes
about a second."""

LISTED_REMOTE = 10_000
"""The same for object stores, where one listing request returns a thousand."""

SELECTING = ("level", "path", "series")


def file_identity(spec: SourceSpec) -> str:
    """Return the name of a file's content: its name, size, time of change (checksum if remote), selection."""
    return digest(name_of(spec.uri), _stamp(spec.uri), [getattr(spec, k) for k in SELECTING])


def _stamp(uri: str) -> list[Any]:
    path = local_path(uri)
    if path is not None:
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]
    fs, inside = fsspec.core.url_to_fs(uri)
    return remote_stamp(fs.info(inside))


def remote_stamp(entry: dict[str, Any]) -> list[Any]:
    """Return what names the content of a remote object: its checksum if there is one, else its time."""
    lower = {k.lower(): v for k, v in entry.items()}
    mark = next(
        (lower[k] for k in ("etag", "md5", "crc32c", "lastmodified", "mtime", "updated") if k in lower), None
    )
    return [lower.get("size"), str(mark)]


def tree_identity(uri: str, inside: str, metadata: Any) -> str:
    """Return the name of the content of a Zarr array.

    Parameters
    ----------
    uri : str
        Address of the hierarchy.
    inside : str
        Path of the array in it.
    metadata : JSON
        The array's own metadata.

    Notes
    -----
    Of local chunks the number, the sizes and the newest time of change count, up to `LISTED` files; of
    objects the names, the sizes and the checksums (where a server tells none: the times; plain web servers
    tell sizes only). Their content is not read.
    """
    path = local_path(uri)
    listing = (
        _local_listing(path / inside) if path is not None else _remote_listing(f"{uri.rstrip('/')}/{inside}")
    )
    return digest(name_of(uri), inside, metadata, listing)


def _local_listing(folder: Path) -> dict[str, Any]:
    count = size = newest = 0
    for count, stat in enumerate(_files(folder), start=1):
        size += stat.st_size
        newest = max(newest, stat.st_mtime_ns)
        if count == LISTED:
            break
    return {"count": count, "bytes": size, "newest": newest}


def _files(folder: Path) -> Iterator[os.stat_result]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda e: e.name)
    for entry in ordered:
        if entry.is_dir():
            yield from _files(Path(entry.path))
        else:
            yield entry.stat()


def _remote_listing(address: str) -> list[Any]:
    fs, inside = fsspec.core.url_to_fs(address)
    stamps: list[Any] = []
    for _, _, files in fs.walk(inside.rstrip("/"), detail=True):
        stamps += [[name, *remote_stamp(entry)] for name, entry in files.items()]
        if len(stamps) >= LISTED_REMOTE:
            break
    return sorted(stamps[:LISTED_REMOTE])
