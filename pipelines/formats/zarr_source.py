"""Read plain Zarr 2 and 3, also as xarray writes it: an array, or a variable of a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipelines.formats.metadata.cf import cf_georeference, cf_nodata, cf_packing, coordinate_name, plain
from pipelines.formats.metadata.watched_array import WatchedSource, watch
from pipelines.formats.metadata.zarr_hierarchy import (
    array_metadata,
    arrays_in,
    attributes_of,
    dimension_names,
    is_zarr,
    open_node,
)
from pipelines.image.axes import axis_letter, resolve_axes
from pipelines.image.errors import pick_level, pick_path, refuse_options
from pipelines.image.georeference import from_attributes
from pipelines.image.identity import tree_identity
from pipelines.image.info import CANONICAL, Georeference, ImageInfo
from pipelines.image.source import SOURCES, Source, SourceSpec
from pipelines.store.arrays import reads_into
from pipelines.store.checked_codecs import reads_parts
from pipelines.store.listings import Listing

KNOWN = (
    "spacing",
    "units_of_spacing",
    "channel_names",
    "rgb",
    "labels",
    "nodata",
    "_FillValue",
    "_ARRAY_DIMENSIONS",
)
"""Attributes that become fields of `ImageInfo`; the others are kept together."""


@SOURCES.register("zarr")
class ZarrSource(WatchedSource):
    """One Zarr array."""

    extensions = (".zarr",)
    about = "Zarr 2 and 3, plain or written by xarray; folder or address such as s3://"

    def __init__(self, spec: SourceSpec) -> None:
        refuse_options(spec, "plain Zarr", ("series",))
        self._array, self._group = _find(spec)
        pick_level(spec, [self._array.shape])
        self._watched = watch(spec.uri, self._array)
        self.info = describe_array(spec, self._array, self._group, self._watched.listing)

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 10 for the root, a group or an array of a Zarr hierarchy."""
        return 10 if is_zarr(uri) else 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open the array, reading only metadata."""
        return cls(spec)


def _find(spec: SourceSpec) -> tuple[zarr.Array[Any], zarr.Group | None]:
    """Return the array that was asked for, and the group that it is in."""
    node = open_node(spec.uri, spec.path or "")
    if isinstance(node, zarr.Array):
        parent = (spec.path or "").strip("/").rpartition("/")[0]
        group = open_node(spec.uri, parent) if spec.path else None
        return node, group if isinstance(group, zarr.Group) else None
    arrays = arrays_in(node)
    images = {p: f"{a.shape} {a.dtype}" for p, a in arrays.items() if a.ndim >= 2}
    path = pick_path(spec.model_copy(update={"path": None}), images, "array")
    inner = path.rpartition("/")[0]
    group = node[inner] if inner else node
    return arrays[path], group if isinstance(group, zarr.Group) else None


def describe_array(
    spec: SourceSpec, array: zarr.Array[Any], group: zarr.Group | None, listing: Listing | None
) -> ImageInfo:
    """Return the metadata of an array: its own, and that of its group by xarray, rioxarray or a run."""
    dtype, attributes = np.dtype(array.dtype).newbyteorder("="), attributes_of(array)
    around = attributes_of(group) if group is not None else {}
    names = dimension_names(array)
    axes = resolve_axes(spec, array.shape, dtype, names or _letters(around, array.ndim))
    size = dict(zip(axes, array.shape, strict=True)).get("c", 1)
    channels = tuple(map(str, attributes.get("channel_names") or ()))
    return ImageInfo(
        shape=array.shape,
        dtype=dtype,
        axes=axes,
        chunks=array.chunks,
        reads_parts=reads_parts(array.metadata),
        reads_into=reads_into(array),
        spacing={a: float(v) for a, v in _mapping(attributes.get("spacing")).items() if a in CANONICAL},
        units={a: str(v) for a, v in _mapping(attributes.get("units_of_spacing")).items() if a in CANONICAL},
        nodata=_nodata(array, attributes, dtype),
        channel_names=channels if len(channels) == size else (),
        rgb=bool(attributes.get("rgb")) or (not names and axes == "yxc"),
        labels=bool(attributes.get("labels")),
        georeference=_georeference(group, attributes, names, axes),
        attributes=_further(attributes, around),
        identity=tree_identity(spec.uri, array.path, array_metadata(array), listing),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _letters(around: Mapping[str, Any], ndim: int) -> list[str | None]:
    axes = around.get("axes")
    return list(axes) if isinstance(axes, str) and len(axes) == ndim else []


def _nodata(array: zarr.Array[Any], attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> float | None:
    """Return the value of invalid pixels; in Zarr 2 xarray keeps it as the fill value of the chunks.

    A fill value of 0 is Zarr's default and marks nothing.
    """
    told = cf_nodata(attributes, dtype)
    if told is None and "_ARRAY_DIMENSIONS" in attributes and array.fill_value:
        return cf_nodata({"nodata": array.fill_value}, dtype)
    return told


def _georeference(
    group: zarr.Group | None, attributes: Mapping[str, Any], names: list[str | None], axes: str
) -> Georeference | None:
    if group is None:
        return None
    ours = attributes_of(group).get("georeference")
    if isinstance(ours, Mapping):
        return from_attributes(ours)
    # rioxarray names the variable in the encoding, which Zarr keeps among the attributes; "spatial_ref" is
    # its default.
    mapping = group.get(str(attributes.get("grid_mapping", "spatial_ref")))
    keys = attributes_of(mapping) if isinstance(mapping, zarr.Array) else {}
    return cf_georeference(keys, _coordinate(group, names, axes, "y"), _coordinate(group, names, axes, "x"))


def _coordinate(group: zarr.Group, names: list[str | None], axes: str, letter: str) -> NDArray[Any] | None:
    name = coordinate_name(names, axes, letter)
    found = group.get(name) if name and axis_letter(name) else None
    return np.asarray(found[:]) if isinstance(found, zarr.Array) and found.ndim == 1 else None


def _further(attributes: Mapping[str, Any], around: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata that is only kept: that of the source of an earlier run, else attributes."""
    kept = around.get("source_attributes")
    if isinstance(kept, Mapping):
        return plain(kept)
    rest = plain({k: v for k, v in attributes.items() if k not in KNOWN})
    return {**cf_packing(attributes), **({"attrs": rest} if rest else {})}
