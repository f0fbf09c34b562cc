"""Read GeoTIFF and COG by region, with the georeference, overviews as levels, and one handle per thread."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.formats.metadata.tiff import GEO_TAGS, first_page_tags, is_tiff, missing_bytes
from pipelines.image.errors import (
    damaged,
    local_file,
    missing_extra,
    pick_level,
    pick_series,
    refuse_options,
)
from pipelines.image.identity import file_identity
from pipelines.image.info import Georeference, ImageInfo
from pipelines.image.nodata import stored_nodata
from pipelines.image.source import SOURCES, Source, SourceSpec, UnreadableSourceError
from pipelines.store.addresses import local_path, shown

LARGEST_BLOCK = 64 * 2**20
"""Bytes of a decoded strip or tile above which a file is copied into Zarr first."""

CACHE_BYTES = 32 * 2**20
"""GDAL's block cache, in all threads together; by default it takes a twentieth of the machine's memory."""

COLOURS = ("red", "green", "blue", "alpha")

_OPENING = threading.Lock()


@SOURCES.register("geotiff")
class GeotiffSource(Source):
    """One level of a raster, all bands."""

    extensions = (".tif", ".tiff")
    about = "GeoTIFF and Cloud-Optimised GeoTIFF: CRS, transform, GCPs, nodata, bands, overviews"

    def __init__(self, spec: SourceSpec) -> None:
        refuse_options(spec, "a GeoTIFF", ("path",))
        path = local_file(spec, "GeoTIFF files")
        beyond = missing_bytes(path)
        if beyond:
            raise damaged(spec.uri, "a GeoTIFF", f"its pixels end {beyond:,} bytes after the file does")
        with opened(spec, str(path), None) as first:
            self._address = _page(spec, str(path), first)
        with opened(spec, self._address, None) as full:
            level = pick_level(spec, _sizes(spec, self._address, full)) if spec.level else 0
            self._overview = level - 1 if level else None
            with opened(spec, self._address, self._overview) as dataset:
                self.info = _describe(spec, full, dataset)
                self._masked = _is_masked(dataset)
        self._spec = spec
        self._handles = threading.local()

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 20 for TIFF files with a georeference or GDAL's metadata."""
        path = local_path(uri)
        if path is None or not path.is_file() or not is_tiff(path):
            return 0
        return 20 if GEO_TAGS & first_page_tags(path).keys() else 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open a level, reading only metadata."""
        return cls(spec)

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region, with nodata where a mask hides them."""
        import rasterio
        from rasterio.windows import Window

        rows, columns = region[-2:]
        bands = list(range(region[0].start + 1, region[0].stop + 1)) if len(region) == 3 else 1
        window = Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            dataset = self._dataset()
            pixels = np.asarray(dataset.read(bands, window=window)).astype(self.info.dtype, copy=False)
            if self._masked:
                pixels[..., dataset.read_masks(1, window=window) == 0] = self.info.nodata
        return pixels

    def _dataset(self) -> Any:
        """Return this thread's handle: GDAL's are not to be used by two threads at a time."""
        if not hasattr(self._handles, "dataset"):
            self._handles.dataset = _open(self._spec, self._address, self._overview)
        return self._handles.dataset


def _open(spec: SourceSpec, address: str, overview: int | None) -> Any:
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
    except ImportError as error:
        raise missing_extra(spec.uri, "rasterio", "geo") from error
    options = {} if overview is None else {"overview_level": overview}
    try:
        # The filters of warnings belong to the whole process, so that two threads must not change them at
        # once.
        with _OPENING, warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(address, driver="GTiff", sharing=False, **options)
    except RasterioIOError as error:
        raise damaged(spec.uri, "a GeoTIFF", f"{error} (plain TIFF files: `format: tiff`)") from error


@contextmanager
def opened(spec: SourceSpec, address: str, overview: int | None) -> Iterator[Any]:
    """Yield an open dataset, and close it at the end."""
    dataset = _open(spec, address, overview)
    try:
        yield dataset
    finally:
        dataset.close()


def _page(spec: SourceSpec, path: str, dataset: Any) -> str:
    """Return GDAL's address of the series: a file of several pages has one for each."""
    pages = list(dataset.subdatasets) or [path]
    names = [p.replace(path, spec.uri) for p in pages]
    return path if spec.series == 0 else pages[pick_series(spec, names)]


def _sizes(spec: SourceSpec, address: str, full: Any) -> list[tuple[int, ...]]:
    """Return the rows and columns of all levels."""
    sizes = [tuple(full.shape)]
    for overview in range(len(full.overviews(1))):
        with opened(spec, address, overview) as dataset:
            sizes.append(tuple(dataset.shape))
    return sizes


