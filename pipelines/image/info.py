"""Hold the metadata of an image: axes, units, nodata, georeference, names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CANONICAL = "tczyx"
"""Order in which the engine sees axes; an image has some of them, in an order of its own."""


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies on the ground, as plain values.

    Attributes
    ----------
    crs : str
        WKT of the coordinate system of the transform, "" without one.
    transform : tuple of 6 floats or None
        Affine (a, b, c, d, e, f) from columns and rows to coordinates.
    gcps : tuple of (row, column, x, y, z, id)
        Ground control points.
    gcps_crs : str
        WKT of their coordinate system.
    """

    crs: str = ""
    transform: tuple[float, ...] | None = None
    gcps: tuple[tuple[float, float, float, float, float, str], ...] = ()
    gcps_crs: str = ""


@dataclass(frozen=True)
class ImageInfo:
    """The metadata of an image, as plain values for plans, digests and sinks.

    Attributes
    ----------
    shape : tuple of int
        Length of each axis, in the image's own order.
    dtype : numpy dtype
    axes : str
        One letter of "tczyx" per axis, in the image's own order, such as "yxc".
    chunks : tuple of int
        Extent that the storage reads at once, per axis.
    spacing : dict
        Grid spacing per axis, letter -> number (also of t where the file has it); 1.0 where unknown. Rasters
        whose transform is in degrees or metres keep the spacing of 1 pixel unless the spec asks for ground
        units, so that time keeps its meaning.
    units : dict
        Unit of the spacing per axis, letter -> name ("micrometer"); absent where unknown ("pixel").
    nodata : float or None
        Value that marks invalid pixels.
    channel_names : tuple of str
        Band or channel names; empty where there are none.
    rgb : bool
        True where the channels are the colours of one picture.
    labels : bool
        True where pixels are label numbers: pyramids take the mode, and diffusion is refused.
    georeference : Georeference or None
    attributes : dict
        Further metadata that a sink of the same family can keep (scale and offset per band, tags, OME channel colours,
        acquisition), JSON only.
    identity : str
        Digest that changes when the pixels may have changed: of the file's name, sizes, times or checksums, and the
        options that select what is read.
    reads_parts : bool
        True where a part of a chunk is read without the rest of it, which takes no memory then.
    reads_into : bool
        True where pixels are read into the memory that is given for them, so that no other holds them too.
    by_region : bool
        True where a window can be read without the rest; else the image is copied into Zarr first.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    chunks: tuple[int, ...]
    spacing: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    nodata: float | None = None
    channel_names: tuple[str, ...] = ()
    rgb: bool = False
    labels: bool = False
    georeference: Georeference | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""
    reads_parts: bool = False
    reads_into: bool = False
    by_region: bool = True

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes):
            raise ValueError(
                f"axes={self.axes!r} does not fit shape {self.shape}. Give one letter of {CANONICAL!r} "
                f"per axis, each once."
            )
        unknown = set(self.axes) - set(CANONICAL)
        if unknown or not {"y", "x"} <= set(self.axes):
            raise ValueError(
                f"axes={self.axes!r} is not possible. Allowed: letters of {CANONICAL!r}, with y and x."
            )

    @property
    def chunk_bytes(self) -> int:
        """Bytes of what the storage has to decode at once; 0 where the image is read as a whole."""
        if self.reads_parts or not self.by_region:
            return 0
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def canonical_axes(self) -> str:
        """The axes that exist, in canonical order."""
        return "".join(a for a in CANONICAL if a in self.axes)

    @property
    def sizes(self) -> dict[str, int]:
        """Length per axis letter."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def size(self, axis: str) -> int:
        """Return the length of an axis, 1 where it does not exist."""
        return self.sizes.get(axis, 1)

    def replace(self, **changes: Any) -> ImageInfo:
        """Return the same image with some fields changed."""
        return dataclasses.replace(self, **changes)


def crop(info: ImageInfo, region: tuple[slice, ...]) -> ImageInfo:
    """Return the metadata of a region, given per canonical axis; the georeference is shifted to its first pixel."""
    part = dict(zip(info.canonical_axes, region, strict=True))
    shape = tuple(part[a].stop - part[a].start for a in info.axes)
    ground = info.georeference
    if ground is not None:
        y, x = part["y"].start, part["x"].start
        moved = ground.transform
        if moved is not None:
            a, b, c, d, e, f = moved
            moved = (a, b, c + a * x + b * y, d, e, f + d * x + e * y)
        gcps = tuple((row - y, column - x, *rest) for row, column, *rest in ground.gcps)
        ground = dataclasses.replace(ground, transform=moved, gcps=gcps)
    names = info.channel_names[part["c"]] if "c" in part and info.channel_names else info.channel_names
    return info.replace(shape=shape, georeference=ground, channel_names=names)


def with_channels(info: ImageInfo, channels: int, name: str) -> ImageInfo:
    """Return the metadata of an image with another number of channels, each called `name`."""
    if info.size("c") == channels:
        return info
    shape = tuple(channels if a == "c" else n for a, n in zip(info.axes, info.shape, strict=True))
    chunks = tuple(min(c, n) for c, n in zip(info.chunks, shape, strict=True))
    return info.replace(shape=shape, chunks=chunks, channel_names=(name,) * channels, rgb=False)


def with_channel_axis(info: ImageInfo) -> ImageInfo:
    """Return the metadata of an image with an axis of one channel, where it has none."""
    if "c" in info.axes:
        return info
    at = info.axes.index("t") + 1 if "t" in info.axes else 0

    def put(values: Any, more: Any) -> Any:
        return values[:at] + more + values[at:]

    return info.replace(axes=put(info.axes, "c"), shape=put(info.shape, (1,)), chunks=put(info.chunks, (1,)))


def digest(*values: Any) -> str:
    """Return a short hexadecimal digest of plain values, the same on every machine."""
    text = json.dumps(values, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
