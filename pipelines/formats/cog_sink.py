"""Write Cloud-Optimised GeoTIFF, lossless, with the georeference, and overviews that leave nodata out."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipelines.image.info import Georeference, ImageInfo
from pipelines.image.levels import create_level, level_factors, reordered
from pipelines.image.sink import SINKS, Level, Sink
from pipelines.image.window import Grid, Region
from pipelines.store.arrays import choose_chunks, holds, open_array
from pipelines.store.publish import finished_file, scratch_folder

WORKING = "pixels"
BLOCK = 512
LARGEST_SIDE = 2**31 - 1

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")

COMPRESSION = {"zstd": "DEFLATE", "lz4": "DEFLATE", "none": "NONE"}
"""Codec of the spec -> of the file: every reader of GeoTIFF knows DEFLATE, many know no zstd, none lz4."""

OUTDATED = ("STATISTICS_", "OVR_RESAMPLING_ALG")
"""Beginnings of tags that describe the pixels of the source, or how its file was made."""


@SINKS.register("cog")
class CogSink(Sink):
    """A georeferenced raster, as GIS software and cloud readers expect it."""

    extensions: ClassVar[tuple[str, ...]] = (".tif", ".tiff")
    library_bytes: ClassVar[int] = 60 << 20
    about: ClassVar[str] = "Cloud-Optimised GeoTIFF for images with a georeference; DEFLATE"
    priority: ClassVar[int] = 10

    @classmethod
    def suits(cls, info: ImageInfo) -> bool:
        """Return whether there is a georeference to keep."""
        return info.georeference is not None

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return the working array, one band after the other."""
        _refuse(info)
        _georeferencing(info.georeference)
        axes = "cyx" if "c" in info.axes else "yx"
        plane = reordered(_flat(info), axes)
        layout = choose_chunks(axes, plane.shape, self.spec.chunk)
        return (Level(WORKING, plane.replace(chunks=layout.unit), layout.chunks, (1,) * len(axes)),)

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Lay out the working array."""
        create_level(root, levels[0], self.spec.compression)

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Copy the working array into a tiled file by windows, then let GDAL order it and add overviews."""
        import rasterio
        from rasterio.shutil import copy

        with scratch_folder(target) as scratch, _gdal(memory, scratch), finished_file(target) as part:
            tiled = scratch / "tiled.tif"
            with rasterio.open(tiled, "w", **_profile(levels[0].info, info)) as dataset:
                _describe(dataset, info)
                for band, window, values in _blocks(root, levels[0]):
                    dataset.write(values, band, window=window)
            copy(str(tiled), str(part), driver="COG", **self._options(levels[0].info))

    def _options(self, plane: ImageInfo) -> dict[str, str]:
        """Return the options of GDAL's COG driver; there are as many overviews as levels in an OME-Zarr pyramid."""
        codec = COMPRESSION[self.spec.compression]
        options = {
            "BLOCKSIZE": str(BLOCK),
            "COMPRESS": codec,
            "BIGTIFF": "IF_SAFER",
            "NUM_THREADS": "ALL_CPUS",
            "OVERVIEW_RESAMPLING": "MODE" if plane.labels else "AVERAGE",
            "OVERVIEWS": "IGNORE_EXISTING",
            "OVERVIEW_COUNT": str(len(level_factors(plane, self.spec.pyramid))),
        }
        if codec != "NONE":
            options |= {"PREDICTOR": "YES", "OVERVIEW_COMPRESS": codec, "OVERVIEW_PREDICTOR": "YES"}
        if not level_factors(plane, self.spec.pyramid):
            del options["OVERVIEW_COUNT"]
            options["OVERVIEWS"] = "NONE"
        return options


def _refuse(info: ImageInfo) -> None:
    if importlib.util.find_spec("rasterio") is None:
        raise ValueError(
            "Writing GeoTIFF needs rasterio, which is not installed. Install the extra `geo`, "
            "or choose a target that ends in .zarr or .ome.zarr, which keep the georeference too."
        )
    if info.dtype.name not in DTYPES:
        raise ValueError(
            f"GeoTIFF cannot hold {info.dtype.name}. Allowed: {', '.join(DTYPES)}. "
            "Set sink.dtype, or choose a target that ends in .zarr."
        )
    deep = [f"{a} of length {info.size(a)}" for a in "tz" if info.size(a) > 1]
    if deep:
        raise ValueError(
            f"GeoTIFF holds rows, columns and bands, the image also has {' and '.join(deep)}. "
            "Choose a target that ends in .zarr or .ome.zarr."
        )
    if max(info.size("y"), info.size("x")) > LARGEST_SIDE:
        raise ValueError(
            f"GeoTIFF holds {LARGEST_SIDE:,} pixels per side, the image has {info.size('y'):,} rows and "
            f"{info.size('x'):,} columns. Choose a target that ends in .zarr."
        )


