"""Compute the identity of a source without reading its pixels, so that a changed source is noticed.

The identity of a file is a digest of its name, size and time of change; that of a Zarr array, of its metadata and of
the names, sizes, and times or checksums of all its chunks. It does not depend on the folder, so a moved folder keeps
its runs. Listing 100,000 chunks takes about a second on a disk; a store is asked once for each folder and for every
thousand objects in one, some folders at a time.
"""

from __future__ import annotations

from typing import Any

from pipelines.image.info import digest
from pipelines.image.source import SourceSpec
from pipelines.store.addresses import name_of
from pipelines.store.listings import Listing
from pipelines.store.places import place_of

SELECTING = ("level", "path", "series")


def file_identity(spec: SourceSpec) -> str:
    """Return the identity of a file: its name, size, time of change (checksum if remote), and what is selected."""
    place, path = place_of(spec.uri)
    entry = place.entry(path)
    stamp = None if entry is None else [entry.size, entry.mark]
    return digest(name_of(spec.uri), stamp, [getattr(spec, k) for k in SELECTING])


def tree_identity(uri: str, inside: str, metadata: Any, listing: Listing | None) -> str:
    """Return the identity of a Zarr array.

    Parameters
    ----------
    uri : str
        Address of the hierarchy.
    inside : str
        Path of the array in it.
    metadata : JSON
        The array's own metadata.
    listing : Listing or None
        All that is stored of the array: local files with their sizes and times of change, objects with their
        sizes and checksums (times where the server has no checksums). None where the server does not list, as many
        web servers: then only a change of the metadata is noticed.
    """
    return digest(name_of(uri), inside, metadata, None if listing is None else listing.digest)
