"""Say what is at an address, whether it is whole, and remove it."""

from __future__ import annotations

import contextlib
import os

from pipelines.refusal import RefusedError
from pipelines.store.addresses import local_path, shown, within
from pipelines.store.listings import tree
from pipelines.store.place import Place
from pipelines.store.places import place_of

MARKER = "zarr.json"
"""Root metadata of a hierarchy: written last and removed first, so that a reader sees all of an image or none."""

LABELS = "labels"
"""Group inside an OME-Zarr image that holds label images, and lists their names."""

MARKERS = (MARKER, ".zmetadata", ".zgroup", ".zarray")
"""Root metadata of any version."""


def exists(uri: str) -> bool:
    """Return whether a file, folder or object exists at an address."""
    path = local_path(uri)
    return path.exists() if path is not None else is_taken(uri)


def is_taken(uri: str) -> bool:
    """Return whether anything is at the address of a target: a file, a folder, an object, a broken link."""
    path = local_path(uri)
    if path is not None:
        return os.path.lexists(path)
    place, inside = place_of(uri)
    return place.entry(inside) is not None or bool(names_in(place, inside))


def names_in(place: Place, path: str) -> set[str]:
    """Return the names directly in a folder; none where there is no such folder."""
    try:
        return {entry.name for entry in place.entries(path)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def is_complete(uri: str) -> bool:
    """Return whether a target is there with what is written last: the root's metadata, or the file itself.

    What is there without it is no result: an upload that was cut short, or something else.
    """
    local = local_path(uri)
    if local is not None:
        return local.is_file() or (local / MARKER).is_file()
    place, path = place_of(uri)
    entry = place.entry(path)
    if entry is not None and not entry.is_folder:
        return True
    return bool({"", MARKER} & names_in(place, path))


def require_no_labels(uri: str, why: str = "it is to be replaced") -> None:
    """Refuse to remove an image that holds labels, which are results of other runs.

    Raises
    ------
    RefusedError
    """
    if is_taken(labels := within(uri, LABELS)):
        raise RefusedError(
            f"{shown(uri)} holds {LABELS}, and {why}: {shown(labels)} would be removed with it. Move that away, run "
            "the same command again, and move it back; or choose another target."
        )


def remove(uri: str) -> None:
    """Remove an object, or all objects below an address, from a store; the root's metadata first.

    Raises
    ------
    OSError
        If something is still there at the end.
    """
    place, path = place_of(uri)
    there = names_in(place, path)
    place.delete([within(path, name) for name in MARKERS if name in there])
    entry = place.entry(path)
    if entry is not None and not entry.is_folder:
        place.delete([path])
    if not there - {""}:
        return
    remove_below(uri)
    if left := names_in(place, path):
        raise OSError(f"{shown(uri)} could not be removed: {', '.join(sorted(left)[:3])} is still there.")


def remove_below(uri: str) -> None:
    """Remove all objects below an address of a store, or nothing where there is none."""
    place, path = place_of(uri)
    with contextlib.suppress(FileNotFoundError):
        place.delete([within(path, entry.name) for entry in tree(place, path)])
