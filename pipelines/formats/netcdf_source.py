"""Read NetCDF 3 and 4 by xarray: one gridded variable, by region."""

from __future__ import annotations

import importlib.util
import math
import weakref
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.lazy_modules import LazyModule
from pipelines.formats.metadata.cf import cf_georeference, cf_nodata, cf_packing, coordinate_name, plain
from pipelines.image.axes import axis_letter, resolve_axes
from pipelines.image.errors import (
    damaged,
    local_file,
    missing_extra,
    pick_level,
    pick_path,
    refuse_options,
)
from pipelines.image.identity import file_identity
from pipelines.image.info import ImageInfo
from pipelines.image.source import SOURCES, Source, SourceSpec
from pipelines.store.addresses import local_path

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = LazyModule("xarray")

CLASSIC, HDF5 = b"CDF", b"\x89HDF\r\n\x1a\n"

PACKING = (
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "units",
    "grid_mapping",
    "coordinates",
)
"""Attributes with a field or an attribute of `ImageInfo` of their own; the others are kept together."""


@SOURCES.register("netcdf")
class NetcdfSource(Source):
    """One variable, in the units of the file: packed values stay packed, scale and offset are metadata."""

    extensions = (".nc", ".nc4", ".cdf")
    about = "NetCDF 3 and 4, one variable chosen by `path`; needs the extra geo"

    def __init__(self, spec: SourceSpec) -> None:
        refuse_options(spec, "a NetCDF file", ("series",))
        path = local_file(spec, "NetCDF files")
        group, _, name = (spec.path or "").strip("/").rpartition("/")
        dataset = _open(spec, path, group)
        self._left = weakref.finalize(self, LEFT.append, dataset)
        _refuse_cut_short(spec, path, dataset)
        wanted = spec.model_copy(update={"path": name or None})
        variable = pick_path(wanted, _images(dataset), "variable")
        self._array = dataset[variable].variable
        pick_level(spec, [self._array.shape])
        self.info = _describe(spec, dataset, self._array)

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 10 for files that begin as NetCDF files do; for HDF5 files only with an ending of NetCDF."""
        path = local_path(uri)
        if path is None or not path.is_file():
            return 0
        with path.open("rb") as file:
            magic = file.read(len(HDF5))
        if magic.startswith(CLASSIC):
            return 10
        return 10 if magic == HDF5 and path.suffix.lower() in cls.extensions else 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open the file, reading only metadata."""
        return cls(spec)

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region; xarray lets one thread at a time into the library."""
        return np.asarray(self._array[region].values).astype(self.info.dtype, copy=False)


def _engine(spec: SourceSpec, path: Path) -> Any:
    """Return the name of the library that can read the file; without one, xarray chooses by the ending."""
    if importlib.util.find_spec("netCDF4") is not None:
        return "netcdf4"
    with path.open("rb") as file:
        classic = file.read(3) == CLASSIC
    if classic:
        return "scipy"
    if importlib.util.find_spec("h5netcdf") is None or importlib.util.find_spec("h5py") is None:
        raise missing_extra(spec.uri, "netCDF4", "geo")
    return "h5netcdf"


LEFT: deque[xr.Dataset] = deque()
"""Files of sources that are gone, to be closed before the next is opened. Not at once: the collector may come by while
xarray holds its lock, and closing waits for that lock."""


def _open(spec: SourceSpec, path: Path, group: str) -> xr.Dataset:
    while LEFT:
        LEFT.popleft().close()
    engine = _engine(spec, path)
    try:
        # Undecoded, so that values, fill value and packing are those of the file; uncached, so that memory is
        # bounded.
        return xr.open_dataset(path, engine=engine, group=group or None, decode_cf=False, cache=False)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise damaged(spec.uri, "NetCDF", error) from error


def _refuse_cut_short(spec: SourceSpec, path: Path, dataset: xr.Dataset) -> None:
    """Refuse classic files that end too early: the library silently reads zeros there."""
    with path.open("rb") as file:
        classic = file.read(3) == CLASSIC
    missing = sum(v.nbytes for v in dataset.variables.values()) - path.stat().st_size
    if classic and missing > 0:
        raise damaged(spec.uri, "NetCDF", f"at least {missing:,} bytes of its variables are missing")


def _images(dataset: xr.Dataset) -> dict[str, str]:
    """Return the variables that can be images: not the coordinates, nor the bounds of their cells."""
    beside: set[str] = set()
    for variable in dataset.variables.values():
        beside.add(str(variable.attrs.get("bounds", "")))
        beside.update(str(variable.attrs.get("coordinates", "")).split())
    return {
        str(name): f"{dict(v.sizes)} {v.dtype}"
        for name, v in dataset.data_vars.items()
        if v.ndim >= 2 and v.dtype.kind in "iufcb" and str(name) not in beside
    }


def _describe(spec: SourceSpec, dataset: xr.Dataset, array: xr.Variable) -> ImageInfo:
    dtype = np.dtype(array.dtype).newbyteorder("=")
    names: list[str | None] = [str(d) for d in array.dims]
    axes = resolve_axes(spec, array.shape, dtype, names)
    mapping = dataset.variables.get(str(array.attrs.get("grid_mapping", "spatial_ref")))
    rows, columns = (_coordinate(dataset, names, axes, letter) for letter in "yx")
    return ImageInfo(
        shape=array.shape,
        dtype=dtype,
        axes=axes,
        chunks=_chunks(array),
        nodata=cf_nodata(array.attrs, dtype),
        georeference=cf_georeference(mapping.attrs if mapping is not None else {}, rows, columns),
        attributes=_attributes(array),
        identity=file_identity(spec),
        by_region=True,
    )


def _coordinate(dataset: xr.Dataset, names: list[str | None], axes: str, letter: str) -> NDArray[Any] | None:
    name = coordinate_name(names, axes, letter)
    found = dataset.variables.get(name) if name and axis_letter(name) else None
    return np.asarray(found.values) if found is not None and found.ndim == 1 else None


def _chunks(array: xr.Variable) -> tuple[int, ...]:
    """Return the shape of a chunk of the file, or of a row where it has no chunks."""
    sizes = array.encoding.get("chunksizes")
    if sizes and len(sizes) == array.ndim and math.prod(sizes):
        return tuple(min(int(c), n) for c, n in zip(sizes, array.shape, strict=True))
    return (1,) * (array.ndim - 1) + (max(1, array.shape[-1]),)


def _attributes(array: xr.Variable) -> dict[str, Any]:
    rest = plain({k: v for k, v in array.attrs.items() if k not in PACKING})
    unit = array.attrs.get("units")
    found = {**cf_packing(array.attrs), "units": [str(unit)] if unit else [], "attrs": rest}
    return {k: v for k, v in found.items() if v}
