"""Read OME-Zarr 0.4 and 0.5 (and older): any level of an image, labels, a series or a field of a plate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from pipelines.formats.metadata.cf import cf_nodata, plain
from pipelines.formats.metadata.ome import COLOURS, Multiscales, ome_attributes, one_unit, parse_multiscales
from pipelines.formats.metadata.watched_array import WatchedSource, watch
from pipelines.formats.metadata.zarr_hierarchy import (
    array_metadata,
    attributes_of,
    groups_in,
    is_zarr,
    open_node,
)
from pipelines.image.errors import damaged, pick_level, pick_series
from pipelines.image.georeference import from_attributes
from pipelines.image.identity import tree_identity
from pipelines.image.info import Georeference, ImageInfo
from pipelines.image.source import SOURCES, Source, SourceSpec, UnreadableSourceError
from pipelines.store.addresses import shown
from pipelines.store.arrays import reads_into
from pipelines.store.checked_codecs import reads_parts

SHOWN_WELLS = 12
"""Wells of a plate whose fields a refusal lists; a plate can have 1536."""


@SOURCES.register("ome-zarr")
class OmeZarrSource(WatchedSource):
    """One level of a pyramid."""

    extensions = (".ome.zarr", ".zarr")
    about = "OME-Zarr 0.4 and 0.5, any level; folder or address such as s3://"

    def __init__(self, spec: SourceSpec) -> None:
        group = _find(spec)
        attributes = attributes_of(group)
        found = ome_attributes(attributes)["multiscales"]
        pick_series(spec, [str(m.get("name", "")) for m in found])
        try:
            pyramid = parse_multiscales(attributes, spec.series)
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(spec.uri, "OME-Zarr", error) from error
        arrays = [_level(spec, group, path) for path in pyramid.paths]
        level = pick_level(spec, [a.shape for a in arrays])
        self._array = arrays[level]
        self._watched = watch(spec.uri, self._array)
        self.info = _describe(spec, self._array, attributes, pyramid, level).replace(
            identity=tree_identity(
                spec.uri,
                self._array.path,
                [array_metadata(self._array), plain(attributes)],
                self._watched.listing,
            )
        )

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 20 for a Zarr group with OME metadata."""
        if not is_zarr(uri):
            return 0
        try:
            node = open_node(uri)
        except UnreadableSourceError:
            return 0
        return 20 if isinstance(node, zarr.Group) and ome_attributes(attributes_of(node)) else 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open a level, reading only metadata."""
        return cls(spec)


def _find(spec: SourceSpec) -> zarr.Group:
    """Return the group with the pyramid; of several series or fields the user must name one."""
    node = open_node(spec.uri, spec.path or "")
    ome = ome_attributes(attributes_of(node)) if isinstance(node, zarr.Group) else {}
    if isinstance(node, zarr.Group) and "multiscales" in ome:
        return node
    inner = _images(node, ome) if isinstance(node, zarr.Group) else []
    if len(inner) == 1 and isinstance(node, zarr.Group):
        found = node[inner[0]]
        assert isinstance(found, zarr.Group)
        return found
    base = f"{spec.path.strip('/')}/" if spec.path else ""
    known = ", ".join(f"{base}{p}" for p in inner) or "none"
    raise UnreadableSourceError(
        f"{shown(spec.uri)!r} has no OME-Zarr image at path {spec.path or ''!r}. Give `path`. Found: {known}. "
        "For a single array give `format: zarr` and its `path`."
    )


def _images(group: zarr.Group, ome: Mapping[str, Any]) -> list[str]:
    """Return the images inside a plate, a well, or the series of one converted file."""
    if "plate" in ome:
        wells = [str(w["path"]) for w in ome["plate"].get("wells", ())]
        return [f"{path}/{field}" for path in wells[:SHOWN_WELLS] for field in _fields(group.get(path))]
    if "well" in ome:
        return _fields(group)
    return sorted(n for n, g in groups_in(group).items() if "multiscales" in ome_attributes(attributes_of(g)))


def _fields(well: zarr.Array[Any] | zarr.Group | None) -> list[str]:
    """Return the fields of view of a well."""
    ome = ome_attributes(attributes_of(well)) if isinstance(well, zarr.Group) else {}
    return [str(f["path"]) for f in ome.get("well", {}).get("images", ())]


def _level(spec: SourceSpec, group: zarr.Group, path: str) -> zarr.Array[Any]:
    found = group.get(path)
    if not isinstance(found, zarr.Array):
        raise damaged(spec.uri, "OME-Zarr", f"its metadata lists the level {path!r}, which is not there")
    return found


def _describe(
    spec: SourceSpec, array: zarr.Array[Any], attributes: Mapping[str, Any], pyramid: Multiscales, level: int
) -> ImageInfo:
    if array.ndim != len(pyramid.axes):
        words = f"level {level} has {array.ndim} axes, its metadata names {pyramid.axes!r}"
        raise damaged(spec.uri, "OME-Zarr", words)
    dtype = np.dtype(array.dtype).newbyteorder("=")
    channels = dict(zip(pyramid.axes, array.shape, strict=True)).get("c", 1)
    names = pyramid.channel_names if len(pyramid.channel_names) == channels else ()
    spacing, units = one_unit(pyramid.scales[level], pyramid.units)
    return ImageInfo(
        shape=array.shape,
        dtype=dtype,
        axes=pyramid.axes,
        chunks=array.chunks,
        reads_parts=reads_parts(array.metadata),
        reads_into=reads_into(array),
        spacing=spacing,
        units=units,
        nodata=cf_nodata({**attributes, **attributes_of(array)}, dtype),
        channel_names=names,
        rgb=_is_rgb(attributes, pyramid, channels),
        labels=pyramid.labels,
        georeference=_georeference(attributes),
        attributes=_further(attributes, pyramid, level),
    )


def _is_rgb(attributes: Mapping[str, Any], pyramid: Multiscales, channels: int) -> bool:
    """Return whether the channels are one picture: a run has marked it so, or they are shown in red, green and blue."""
    shown = [str(c.get("color", "")).upper() for c in pyramid.omero.get("channels") or ()]
    return bool(attributes.get("rgb")) or (channels == 3 and shown == list(COLOURS[:3]))


def _georeference(attributes: Mapping[str, Any]) -> Georeference | None:
    ours = attributes.get("georeference")
    return from_attributes(ours) if isinstance(ours, Mapping) else None


def _further(attributes: Mapping[str, Any], pyramid: Multiscales, level: int) -> dict[str, Any]:
    """Return metadata that is only kept: that of the source of an earlier run, and display settings."""
    kept = attributes.get("source_attributes")
    found = plain(kept) if isinstance(kept, Mapping) else {}
    ome: dict[str, Any] = {"name": pyramid.name, "omero": plain(pyramid.omero)}
    ome["translation"] = {a: v for a, v in pyramid.translations[level].items() if v}
    ome = {k: v for k, v in ome.items() if v}
    return {**found, "ome": ome} if ome else found
