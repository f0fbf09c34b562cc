"""Small files of every source format, written from an array; one function per format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
import xarray as xr
import zarr
from numpy.typing import NDArray

from pipelines.formats.metadata.ome import build_multiscales
from pipelines.image.source import SourceSpec

Pixels = NDArray[Any]


def ramp(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> Pixels:
    """Return pixels that all differ from their neighbours."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 250, shape).astype(dtype)


def write_zarr(folder: Path, pixels: Pixels) -> SourceSpec:
    array = zarr.create_array(
        folder / "image.zarr",
        shape=pixels.shape,
        chunks=(16, 16),
        dtype=pixels.dtype,
        dimension_names=("y", "x"),
        overwrite=True,
    )
    array[:] = pixels
    return SourceSpec(uri=str(folder / "image.zarr"))


def write_ome_zarr(folder: Path, pixels: Pixels, version: str = "0.5") -> SourceSpec:
    uri = str(folder / "image.ome.zarr")
    attributes = build_multiscales(
        axes="yx",
        scales=[{"y": 0.5, "x": 0.25}, {"y": 1.0, "x": 0.5}],
        translations=[{"y": 10.0}, {"y": 10.25, "x": 0.125}],
        units={"y": "micrometer", "x": "micrometer"},
        version=version,
    )
    group = zarr.open_group(uri, mode="w", zarr_format=2 if version == "0.4" else 3, attributes=attributes)
    for path, level in (("0", pixels), ("1", pixels[::2, ::2])):
        group.create_array(path, shape=level.shape, chunks=(16, 16), dtype=level.dtype)[:] = level
    return SourceSpec(uri=uri)


def write_tiff(folder: Path, pixels: Pixels) -> SourceSpec:
    tifffile.imwrite(folder / "image.tif", pixels, tile=(16, 32), compression="zlib")
    return SourceSpec(uri=str(folder / "image.tif"))


def write_geotiff(folder: Path, pixels: Pixels, **options: Any) -> SourceSpec:
    rasterio = __import__("pytest").importorskip("rasterio", reason="the extra geo is not installed")
    bands = pixels if pixels.ndim == 3 else pixels[None]
    known = {
        "crs": "EPSG:32618",
        "transform": rasterio.Affine(30.0, 0.0, 1000.0, 0.0, -30.0, 2000.0),
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 32,
        "compress": "deflate",
        **options,
    }
    known = {key: value for key, value in known.items() if value is not None}
    count, height, width = bands.shape
    uri = str(folder / "image.tif")
    with rasterio.open(
        uri, "w", driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, **known
    ) as file:
        file.write(bands)
    return SourceSpec(uri=uri)


def write_picture(folder: Path, pixels: Pixels) -> SourceSpec:
    iio.imwrite(folder / "image.png", pixels)
    return SourceSpec(uri=str(folder / "image.png"))


def write_npy(folder: Path, pixels: Pixels) -> SourceSpec:
    with (folder / "image.npy").open("wb") as file:
        np.save(file, pixels)
    return SourceSpec(uri=str(folder / "image.npy"))


def write_netcdf(folder: Path, pixels: Pixels) -> SourceSpec:
    rows, columns = pixels.shape
    image = xr.DataArray(
        pixels.astype("int16"),
        dims=("lat", "lon"),
        coords={"lat": 50.0 - np.arange(rows) * 0.5, "lon": np.arange(columns) * 0.25},
        name="temperature",
        attrs={"units": "K", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": np.int16(-9)},
    )
    image.to_netcdf(folder / "image.nc")
    return SourceSpec(uri=str(folder / "image.nc"))


WRITERS: dict[str, Callable[[Path, Pixels], SourceSpec]] = {
    "zarr": write_zarr,
    "ome-zarr": write_ome_zarr,
    "tiff": write_tiff,
    "geotiff": write_geotiff,
    "picture": write_picture,
    "npy": write_npy,
    "netcdf": write_netcdf,
}
"""Format -> a function that writes an image of rows and columns and says how to read it."""
