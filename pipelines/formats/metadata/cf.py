"""Read the metadata that CF, xarray and rioxarray define for an array: nodata, packing, georeference."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.image.info import Georeference
from pipelines.image.nodata import stored_nodata

NODATA_KEYS = ("nodata", "_FillValue", "missing_value", "_FillValue_")
EVEN = 1e-3
"""Share of a step by which coordinates may be off an even grid: they are often stored in single precision."""


def cf_nodata(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> float | None:
    """Return the value of invalid pixels, None where it is missing or no pixel can have it."""
    for key in NODATA_KEYS:
        if key in attributes:
            value = _number(attributes[key])
            return None if value is None else stored_nodata(value, dtype)
    return None


def _number(value: Any) -> float | None:
    """Return a number from JSON; xarray writes floats into Zarr 3 as base64 of a little-endian double."""
    if isinstance(value, list | tuple | np.ndarray):
        value = value[0] if len(value) else None
    if not isinstance(value, str):
        return None if value is None else float(value)
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return float(struct.unpack("<d", base64.standard_b64decode(value))[0])
    except (binascii.Error, struct.error):
        return None


def cf_packing(attributes: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return scale and offset of packed values for `ImageInfo.attributes`; empty where values are plain."""
    scale, offset = _number(attributes.get("scale_factor")), _number(attributes.get("add_offset"))
    if scale is None and offset is None:
        return {}
    return {"scales": [1.0 if scale is None else scale], "offsets": [offset or 0.0]}


def plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON values: NumPy numbers and arrays become Python's."""
    return {str(k): _plain(v) for k, v in attributes.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    # JSON cannot hold NaN and infinities as numbers; as strings they are kept, and plans and digests are valid JSON.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def cf_georeference(
    mapping: Mapping[str, Any], rows: NDArray[Any] | None, columns: NDArray[Any] | None
) -> Georeference | None:
    """Return the georeference of a gridded variable.

    Parameters
    ----------
    mapping : mapping
        Attributes of its grid mapping variable, empty without one.
    rows, columns : ndarray or None
        Coordinates of the pixel centres.

    Returns
    -------
    Georeference or None
        None where there is neither a grid mapping nor evenly spaced coordinates.
    """
    crs = str(mapping.get("crs_wkt") or mapping.get("spatial_ref") or "")
    transform = _gdal_transform(mapping) or _even_transform(rows, columns)
    return Georeference(crs=crs, transform=transform) if crs or transform else None


def _gdal_transform(mapping: Mapping[str, Any]) -> tuple[float, ...] | None:
    parts = str(mapping.get("GeoTransform", "")).split()
    if len(parts) != 6:
        return None
    c, a, b, f, d, e = map(float, parts)
    return (a, b, c, d, e, f)


def _even_transform(rows: NDArray[Any] | None, columns: NDArray[Any] | None) -> tuple[float, ...] | None:
    y, x = _even_step(rows), _even_step(columns)
    if y is None or x is None:
        return None
    (y0, dy), (x0, dx) = y, x
    return (dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2)


def _even_step(values: NDArray[Any] | None) -> tuple[float, float] | None:
    """Return first value and step of an even grid, None for any other."""
    if values is None or values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        return None
    grid = values.astype(np.float64)
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    if not step or not np.all(np.abs(np.diff(grid) - step) <= EVEN * abs(step)):
        return None
    return float(grid[0]), float(step)


def coordinate_name(names: Sequence[str | None], axes: str, letter: str) -> str | None:
    """Return the name of the dimension with an axis letter."""
    found = dict(zip(axes, names, strict=False))
    return found.get(letter)
