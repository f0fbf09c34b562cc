"""Compute the identity of a source without reading its pixels, so that a changed source is noticed.

The identity of a file is a digest of its name, size and time of change; that of a Zarr array, of its metadata and a
listing of its chunks; that of an object, of its checksum or size. It does not depend on the folder, so a moved folder
keeps its runs.
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
"""Largest number of files of a local Zarr array that are listed, folder by folder in name order. A change in files
beyond these is noticed only if it changes the metadata. Listing this many takes about a second."""

LISTED_REMOTE = 10_000
"""The same for object stores, where one listing request returns a thousand."""

SELECTING = ("level", "path", "series")


def file_identity(spec: SourceSpec) -> str:
    """Return the identity of a file: its name, size, time of change (checksum if remote), and what is selected."""
    return digest(name_of(spec.uri), _stamp(spec.uri), [getattr(spec, k) for k in SELECTING])


def _stamp(uri: str) -> list[Any]:
    path = local_path(uri)
    if path is not None:
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]
    fs, inside = fsspec.core.url_to_fs(uri)
    return remote_stamp(fs.info(inside))


def remote_stamp(entry: dict[str, Any]) -> list[Any]:
    """Return size and checksum of a remote object; its time of change where it has no checksum."""
    lower = {k.lower(): v for k, v in entry.items()}
    mark = next(
        (lower[k] for k in ("etag", "md5", "crc32c", "lastmodified", "mtime", "updated") if k in lower), None
    )
    return [lower.get("size"), str(mark)]


def tree_identity(uri: str, inside: str, metadata: Any) -> str:
    """Return the identity of a Zarr array.

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
    Local chunks enter with their number, sizes and newest time of change, up to `LISTED` files; objects with
    their names, sizes and checksums (times where the server has no checksums; plain web servers have sizes
    only). Their content is not read.
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
