"""Convert a georeference to and from the plain attributes that our own files, xarray and rioxarray read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.image.info import Georeference, ImageInfo


def to_attributes(reference: Georeference) -> dict[str, Any]:
    """Return all of a georeference as JSON values; `from_attributes` gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(reference)))
    return plain


def from_attributes(attributes: Mapping[str, Any]) -> Georeference:
    """Return the georeference that `to_attributes` wrote."""
    transform = attributes.get("transform")
    return Georeference(
        crs=attributes.get("crs", ""),
        transform=None if transform is None else tuple(float(v) for v in transform),
        gcps=tuple(
            (float(row), float(column), float(x), float(y), float(z), str(name))
            for row, column, x, y, z, name in attributes.get("gcps", ())
        ),
        gcps_crs=attributes.get("gcps_crs", ""),
    )


def grid_mapping(reference: Georeference) -> dict[str, Any]:
    """Return the attributes of a CF grid mapping variable, with the keys of GDAL and rioxarray."""
    crs = reference.crs or reference.gcps_crs
    found: dict[str, Any] = {"crs_wkt": crs, "spatial_ref": crs} if crs else {}
    if reference.transform is not None:
        a, b, c, d, e, f = reference.transform
        found["GeoTransform"] = " ".join(repr(float(v)) for v in (c, a, b, f, d, e))
    if reference.gcps:
        features = [_feature(point) for point in reference.gcps]
        found["gcps"] = json.dumps({"type": "FeatureCollection", "features": features})
    return found


def _feature(point: tuple[float, float, float, float, float, str]) -> dict[str, Any]:
    row, column, x, y, z, name = point
    return {
        "type": "Feature",
        "properties": {"id": name, "info": "", "row": row, "col": column},
        "geometry": {"type": "Point", "coordinates": [x, y, z]},
    }


def pixel_centres(reference: Georeference, sizes: Mapping[str, int]) -> dict[str, NDArray[np.float64]]:
    """Return the coordinates of rows and columns, nothing where the grid is rotated or unknown."""
    if reference.transform is None:
        return {}
    a, b, c, d, e, f = reference.transform
    if b or d:
        return {}
    rows, columns = (np.arange(sizes[axis], dtype=np.float64) + 0.5 for axis in "yx")
    return {"y": np.asarray(f + e * rows, np.float64), "x": np.asarray(c + a * columns, np.float64)}


def to_pixels(at: Mapping[str, float], image: ImageInfo) -> dict[str, float]:
    """Return a place on the ground as numbers of pixels from the image's first corner.

    Without a transform a place is in units of the spacing, from the centre of the first pixel.
    """
    ground = image.georeference
    if ground is None or ground.transform is None:
        return {axis: value / image.spacing.get(axis, 1.0) + 0.5 for axis, value in at.items()}
    a, b, c, d, e, f = ground.transform
    x, y, scale = at["x"] - c, at["y"] - f, a * e - b * d
    pixels = {"x": (e * x - b * y) / scale, "y": (a * y - d * x) / scale}
    return {**{axis: value + 0.5 for axis, value in at.items()}, **pixels}


def to_ground(cells: NDArray[np.float64], image: ImageInfo) -> NDArray[np.float64]:
    """Return places on the ground, x first, of places in cells from the centre of the first one, rows first.

    The inverse of `to_pixels`.
    """
    axes, ground = "zyx"[-cells.shape[1] :], image.georeference
    at = dict(zip(axes, cells.T, strict=True))
    if ground is None or ground.transform is None:
        return np.stack([at[axis] * image.spacing.get(axis, 1.0) for axis in reversed(axes)], axis=1)
    a, b, c, d, e, f = ground.transform
    column, row = at["x"] + 0.5, at["y"] + 0.5
    planes = [at["z"]] if "z" in at else []
    return np.stack([a * column + b * row + c, d * column + e * row + f, *planes], axis=1)
