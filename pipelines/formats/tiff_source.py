"""Read TIFF, BigTIFF, OME-TIFF, slides (SVS, NDPI): any series and level, decoding only what a window touches."""

from __future__ import annotations

import logging
import math
import struct
import threading
import weakref
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pipelines.formats.metadata.ome import unit_name
from pipelines.formats.metadata.ome_xml import OmeXml, parse_ome_xml
from pipelines.formats.metadata.tiff import (
    aperio_properties,
    aperio_spacing,
    is_tiff,
    level_factor,
    resolution_spacing,
)
from pipelines.formats.metadata.tiff_layout import (
    Contiguous,
    Pages,
    Window,
    contiguous,
    overlap,
    page_layout,
    segment_shape,
    slices,
)
from pipelines.image.axes import check_axes
from pipelines.image.errors import damaged, local_file, pick_level, pick_series, refuse_options
from pipelines.image.identity import file_identity
from pipelines.image.info import CANONICAL, ImageInfo
from pipelines.image.nodata import stored_nodata
from pipelines.image.source import SOURCES, Source, SourceSpec, UnreadableSourceError
from pipelines.store.addresses import local_path, shown

LARGEST_SEGMENT = 64 * 2**20
"""Bytes of a decoded strip or tile from which on a file is copied into Zarr first: windows decode it anew."""

LETTERS = {"S": "c", "C": "c", "T": "t", "Z": "z", "Y": "y", "X": "x", "I": "z", "Q": "z"}
"""tifffile's axes -> ours. I and Q are pages of unknown meaning: planes, unless the user says `axes`."""

COLOURS = ("red", "green", "blue", "alpha")

JPEG = (6, 7, 34892, 33007)
"""Compressions whose tables and header lie apart from the segments."""

GDAL_NODATA = 42113

LONGEST_DESCRIPTION = 4096


def _unwanted(record: logging.LogRecord) -> bool:
    # GDAL writes the smallest float32 with more digits than float32 holds; the nodata tag is parsed here
    # instead.
    return "GDAL_NODATA" not in record.getMessage()


logging.getLogger("tifffile").addFilter(_unwanted)


