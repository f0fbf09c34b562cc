"""Put label images into the OME-Zarr image that they belong to: what fits there, and the list of their names."""

from __future__ import annotations

import json
from typing import Any

import zarr

from pipelines.formats.metadata.ome import Multiscales, one_unit, parse_multiscales
from pipelines.formats.metadata.zarr_hierarchy import attributes_of, open_node
from pipelines.image.errors import damaged
from pipelines.image.info import ImageInfo
from pipelines.store.addresses import is_remote, require_local, shown
from pipelines.store.place import LocalPlace
from pipelines.store.targets import LABELS, MARKER

VERSION = "0.5"
"""The only version that labels are written in; an image and its labels have the same."""


def is_label_image(info: ImageInfo) -> bool:
    """Return whether an image is one of labels for the specification, which asks for integers."""
    return info.labels and info.dtype.kind in "iu"


def image_pyramid(image: str) -> Multiscales:
    """Return what an image says of its levels.

    Raises
    ------
    ValueError
        For what is no OME-Zarr image.
    """
    try:
        return parse_multiscales(attributes_of(open_node(image)))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{image} is no OME-Zarr image ({error}), so it cannot take labels. Give a target of its own."
        ) from error


def require_label_image(target: str, info: ImageInfo) -> None:
    """Refuse what can be among the labels of no image.

    Raises
    ------
    ValueError
        For a result that is no label image, and a place in a store.
    """
    if not is_label_image(info):
        what = f"labels of {info.dtype}" if info.labels else "no labels"
        raise ValueError(
            f"{shown(target)} lies among the labels of an image, and the result holds {what}. Allowed: labels of an "
            "integer type, such as uint32. Give that dtype, or a target of its own."
        )
    if is_remote(target):
        raise ValueError(
            f"{shown(target)} is in a store. Labels are put into images on a disk. Give another target."
        )


def require_fitting(image: str, info: ImageInfo) -> None:
    """Refuse labels that an image, as it is now, cannot take.

    Raises
    ------
    ValueError
        For a place that is no OME-Zarr 0.5 image, and cells that do not lie over those of the image.
    """
    pyramid, group = image_pyramid(image), open_node(image)
    if pyramid.version != VERSION:
        raise ValueError(
            f"{image} is OME-Zarr {pyramid.version}, its labels would be {VERSION}. Allowed: {VERSION}. Give a target "
            "of its own."
        )
    assert isinstance(group, zarr.Group)
    if group.metadata.consolidated_metadata is not None:
        raise ValueError(
            f"The metadata of {image} are consolidated: readers would not find new labels there. Remove "
            f"consolidated_metadata from {image}/{MARKER}, or give a target of its own."
        )
    finest = group.get(pyramid.paths[0])
    if not isinstance(finest, zarr.Array):
        raise damaged(image, "OME-Zarr", f"its metadata list {pyramid.paths[0]!r}, which is no array")
    _require_same_cells(image, pyramid, dict(zip(pyramid.axes, finest.shape, strict=True)), info)
    _names(image, _listing(image))


def _require_same_cells(image: str, pyramid: Multiscales, sizes: dict[str, int], info: ImageInfo) -> None:
    spacing, units = one_unit(pyramid.scales[0], pyramid.units)
    origin = (info.attributes.get("ome") or {}).get("translation") or {}
    for axis in "tczyx":
        length = sizes.get(axis, 1)
        if info.size(axis) not in ((1, length) if axis == "c" else (length,)):
            raise ValueError(
                f"The labels have {info.size(axis):,} cells along {axis}, {image} has {length:,}. They must agree: "
                "read the whole image on its finest level, or give a target of its own."
            )
        there = spacing.get(axis, 1.0), units.get(axis, ""), pyramid.translations[0].get(axis, 0.0)
        ours = info.spacing.get(axis, 1.0), info.units.get(axis, ""), origin.get(axis, 0.0)
        if axis != "c" and ours != there:
            raise ValueError(
                f"The labels would have {_grid(*ours)} along {axis}, {image} has {_grid(*there)}. They must agree: "
                "read the image itself, without source.spacing, or give a target of its own."
            )


def _grid(spacing: float, unit: str, begin: float) -> str:
    return f"spacing {spacing:g} {unit or 'without a unit'} from {begin:g} on"


def make_labels(image: str) -> None:
    """Make the group that holds the labels of an image, with an empty list, where there is none.

    Raises
    ------
    FileNotFoundError
        Where the image is gone.
    """
    if not require_local(image).is_dir():
        raise FileNotFoundError(f"{image}, which the labels are for, is gone")
    values = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": VERSION, "labels": []}},
    }
    LocalPlace().write_if_absent(_path(image), json.dumps(values, indent=2).encode())


def listed_labels(image: str) -> list[str]:
    """Return the names that the labels of an image list, none where it has no labels."""
    return _names(image, _listing(image))


def list_labels(image: str, name: str, there: bool) -> None:
    """Add a name to those that the labels of an image list, or remove it; all else in the file stays."""
    if there:
        make_labels(image)
    values = _listing(image)
    listed = _names(image, values)
    if there == (name in listed):
        return
    listed[:] = [*listed, name] if there else [other for other in listed if other != name]
    LocalPlace().write(_path(image), json.dumps(values, indent=2).encode())


def _path(image: str) -> str:
    return str(require_local(image) / LABELS / MARKER)


def _listing(image: str) -> dict[str, Any]:
    """Return the metadata of the group of labels, or nothing where there is none."""
    try:
        values = json.loads(LocalPlace().read(_path(image)))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise damaged(image, "OME-Zarr", error) from error
    if not isinstance(values, dict) or (values.get("zarr_format"), values.get("node_type")) != (3, "group"):
        raise damaged(image, "OME-Zarr", f"{LABELS}/{MARKER} is no group of Zarr 3")
    return values


def _names(image: str, values: dict[str, Any]) -> list[str]:
    """Return the names in the metadata of the group of labels, as the list that they are in."""
    try:
        names = (
            values.setdefault("attributes", {})
            .setdefault("ome", {"version": VERSION})
            .setdefault("labels", [])
        )
    except AttributeError:
        names = None
    if not isinstance(names, list):
        raise damaged(image, "OME-Zarr", f"{LABELS}/{MARKER} holds no list of labels")
    return names