def _flat(info: ImageInfo) -> ImageInfo:
    """Return the image without its axes t and z of length 1."""
    keep = [i for i, a in enumerate(info.axes) if a not in "tz"]
    return info.replace(
        axes="".join(info.axes[i] for i in keep),
        shape=tuple(info.shape[i] for i in keep),
        chunks=tuple(info.chunks[i] for i in keep),
    )


@contextmanager
def _gdal(memory: int, scratch: Path) -> Iterator[None]:
    """Run GDAL with a third of the memory as its cache, and with its temporary files in `scratch`."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # GDAL takes numbers below 100 000 for megabytes.
    cache = max(memory // 3, 16 << 20)
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=cache, CPL_TMPDIR=str(scratch)):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _profile(plane: ImageInfo, info: ImageInfo) -> dict[str, Any]:
    """Return the arguments that make the tiled file."""
    found: dict[str, Any] = {
        "driver": "GTiff",
        "height": plane.size("y"),
        "width": plane.size("x"),
        "count": plane.size("c"),
        "dtype": plane.dtype.name,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "interleave": "band",
        "compress": "deflate",
        "zlevel": 1,
        "num_threads": "all_cpus",
        "bigtiff": "if_safer",
    }
    if info.nodata is not None and holds(plane.dtype, info.nodata):
        found["nodata"] = int(info.nodata) if plane.dtype.kind in "iu" else float(info.nodata)
    return {**found, **_georeferencing(info.georeference)}


def _georeferencing(reference: Georeference | None) -> dict[str, Any]:
    """Return rasterio's arguments for a georeference.

    Raises
    ------
    ValueError
        For coordinate systems that the installed PROJ does not know.
    """
    from affine import Affine
    from rasterio.control import GroundControlPoint

    if reference is None:
        return {}
    if reference.gcps:
        points = [
            GroundControlPoint(row=row, col=column, x=x, y=y, z=z, id=name)
            for row, column, x, y, z, name in reference.gcps
        ]
        return {"gcps": points, "crs": _crs(reference.gcps_crs)}
    found: dict[str, Any] = {}
    if reference.crs:
        found["crs"] = _crs(reference.crs)
    if reference.transform is not None:
        found["transform"] = Affine(*reference.transform)
    return found


def _crs(text: str) -> Any:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_user_input(text) if text else None
    except CRSError as error:
        raise ValueError(
            f"GeoTIFF cannot hold the coordinate system {text[:60]!r}: {error}. "
            "Choose a target that ends in .zarr, which keeps its text."
        ) from error


def _describe(dataset: Any, info: ImageInfo) -> None:
    """Put band names, scales, offsets, units, colours and tags on a dataset."""
    count = dataset.count
    if len(info.channel_names) == count:
        dataset.descriptions = info.channel_names
    known = info.attributes
    for key in ("scales", "offsets", "units"):
        values = known.get(key)
        if isinstance(values, list | tuple) and len(values) == count:
            setattr(dataset, key, tuple(values))
    dataset.colorinterp = _colours(info, count)
    dataset.update_tags(**_current(known.get("tags")))
    if known.get("rpc"):
        dataset.update_tags(ns="RPC", **known["rpc"])
    for band, tags in enumerate(known.get("band_tags") or (), start=1):
        if band <= count:
            dataset.update_tags(band, **_current(tags))


def _colours(info: ImageInfo, count: int) -> list[Any]:
    from rasterio.enums import ColorInterp

    names = info.attributes.get("colorinterp")
    if isinstance(names, list | tuple) and len(names) == count:
        # A palette belongs to the source's values; the result is grey.
        return [ColorInterp.gray if name == "palette" else ColorInterp[str(name)] for name in names]
    if info.rgb and count in (3, 4):
        return [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha][:count]
    return [ColorInterp.gray] + [ColorInterp.undefined] * (count - 1)


def _current(tags: Any) -> dict[str, str]:
    if not isinstance(tags, Mapping):
        return {}
    return {str(key): str(value) for key, value in tags.items() if not str(key).startswith(OUTDATED)}


def _blocks(root: str, level: Level) -> Iterator[tuple[int, Any, np.ndarray[Any, Any]]]:
    """Yield (band, window, pixels): one band and one block of chunks at a time."""
    from rasterio.windows import Window

    array = open_array(root, level.path)
    grid = Grid(level.info.shape, level.info.chunks)
    for tile in range(len(grid)):
        region: Region = grid.region(tile)
        y, x = region[-2:]
        values = np.asarray(array[region])
        bands = range(region[0].start, region[0].stop) if len(region) == 3 else range(1)
        for band, plane in zip(bands, values.reshape(-1, *values.shape[-2:]), strict=True):
            yield band + 1, Window(x.start, y.start, x.stop - x.start, y.stop - y.start), plane