@SOURCES.register("tiff")
class TiffSource(Source):
    """One level of one series of a TIFF file."""

    extensions = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".btf", ".svs", ".ndpi", ".scn", ".lsm", ".stk")
    about = "TIFF, BigTIFF, OME-TIFF, ImageJ stacks; slides as SVS and NDPI; any series and level"

    def __init__(self, spec: SourceSpec) -> None:
        refuse_options(spec, "a TIFF file", ("path",))
        file = _open(spec)
        self._close = weakref.finalize(self, file.close)
        self._lock = threading.RLock()
        series = file.series[pick_series(spec, [f"{s.name or 'image'} {s.shape}" for s in file.series])]
        self._level = series.levels[pick_level(spec, [level.shape for level in series.levels])]
        _refuse_cut_short(spec, self._level)
        self._layout = page_layout(self._level)
        axes = _letters(spec, self._level)
        self._kept = tuple(i for i, a in enumerate(axes) if a)
        self.info = _describe(spec, file, self._level, axes, self._layout)

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 10 for files that begin as TIFF files do."""
        path = local_path(uri)
        return 10 if path is not None and path.is_file() and is_tiff(path) else 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open a level, reading only directories."""
        return cls(spec)

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region, decoding the tiles or strips it touches."""
        bounds = [(0, 1)] * len(self._level.shape)
        for axis, part in zip(self._kept, region, strict=True):
            bounds[axis] = (part.start, part.stop)
        shape = tuple(part.stop - part.start for part in region)
        return self._bounded(tuple(bounds)).reshape(shape).astype(self.info.dtype, copy=False)

    def _bounded(self, bounds: Window) -> NDArray[Any]:
        if isinstance(self._layout, Pages):
            return self._pages(bounds, self._layout)
        if isinstance(self._layout, Contiguous):
            return np.array(self._layout.map()[slices(bounds)])
        with self._lock:
            return np.asarray(self._level.asarray(maxworkers=1)).reshape(self._level.shape)[slices(bounds)]

    def _pages(self, bounds: Window, layout: Pages) -> NDArray[Any]:
        """Return a region page by page."""
        split = len(layout.leading)
        window = layout.window(bounds[split:])
        positions = list(product(*(range(a, b) for a, b in bounds[:split])))
        out = np.empty((len(positions), *(b - a for a, b in window)), self.info.dtype)
        for target, position in zip(out, positions, strict=True):
            number = int(np.ravel_multi_index(position, layout.leading)) if position else 0
            self._read_page(number, window, target)
        return out

    def _read_page(self, number: int, window: Window, out: NDArray[Any]) -> None:
        """Fill `out` with a window (sample, plane, row, column, contiguous sample) of one page."""
        with self._lock:
            page = self._level[number]
            if page is not None and page.parent.filehandle.closed:
                page.parent.filehandle.open()
        if page is None:
            out[...] = self._empty
            return
        mapped = contiguous(page)
        if mapped is not None:
            out[...] = mapped.map()[slices(window)]
            return
        for segment, bounds in self._segments(page, window):
            inner, outer = overlap(bounds, window)
            out[outer] = self._empty if segment is None else segment[None][inner]

    @property
    def _empty(self) -> float:
        """Value of tiles that the file leaves out."""
        return 0 if self.info.nodata is None else self.info.nodata

    def _segments(self, page: Any, window: Window) -> Iterator[tuple[NDArray[Any] | None, Window]]:
        """Yield the decoded tiles or strips that a window touches, and their bounds in the page."""
        keyframe = page.keyframe
        size = segment_shape(keyframe)
        grid = [math.ceil(n / s) for n, s in zip(keyframe.shaped, size, strict=True)]
        touched = [range(a // s, -(-b // s)) for (a, b), s in zip(window, size, strict=True)]
        numbers = [int(np.ravel_multi_index(index, grid)) for index in product(*touched)]
        options: dict[str, Any] = {"_fullsize": False}
        if keyframe.compression in JPEG:
            options |= {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
        segments = (
            [page.dataoffsets[i] for i in numbers],
            [page.databytecounts[i] for i in numbers],
            numbers,
        )
        # Bytes are fetched under the lock, a few megabytes at a time; decoding, the longer part, runs outside
        # it.
        for data, number in page.parent.filehandle.read_segments(*segments, lock=self._lock):
            segment, start, shape = keyframe.decode(data, number, **options)
            ends = (a + n for a, n in zip(start, (1, *shape), strict=True))
            yield segment, tuple((a, min(b, n)) for a, b, n in zip(start, ends, keyframe.shaped, strict=True))


def _open(spec: SourceSpec) -> tifffile.TiffFile:
    path = local_file(spec, "TIFF files")
    try:
        file = tifffile.TiffFile(path)
    except (tifffile.TiffFileError, OSError, ValueError, struct.error) as error:
        raise damaged(spec.uri, "a TIFF file", error) from error
    if not file.series:
        file.close()
        raise damaged(spec.uri, "a TIFF file", "it has no pages")
    return file


def _refuse_cut_short(spec: SourceSpec, level: Any) -> None:
    """Refuse a level whose first or last page points beyond the end of the file."""
    for page in (level[0], level[len(level) - 1]):
        if page is None:
            continue
        ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        beyond = max(ends, default=0) - page.parent.filehandle.size
        if beyond > 0 or not ends:
            raise damaged(
                spec.uri, "a TIFF file", f"its pixels end {max(beyond, 0):,} bytes after the file does"
            )


def _letters(spec: SourceSpec, level: Any) -> tuple[str | None, ...]:
    """Return our letter for each axis of a level, None for axes of length 1 without a meaning: dropped."""
    told = check_axes(spec, len(level.shape)) if spec.axes and len(spec.axes) == len(level.shape) else None
    if told is not None:
        return tuple(told)
    letters = [
        LETTERS.get(a) if n > 1 or a in "YX" else None for a, n in zip(level.axes, level.shape, strict=True)
    ]
    known = [a for a in letters if a]
    unknown = any(a is None and n > 1 for a, n in zip(letters, level.shape, strict=True))
    if unknown or len(set(known)) < len(known):
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} has the axes {level.axes!r} of lengths {tuple(level.shape)}, "
            f"which do not all mean one of {CANONICAL!r} once. "
            f"Give `axes`, one letter of {CANONICAL!r} for each, with y and x, or choose another `series`."
        )
    return tuple(letters)


def _describe(
    spec: SourceSpec,
    file: tifffile.TiffFile,
    level: Any,
    letters: tuple[str | None, ...],
    layout: Pages | Contiguous | None,
) -> ImageInfo:
    series, keyframe = file.series[spec.series], level.keyframe
    kept = [i for i, a in enumerate(letters) if a]
    axes = "".join(a for a in letters if a)
    shape = tuple(level.shape[i] for i in kept)
    dtype = np.dtype(level.dtype).newbyteorder("=")
    chunks = _chunks(level, layout)
    ome = parse_ome_xml(file.ome_metadata, spec.series) if file.is_ome and file.ome_metadata else None
    spacing, units = _spacing(file, series, ome)
    channels = dict(zip(axes, shape, strict=True)).get("c", 0)
    return ImageInfo(
        shape=shape,
        dtype=dtype,
        axes=axes,
        chunks=tuple(chunks[i] for i in kept),
        spacing={a: v for a, v in _coarser(spacing, series, level).items() if a in axes},
        units={a: u for a, u in units.items() if a in axes and a in spacing},
        nodata=_nodata(keyframe, dtype),
        channel_names=_channel_names(keyframe, ome, channels),
        rgb=_is_rgb(keyframe, channels),
        attributes=_further(file, series.keyframe.description, ome, channels),
        identity=file_identity(spec),
        by_region=_by_region(keyframe, layout),
    )


def _chunks(level: Any, layout: Pages | Contiguous | None) -> tuple[int, ...]:
    """Return the extent that is decoded at once, along each axis of a level."""
    if not isinstance(layout, Pages):
        return (1,) * (len(level.shape) - 1) + (level.shape[-1],) if layout else tuple(level.shape)
    segment = segment_shape(level.keyframe)
    inner = (1 if axis is None else min(segment[axis], layout.shaped[axis]) for axis in layout.inner)
    return (1,) * len(layout.leading) + tuple(inner)


def _by_region(keyframe: Any, layout: Pages | Contiguous | None) -> bool:
    if not isinstance(layout, Pages):
        return layout is not None
    decoded = math.prod(segment_shape(keyframe)) * keyframe.dtype.itemsize
    return decoded <= LARGEST_SEGMENT or contiguous(keyframe) is not None


def _is_rgb(keyframe: Any, channels: int) -> bool:
    """Return whether the channels are red, green, blue, and perhaps alpha; a fourth may also be infrared."""
    coloured = keyframe.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    alpha = [int(kind) in (1, 2) for kind in keyframe.extrasamples] == [True]
    return coloured and (channels == 3 or (channels == 4 and alpha))


def _channel_names(keyframe: Any, ome: OmeXml | None, channels: int) -> tuple[str, ...]:
    if ome is not None and len(ome.channel_names) == channels:
        return ome.channel_names
    return COLOURS[:channels] if _is_rgb(keyframe, channels) else ()


def _nodata(keyframe: Any, dtype: np.dtype[Any]) -> float | None:
    """Return GDAL's nodata; the library itself gives 0 where the tag is absent or it cannot parse it."""
    tag = keyframe.tags.get(GDAL_NODATA)
    try:
        return None if tag is None else stored_nodata(float(str(tag.value).strip(" \0")), dtype)
    except ValueError:
        return None


