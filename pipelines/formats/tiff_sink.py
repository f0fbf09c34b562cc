"""Write TIFF by tifffile: tiled, streamed, BigTIFF where needed; OME-TIFF for several planes or by its name."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tifffile
from numpy.typing import NDArray

from pipelines.formats.metadata.ome import COLOURS
from pipelines.image.georeference import to_attributes
from pipelines.image.info import ImageInfo, digest
from pipelines.image.levels import Pyramid, create_level, pyramid_infos, reordered
from pipelines.image.sink import SINKS, Level, Sink
from pipelines.store.arrays import choose_chunks, holds, json_number, open_array
from pipelines.store.publish import finished_file

TILE = 512
OME_ENDINGS = (".ome.tif", ".ome.tiff")
CLASSIC_BYTES = 2**32 - 2**25
"""More than this does not fit behind the 32-bit offsets of classic TIFF, directories included."""

OME_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
DTYPES = (*OME_DTYPES, "uint64", "int64", "float16")

SYMBOLS = {
    "angstrom": "Å", "picometer": "pm", "nanometer": "nm", "micrometer": "µm", "millimeter": "mm",
    "centimeter": "cm", "meter": "m", "kilometer": "km", "inch": "in", "foot": "ft",
    "second": "s", "millisecond": "ms", "microsecond": "µs", "minute": "min", "hour": "h",
}  # fmt: skip
"""Unit names -> the symbols that OME-XML allows."""

METRES = {
    "angstrom": 1e-10, "picometer": 1e-12, "nanometer": 1e-9, "micrometer": 1e-6, "millimeter": 1e-3,
    "centimeter": 1e-2, "meter": 1.0, "kilometer": 1e3, "inch": 0.0254, "foot": 0.3048,
}  # fmt: skip

IN_XML = ("spacing", "units_of_spacing", "channel_names")
"""Metadata that OME-XML has elements for."""

NODATA_TAG = 42113
"""GDAL's tag of the nodata value, a number as text; QGIS, rasterio and tifffile read it."""


@SINKS.register("tiff")
class TiffSink(Sink):
    """Pages of tiles, one per plane, as microscopy software reads them."""

    extensions: ClassVar[tuple[str, ...]] = (".tif", ".tiff", *OME_ENDINGS)
    about: ClassVar[str] = "TIFF, BigTIFF, OME-TIFF, tiled, DEFLATE; pyramid in .ome.tif or where asked for"
    pyramid: ClassVar[bool] = True

    @classmethod
    def suits(cls, info: ImageInfo) -> bool:
        """Return whether there is no georeference, which this format keeps as text only."""
        return info.georeference is None

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return the working arrays: colours of a pixel together, other channels plane by plane."""
        self._refuse(info)
        axes, whole = _page_axes(info), "c" if _colours(info) else ""
        found = []
        # The levels of an OME-TIFF have the planes of the finest one.
        infos = pyramid_infos(reordered(info, axes), self._pyramid, reduce_z=False)
        for i, (level, factors) in enumerate(infos):
            layout = choose_chunks(axes, level.shape, self.spec.chunk, whole=whole, planes=True)
            found.append(Level(f"level{i}", level.replace(chunks=layout.unit), layout.chunks, factors))
        return tuple(found)

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Lay out the working arrays."""
        for level in levels:
            create_level(root, level, self.spec.compression)

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Stream the levels into one file, tile by tile."""
        size = sum(level.info.nbytes for level in levels)
        ome = self._is_ome(info)
        big = size > CLASSIC_BYTES
        with (
            finished_file(target) as part,
            tifffile.TiffWriter(part, bigtiff=big, ome=ome) as writer,
        ):
            for number in range(len(levels)):
                writer.write(**self._series(root, info, levels, number, memory))

    def _series(
        self, root: str, info: ImageInfo, levels: tuple[Level, ...], number: int, memory: int
    ) -> dict[str, Any]:
        """Return the arguments that write one level."""
        level = levels[number]
        tile = _tile(level.info)
        found: dict[str, Any] = {
            "data": _tiles(root, level, tile, _colours(info)),
            "shape": level.info.shape,
            "dtype": level.info.dtype,
            "tile": tile,
            "photometric": "rgb" if _colours(info) else "minisblack",
            # tifffile encodes what fits into this buffer at a time, 512 MiB by default.
            "buffersize": max(1 << 20, memory // 8),
            "resolution": _resolution(level.info),
            "resolutionunit": "CENTIMETER" if _resolution(level.info) else None,
            "extratags": _nodata_tag(level.info),
            "software": False,
        }
        if _colours(info):
            alpha = ["unassalpha"] if info.size("c") == 4 else None
            found |= {"planarconfig": "contig", "extrasamples": alpha}
        if self.spec.compression != "none":
            found |= {"compression": "zlib", "predictor": level.info.dtype.itemsize <= 4 or None}
        if number:
            return {**found, "subfiletype": 1, "metadata": None}
        metadata = self._ome(info) if self._is_ome(info) else _described(info)
        return {**found, "subifds": len(levels) - 1, "metadata": metadata}

    @property
    def _pyramid(self) -> Pyramid:
        if self.spec.pyramid == "auto" and not self.spec.uri.lower().endswith(OME_ENDINGS):
            return "none"
        return self.spec.pyramid

    def _is_ome(self, info: ImageInfo) -> bool:
        planes = math.prod(info.size(a) for a in info.axes if a in "tz" or (a == "c" and not _colours(info)))
        return planes > 1 or self.spec.uri.lower().endswith(OME_ENDINGS)

    def _refuse(self, info: ImageInfo) -> None:
        kind, allowed = ("OME-TIFF", OME_DTYPES) if self._is_ome(info) else ("TIFF", DTYPES)
        if info.dtype.name not in allowed:
            raise ValueError(
                f"{kind} cannot hold {info.dtype.name}. Allowed: {', '.join(allowed)}. "
                "Set sink.dtype, or choose a target that ends in .ome.zarr or .zarr."
            )
        if max(info.shape) > 2**31 - 1:
            raise ValueError(f"TIFF holds {2**31 - 1:,} pixels per side, got {info.shape}. Choose .ome.zarr.")

    def _ome(self, info: ImageInfo) -> dict[str, Any]:
        """Return the metadata for the OME-XML."""
        known = info.attributes.get("ome") or {}
        found: dict[str, Any] = {
            "axes": _page_axes(info).replace("c", "s" if _colours(info) else "c").upper(),
            "Name": known.get("name") or Path(self.spec.uri).name.split(".")[0],
            # Random by default: the same run must give the same bytes.
            "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, digest(info.identity, info.shape, info.axes))),
            **_physical_sizes(info),
        }
        if info.size("c") > 1 and not _colours(info):
            names = {"Name": list(info.channel_names)} if info.channel_names else {}
            found["Channel"] = {**names, **_channel_colours(known, info.size("c"), info.rgb)}
        kept = {key: json.dumps(value) for key, value in _described(info).items() if key not in IN_XML}
        return {**found, "MapAnnotation": kept} if kept else found


def _colours(info: ImageInfo) -> bool:
    """Return whether the channels are samples of one pixel."""
    return info.rgb and info.size("c") in (3, 4) and info.dtype.kind == "u" and info.dtype.itemsize <= 2


def _page_axes(info: ImageInfo) -> str:
    """Return the order of the file: planes by time, channel and depth; colours last."""
    pages = info.canonical_axes
    return pages.replace("c", "") + "c" if _colours(info) else pages


def _tile(info: ImageInfo) -> tuple[int, int]:
    """Return the shape of a tile: small images need no 512, but multiples of 16 are the format's rule."""
    rows, columns = (min(TILE, math.ceil(info.size(a) / 16) * 16) for a in "yx")
    return rows, columns