def _describe(spec: SourceSpec, full: Any, dataset: Any) -> ImageInfo:
    """Return the metadata of a level; the georeference comes from the finest.

    GDAL leaves the transform of an overview unset, with what was in memory, where the file has none.
    """
    dtype = _dtype(dataset)
    count, several = dataset.count, dataset.count > 1
    block = _block(dataset)
    colours = tuple(c.name for c in full.colorinterp)
    nodata = _nodata(spec, full, dtype)
    if _is_masked(dataset):
        nodata = _masked_nodata(spec, dtype, nodata)
    return ImageInfo(
        shape=(count, *dataset.shape) if several else tuple(dataset.shape),
        dtype=dtype,
        axes="cyx" if several else "yx",
        chunks=block if several else block[1:],
        nodata=nodata,
        channel_names=_names(full.descriptions),
        rgb=colours in (COLOURS[:3], COLOURS),
        labels="palette" in colours,
        georeference=_georeference(full, dataset),
        attributes=_attributes(full, colours),
        identity=file_identity(spec),
        by_region=int(np.prod(block)) * dtype.itemsize <= LARGEST_BLOCK,
    )


def _dtype(dataset: Any) -> np.dtype[Any]:
    kinds = set(dataset.dtypes)
    # Pairs of 16-bit integers have no NumPy type; GDAL reads them as complex64.
    return np.dtype("complex64") if kinds == {"complex_int16"} else np.result_type(*kinds)


def _block(dataset: Any) -> tuple[int, int, int]:
    """Return the numbers of bands, rows and columns that are decoded at once."""
    rows, columns = dataset.block_shapes[0]
    interleaved = str(getattr(dataset.interleaving, "value", "")).lower() == "pixel"
    height, width = dataset.shape
    return dataset.count if interleaved else 1, min(rows, height), min(columns, width)


def _names(descriptions: Sequence[str | None]) -> tuple[str, ...]:
    if not any(descriptions):
        return ()
    return tuple(name or f"band {i}" for i, name in enumerate(descriptions, start=1))


def _nodata(spec: SourceSpec, full: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the one nodata value of the bands that are read."""
    bands = range(full.count) if spec.channels is None else [c for c in spec.channels if c < full.count]
    values = {repr(full.nodatavals[b]): full.nodatavals[b] for b in bands}
    if len(values) > 1 and spec.nodata is None:
        each = ", ".join(f"{b}: {full.nodatavals[b]}" for b in bands)
        raise UnreadableSourceError(
            f"The bands of {shown(spec.uri)!r} have different nodata values ({each}), but one is needed for all. "
            "Give `nodata`, or read only bands that agree with `channels`."
        )
    value = next(iter(values.values()), None) if len(values) == 1 else None
    return None if value is None else stored_nodata(float(value), dtype)


def _is_masked(dataset: Any) -> bool:
    """Return whether the file hides pixels by a mask of its own, neither a nodata value nor an alpha band."""
    flags = {flag.name for flag in dataset.mask_flag_enums[0]}
    return "per_dataset" in flags and "alpha" not in flags


def _masked_nodata(spec: SourceSpec, dtype: np.dtype[Any], told: float | None) -> float | None:
    """Return the value that masked pixels are read as."""
    chosen = stored_nodata(spec.nodata, dtype) if spec.nodata is not None else told
    if chosen is None and dtype.kind in "fc":
        return float("nan")
    if chosen is None and spec.nodata is None:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} hides pixels by a mask, and {dtype} has no value of its own for them. "
            "Give `nodata`, a value that no visible pixel has: hidden pixels are then read as this value."
        )
    return chosen


def _georeference(full: Any, dataset: Any) -> Georeference | None:
    down = full.height / dataset.height
    right = full.width / dataset.width
    points, points_crs = full.gcps
    crs = full.crs.to_wkt() if full.crs else ""
    transform = None if full.transform.is_identity else _scaled(tuple(full.transform)[:6], down, right)
    if not (crs or transform or points):
        return None
    return Georeference(
        crs=crs,
        transform=transform,
        gcps=tuple(
            (float(p.row) / down, float(p.col) / right, float(p.x), float(p.y), float(p.z or 0), str(p.id))
            for p in points
        ),
        gcps_crs=points_crs.to_wkt() if points_crs else "",
    )


def _scaled(transform: tuple[float, ...], down: float, right: float) -> tuple[float, ...]:
    """Return the transform of a level whose pixels are `down` rows and `right` columns of the finest."""
    a, b, c, d, e, f = transform
    return (a * right, b * down, c, d * right, e * down, f)


def _attributes(full: Any, colours: tuple[str, ...]) -> dict[str, Any]:
    """Return what a sink of the same family puts back: scales, offsets, units, tags, colours."""
    found: dict[str, Any] = {
        "scales": list(full.scales) if set(full.scales) != {1.0} else [],
        "offsets": list(full.offsets) if set(full.offsets) != {0.0} else [],
        "units": [u or "" for u in full.units] if any(full.units) else [],
        "tags": full.tags(),
        "rpc": full.tags(ns="RPC"),
        "colorinterp": list(colours),
    }
    each = [full.tags(band) for band in range(1, full.count + 1)]
    if any(each):
        found["band_tags"] = each
    return {key: value for key, value in found.items() if value}