def _spacing(
    file: tifffile.TiffFile, series: Any, ome: OmeXml | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Return spacing and units of the finest level: of OME, ImageJ, Aperio, or the resolution tags."""
    if ome is not None:
        return dict(ome.spacing), dict(ome.units)
    page = series.keyframe
    x, y = page.resolution
    if file.is_imagej:
        return _imagej_spacing(file.imagej_metadata or {}, x, y)
    if file.is_svs and series is not file.series[0]:
        # Thumbnail, label and macro photograph have no scale of their own.
        return {}, {}
    spacing = aperio_spacing(aperio_properties(page.description))
    spacing = spacing or resolution_spacing(x, y, int(page.resolutionunit))
    return spacing, dict.fromkeys(spacing, "micrometer")


def _imagej_spacing(found: dict[str, Any], x: float, y: float) -> tuple[dict[str, float], dict[str, str]]:
    """Return spacing and units as ImageJ writes them: pixels per unit in tags, planes and frames in words."""
    unit = unit_name(str(found.get("unit", "")))
    if unit is None:
        return {}, {}
    each = {"z": found.get("spacing"), "y": 1 / y if y > 0 else None, "x": 1 / x if x > 0 else None}
    spacing = {a: float(v) for a, v in each.items() if v}
    units = dict.fromkeys(spacing, unit)
    if found.get("finterval"):
        spacing["t"], units["t"] = float(found["finterval"]), "second"
    return spacing, units


def _coarser(spacing: dict[str, float], series: Any, level: Any) -> dict[str, float]:
    """Return the spacing of a level."""
    full = dict(zip(series.axes, series.shape, strict=True))
    here = dict(zip(level.axes, level.shape, strict=True))
    factors = {a: level_factor(full[a.upper()], here[a.upper()]) for a in spacing if here.get(a.upper())}
    return {a: v * factors.get(a, 1.0) for a, v in spacing.items()}


def _further(file: tifffile.TiffFile, description: str, ome: OmeXml | None, channels: int) -> dict[str, Any]:
    """Return metadata that is only kept: slide properties, description, display colours."""
    found: dict[str, Any] = {}
    slide = aperio_properties(description)
    if slide:
        found["slide"] = slide
    elif description and ome is None and not file.is_shaped and not file.is_imagej:
        found["description"] = description[:LONGEST_DESCRIPTION]
    if ome is not None and any(ome.colours) and len(ome.colours) == channels:
        names = ome.channel_names or ("",) * channels
        shown = zip(names, ome.colours, strict=True)
        channels_shown = [{"label": n, "color": c or "FFFFFF"} for n, c in shown]
        found["ome"] = {"omero": {"channels": channels_shown}}
    return found
