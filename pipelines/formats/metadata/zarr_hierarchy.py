"""Open Zarr hierarchies of version 2 or 3 for reading, in a folder or at any address that fsspec knows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import zarr
from zarr.errors import ZarrUserWarning

from pipelines.image.errors import damaged
from pipelines.image.source import UnreadableSourceError
from pipelines.store.addresses import local_path, shown, within
from pipelines.store.guarded import guarded
from pipelines.store.places import place_of
from pipelines.store.targets import names_in

Node = TypeVar("Node", "zarr.Array[Any]", zarr.Group)

MARKERS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(uri: str) -> bool:
    """Return whether an address is the root, a group or an array of a Zarr hierarchy."""
    path = local_path(uri)
    if path is not None:
        return path.is_dir() and any((path / m).is_file() for m in MARKERS)
    place, inside = place_of(uri)
    listed = names_in(place, inside)
    return any(m in listed or place.entry(within(inside, m)) is not None for m in MARKERS)


def open_node(uri: str, path: str = "") -> zarr.Array[Any] | zarr.Group:
    """Return a group or an array for reading.

    Raises
    ------
    UnreadableSourceError
        If there is none, or its metadata is damaged.
    """
    local = local_path(uri)
    try:
        store = guarded(uri) if local is None else str(local)
        node = zarr.open(store, mode="r", path=path.strip("/") or None)
    except FileNotFoundError as error:
        raise UnreadableSourceError(_absent(uri, path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(uri, "Zarr", error) from error
    assert isinstance(node, zarr.Array | zarr.Group)
    return node


def _absent(uri: str, path: str) -> str:
    root = open_node(uri) if path else None
    known = list(arrays_in(root)) if isinstance(root, zarr.Group) else []
    allowed = ", ".join(known) or "none"
    return f"{shown(uri)!r} holds no Zarr group or array at {path!r}. Allowed for `path`: {allowed}."


def arrays_in(group: zarr.Group, depth: int = 3) -> dict[str, zarr.Array[Any]]:
    """Return the arrays of a group and of the groups in it, by path in name order."""
    found = dict(sorted(_members(group, zarr.Array)))
    for name, inner in sorted(groups_in(group).items()) if depth else ():
        found.update({f"{name}/{path}": array for path, array in arrays_in(inner, depth - 1).items()})
    return found


def groups_in(group: zarr.Group) -> dict[str, zarr.Group]:
    """Return the groups directly in a group."""
    return dict(_members(group, zarr.Group))


def _members(group: zarr.Group, kind: type[Node]) -> list[tuple[str, Node]]:
    with warnings.catch_warnings():
        # Other files, such as the OME-XML of converters, need no warning.
        warnings.simplefilter("ignore", ZarrUserWarning)
        return [(name, node) for name, node in group.members() if isinstance(node, kind)]


def attributes_of(node: zarr.Array[Any] | zarr.Group) -> Mapping[str, Any]:
    """Return the attributes of a group or an array as plain values."""
    return dict(node.attrs.asdict())


def array_metadata(array: zarr.Array[Any]) -> Any:
    """Return the metadata of an array, which changes with its shape, codecs and attributes."""
    return array.metadata.to_dict()


def dimension_names(array: zarr.Array[Any]) -> list[str | None]:
    """Return the names of an array's dimensions, of Zarr 3 or of xarray in Zarr 2; empty where unnamed."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, list | tuple) or len(names) != array.ndim:
        return []
    return [None if n is None else str(n) for n in names]
