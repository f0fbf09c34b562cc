"""Write plain Zarr 3: the image's own axes as dimensions, metadata as xarray and rioxarray read them."""

from __future__ import annotations

import base64
import struct
import warnings
from typing import Any, ClassVar

import numpy as np
import zarr

from pipelines.image.georeference import grid_mapping, pixel_centres, to_attributes
from pipelines.image.info import Georeference, ImageInfo
from pipelines.image.levels import create_level
from pipelines.image.sink import SINKS, Level, Sink
from pipelines.store.arrays import choose_chunks, holds, json_number
from pipelines.store.publish import publish_folder

GRID_MAPPING = "spatial_ref"
COORDINATE_CHUNK = 1 << 20
VARIABLE = "image"
"""Name of the array inside the hierarchy: xarray opens groups of named arrays, not an array alone."""


@SINKS.register("zarr")
class ZarrSink(Sink):
    """One array in a group, without a pyramid."""

    extensions: ClassVar[tuple[str, ...]] = (".zarr",)
    about: ClassVar[str] = "Zarr 3, one array with named dimensions, for zarr, dask and xarray"
    is_zarr: ClassVar[bool] = True

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return the one array."""
        if not isinstance(self.spec.pyramid, str) and self.spec.pyramid > 0:
            raise ValueError(
                f"sink.pyramid={self.spec.pyramid} is not possible in plain Zarr, which keeps one level. "
                "Use pyramid: none, or a target that ends in .ome.zarr."
            )
        interleaved = "c" if info.axes.endswith("c") else ""
        layout = choose_chunks(info.axes, info.shape, self.spec.chunk, whole=interleaved)
        return (Level(VARIABLE, info.replace(chunks=layout.unit), layout.chunks, (1,) * len(info.axes)),)

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Write the group, the array and its georeference."""
        zarr.create_group(root, attributes=_describe_group(info))
        create_level(root, levels[0], self.spec.compression, _describe_array(info))
        if info.georeference is not None:
            _locate(root, info, info.georeference)
        with warnings.catch_warnings():
            # Not in the specification yet, so zarr-python warns; other readers pass over it, and xarray wants
            # it.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(root)

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Move the hierarchy to its target."""
        publish_folder(root, target)


def _describe_group(info: ImageInfo) -> dict[str, Any]:
    """Return the attributes of the group: metadata that no convention has keys for, under keys of our own."""
    found: dict[str, Any] = {"axes": info.axes, "source_attributes": dict(info.attributes)}
    if info.georeference is not None:
        found["georeference"] = to_attributes(info.georeference)
    return found


def _describe_array(info: ImageInfo) -> dict[str, Any]:
    """Return the attributes of the array, under the keys of xarray and CF where they have one."""
    found: dict[str, Any] = {
        "spacing": dict(info.spacing),
        "units_of_spacing": dict(info.units),
        "channel_names": list(info.channel_names),
        "rgb": info.rgb,
        "labels": info.labels,
    }
    found = {key: value for key, value in found.items() if value}
    if info.nodata is not None:
        found |= {"nodata": json_number(info.nodata)}
        if holds(info.dtype, info.nodata):
            found["_FillValue"] = _xarray_fill_value(info.dtype, info.nodata)
    if info.georeference is not None:
        found |= {"grid_mapping": GRID_MAPPING, "coordinates": GRID_MAPPING}
    return found


def _xarray_fill_value(dtype: np.dtype[Any], nodata: float) -> Any:
    """Return the fill value as xarray writes it: integers plain, floats as base64 of a double."""
    if dtype.kind != "f":
        return int(nodata)
    return base64.standard_b64encode(struct.pack("<d", float(dtype.type(nodata)))).decode()


def _locate(root: str, info: ImageInfo, reference: Georeference) -> None:
    zarr.create_array(root, name=GRID_MAPPING, shape=(), dtype="int32", attributes=grid_mapping(reference))
    for axis, centres in pixel_centres(reference, info.sizes).items():
        chunks = (min(centres.size, COORDINATE_CHUNK),)
        one = zarr.create_array(root, name=axis, data=centres, chunks=chunks, dimension_names=(axis,))
        one.attrs["axis"] = axis.upper()