def _tiles(root: str, level: Level, tile: tuple[int, int], colours: bool) -> Iterator[NDArray[Any]]:
    """Yield the tiles of all pages in the order of the file."""
    array = open_array(root, level.path)
    samples = (slice(None),) if colours else ()
    ends = level.info.shape[: -2 - len(samples)]
    for position in product(*map(range, ends)):
        for y, x in product(range(0, level.info.size("y"), tile[0]), range(0, level.info.size("x"), tile[1])):
            yield np.asarray(array[(*position, slice(y, y + tile[0]), slice(x, x + tile[1]), *samples)])


def _resolution(info: ImageInfo) -> tuple[float, float] | None:
    """Return pixels per centimetre along columns and rows, None where the unit is no length."""
    units = [METRES.get(info.units.get(a, "")) for a in "xy"]
    if None in units or not all(info.spacing.get(a, 0) > 0 for a in "xy"):
        return None
    x, y = (0.01 / (info.spacing[a] * (unit or 1.0)) for a, unit in zip("xy", units, strict=True))
    return x, y


def _nodata_tag(info: ImageInfo) -> list[tuple[int, str, int, str, bool]]:
    if info.nodata is None or not holds(info.dtype, info.nodata):
        return []
    text = repr(info.nodata) if info.dtype.kind == "f" else str(int(info.nodata))
    return [(NODATA_TAG, "s", 0, text, False)]


def _physical_sizes(info: ImageInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    keys = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}
    for axis, key in keys.items():
        unit = SYMBOLS.get(info.units.get(axis, ""))
        if axis in info.axes and axis in info.spacing and (unit or info.spacing[axis] != 1.0):
            found[key] = info.spacing[axis]
            if axis != "t" or unit:
                found[f"{key}Unit"] = unit or "pixel"
    return found


def _channel_colours(known: Any, count: int, rgb: bool) -> dict[str, list[int]]:
    """Return display colours as OME-XML has them: red, green, blue, alpha in one signed 32-bit number."""
    shown = [str(c.get("color", "")) for c in (known.get("omero") or {}).get("channels") or ()]
    if not shown and rgb:
        shown = [*COLOURS[:3], "FFFFFF"][:count]
    if len(shown) != count or not all(len(c) == 6 for c in shown):
        return {}
    return {"Color": [((int(c, 16) << 8 | 0xFF) ^ 0x80000000) - 0x80000000 for c in shown]}


def _described(info: ImageInfo) -> dict[str, Any]:
    """Return the metadata that TIFF has no tags for, as JSON values."""
    found: dict[str, Any] = {
        "spacing": {a: s for a, s in info.spacing.items() if a in info.axes},
        "units_of_spacing": {a: u for a, u in info.units.items() if a in info.axes},
    }
    if info.channel_names:
        found["channel_names"] = list(info.channel_names)
    if info.labels:
        found["labels"] = True
    if info.nodata is not None:
        found["nodata"] = json_number(info.nodata)
    if info.georeference is not None:
        found["georeference"] = to_attributes(info.georeference)
    return {key: value for key, value in found.items() if value}
