"""Open any image: find its format, refuse what cannot be computed, apply the options of all formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.spare import window_memory
from diffusion_ops.registry import UnknownNameError
from pipelines.image.axes import check_axes
from pipelines.image.errors import damaged
from pipelines.image.info import ImageInfo, digest
from pipelines.image.nodata import nodata_range, stored_nodata
from pipelines.image.source import SOURCES, Source, SourceSpec, UnreadableSourceError
from pipelines.store.addresses import local_path, shown
from pipelines.store.listings import Listing
from pipelines.store.places import advice
from pipelines.store.targets import exists

BLOCK_VALUES = 1 << 18
"""Complex pixels turned into amplitudes at a time: the two double precision temporaries stay under 5 MB."""

MOST_BYTES = 1 << 60
"""Largest size of an image: larger numbers of cells or bytes overflow in the libraries below."""


def open_source(spec: SourceSpec) -> Source:
    """Open an image for reading window by window.

    Parameters
    ----------
    spec : SourceSpec

    Returns
    -------
    Source
        With the channels, complex part, axes, spacing and nodata that the spec asks for.

    Raises
    ------
    UnreadableSourceError
        For a source that is missing, damaged, of unknown format, without the level, series, path or channels
        that were asked for, of a pixel type that no operator takes, or without pixels.
    """
    name, kind = find_format(spec)
    try:
        source = kind.open(spec)
    except UnreadableSourceError:
        raise
    except Exception as error:  # libraries raise anything for damaged metadata
        raise damaged(spec.uri, name, error) from error
    check_pixels(spec, source.info)
    return with_options(source, spec)


def find_format(spec: SourceSpec) -> tuple[str, type[Source]]:
    """Return the name and class of the format: the one asked for, else the one with the strongest claim."""
    if spec.format is not None:
        try:
            kind = SOURCES[spec.format]
        except UnknownNameError as error:
            raise UnreadableSourceError(str(error)) from error
    try:
        there = exists(spec.uri)
    except Exception as error:
        # Every file system and cloud has its own errors: no network, no credentials, no library for the address.
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} cannot be reached: {shown(str(error))}. {advice(spec.uri)}"
        ) from error
    if not there:
        raise UnreadableSourceError(f"{shown(spec.uri)!r} does not exist. Check the spelling and the folder.")
    if spec.format is not None:
        return spec.format, kind
    try:
        claims = {name: SOURCES[name].claims(spec.uri) for name in SOURCES.names()}
    except Exception as error:  # the same for what says which format it is
        raise damaged(spec.uri, "an image", error) from error
    best = max(claims, key=lambda name: claims[name])
    if not claims[best]:
        raise UnreadableSourceError(_unknown(spec.uri))
    return best, SOURCES[best]


def _unknown(uri: str) -> str:
    path = local_path(uri)
    if path is None:
        return (
            f"{shown(uri)!r} is no Zarr hierarchy, and of other machines only Zarr is read. "
            "Copy the file here, or give the address of the folder with the Zarr hierarchy."
        )
    what = "is a folder without a Zarr hierarchy" if path.is_dir() else "is of no known format"
    known = "; ".join(f"{name} ({' '.join(kind.extensions)})" for name, kind in SOURCES.items())
    return f"{shown(uri)!r} {what}. Known formats: {known}. Convert the image to one of them."


def check_pixels(spec: SourceSpec, info: ImageInfo) -> None:
    """Refuse images without pixels, and pixels that no operator takes."""
    if 0 in info.shape:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} has no pixels: its shape is {info.shape} (axes {info.axes}). "
            "Every axis must be 1 or longer."
        )
    if math.prod(info.shape) * info.dtype.itemsize > MOST_BYTES:
        raise UnreadableSourceError(
            f"{spec.uri!r} claims a shape of {info.shape} (axes {info.axes}, {info.dtype}), more than the "
            f"{MOST_BYTES:,} bytes that are possible. Its metadata is damaged: copy it again."
        )
    if min(info.chunks) < 1:
        raise UnreadableSourceError(
            f"{spec.uri!r} claims chunks of {info.chunks}. Every length must be 1 or longer. "
            "Its metadata is damaged: copy it again."
        )
    if info.dtype.kind == "b":
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} holds truth values (bool), which do not diffuse. Store them as uint8, 0 and 255."
        )
    if info.dtype.kind not in "iufc" or info.dtype.itemsize > (16 if info.dtype.kind == "c" else 8):
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} holds pixels of type {info.dtype}. "
            "Allowed: integers and floats up to 64 bits, complex up to 128 bits. Convert it first."
        )
    _check_complex(spec, info)


def _check_complex(spec: SourceSpec, info: ImageInfo) -> None:
    if info.dtype.kind == "c" and spec.complex is None:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} holds complex pixels ({info.dtype}). Give `complex: amplitude` for |z| or "
            "`complex: intensity` for |z|^2."
        )
    if info.dtype.kind != "c" and spec.complex is not None:
        raise UnreadableSourceError(
            f"complex={spec.complex!r} was given, but {shown(spec.uri)!r} holds {info.dtype}. Leave `complex` out."
        )


def with_options(source: Source, spec: SourceSpec) -> Source:
    """Return the source with the options of any format: complex part, axes, channels, spacing, nodata."""
    if spec.complex is not None:
        source = Magnitude(source, spec.complex)
    axes = check_axes(spec, len(source.info.shape))
    if axes is not None and axes != source.info.axes:
        source = Described(source, _renamed(source.info, axes))
    if spec.channels is not None:
        source = pick_channels(source, spec)
    if spec.spacing is not None or spec.nodata is not None:
        source = Described(source, _overridden(source.info, spec))
    return source


class Described(Source):
    """A source whose metadata the user corrected."""

    def __init__(self, inner: Source, info: ImageInfo) -> None:
        self.inner, self.info = inner, info

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 0: this wraps formats and is none."""
        return 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open the wrapped image."""
        return open_source(spec)

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region."""
        return self.inner.read(region)

    def read_with(self, region: tuple[slice, ...], empty: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Return the pixels of a region, as the wrapped source reads them."""
        return self.inner.read_with(region, empty)

    @property
    def stale(self) -> bool:
        """True once the wrapped source is known to be another than when it was opened."""
        return self.inner.stale

    @property
    def listing(self) -> Listing | None:
        """All that is stored of the wrapped source."""
        return self.inner.listing

    def absent_chunks(self) -> int | None:
        """Return how many chunks of the whole image are not stored."""
        return self.inner.absent_chunks()


class Magnitude(Described):
    """Amplitude |z| or intensity |z|² of complex pixels.

    Computed in double precision and rounded once, because the library's complex absolute value may take another path,
    with other last bits, at the end of an array than in its middle: a pixel would depend on the tile it is read in.
    """

    def __init__(self, inner: Source, part: str) -> None:
        info = inner.info
        dtype = np.dtype(np.float64 if info.dtype.itemsize > 8 else np.float32)
        nodata = None if info.nodata is None else float(dtype.type(abs(info.nodata)))
        if nodata is not None and part == "intensity":
            nodata = float(dtype.type(nodata**2))
        identity = digest(info.identity, part)
        read = info.replace(dtype=dtype, nodata=nodata, identity=identity, reads_into=False)
        super().__init__(inner, read)
        self.part = part

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return |z| or |z|² of a region; 0 and NaN stay what they are."""
        return self.read_with(region, window_memory)

    def read_with(self, region: tuple[slice, ...], empty: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Return |z| or |z|² of a region, in new memory."""
        z = np.ascontiguousarray(self.inner.read_with(region, window_memory))
        out = np.empty(z.shape, self.info.dtype)
        flat, result = z.reshape(-1), out.reshape(-1)
        for start in range(0, flat.size, BLOCK_VALUES):
            block = flat[start : start + BLOCK_VALUES]
            square = block.real.astype(np.float64) ** 2
            square += block.imag.astype(np.float64) ** 2
            result[start : start + BLOCK_VALUES] = np.sqrt(square) if self.part == "amplitude" else square
        return out


class Channels(Described):
    """Some channels of an image, in the order asked for."""

    def __init__(self, inner: Source, channels: tuple[int, ...]) -> None:
        info = inner.info
        self.axis, self.channels = info.axes.index("c"), channels
        names = tuple(info.channel_names[i] for i in channels) if info.channel_names else ()
        super().__init__(
            inner,
            info.replace(
                shape=_with(info.shape, self.axis, len(channels)),
                chunks=_with(info.chunks, self.axis, min(info.chunks[self.axis], len(channels))),
                channel_names=names,
                rgb=info.rgb and len(channels) >= 3 and channels[:3] == (0, 1, 2),
                attributes=_picked(info.attributes, info.size("c"), channels),
                identity=digest(info.identity, channels),
                reads_into=info.reads_into and len(runs(channels)) == 1,
            ),
        )

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region, whose channel slice counts the chosen channels."""
        return self.read_with(region, window_memory)

    def read_with(self, region: tuple[slice, ...], empty: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Return the pixels of a region, read with `empty` where the chosen channels follow each other."""
        wanted = [_with(region, self.axis, slice(a, b)) for a, b in runs(self.channels[region[self.axis]])]
        if len(wanted) == 1:
            return self.inner.read_with(wanted[0], empty)
        parts = [self.inner.read_with(part, window_memory) for part in wanted]
        return np.concatenate(parts, axis=self.axis)


def runs(channels: Sequence[int]) -> list[tuple[int, int]]:
    """Return channels as ranges that can each be read at once.

    Examples
    --------
    >>> runs([0, 1, 3, 2])
    [(0, 2), (3, 4), (2, 3)]
    """
    ranges: list[tuple[int, int]] = []
    for c in channels:
        if ranges and ranges[-1][1] == c:
            ranges[-1] = (ranges[-1][0], c + 1)
        else:
            ranges.append((c, c + 1))
    return ranges


def pick_channels(source: Source, spec: SourceSpec) -> Source:
    """Return the source with the channels of the spec, refusing those that do not exist."""
    channels, n = tuple(spec.channels or ()), source.info.size("c")
    if not channels or len(set(channels)) < len(channels) or not all(0 <= c < n for c in channels):
        names = f" ({', '.join(source.info.channel_names)})" if source.info.channel_names else ""
        raise UnreadableSourceError(
            f"channels={list(channels)} do not fit {shown(spec.uri)!r}, which has {n} channel(s){names}. "
            f"Allowed: different numbers from 0 to {n - 1}, at least one."
        )
    return Channels(source, channels) if "c" in source.info.axes else source


def _with(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return values[:index] + (value,) + values[index + 1 :]


def _picked(value: Any, n: int, channels: tuple[int, ...]) -> Any:
    """Return metadata whose lists per channel, under the keys of `PER_CHANNEL`, keep only those channels."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        listed = key in PER_CHANNEL and isinstance(inner, list) and len(inner) == n
        found[key] = [inner[i] for i in channels] if listed else _picked(inner, n, channels)
    return found


PER_CHANNEL = ("scales", "offsets", "units", "band_tags", "colorinterp", "channels")
"""Keys of `ImageInfo.attributes` that hold one entry per channel."""


def _renamed(info: ImageInfo, axes: str) -> ImageInfo:
    """Return metadata whose axes carry the user's letters; spacings and units follow their axis."""
    letters = dict(zip(info.axes, axes, strict=True))
    same_channels = letters.get("c") == "c"
    return info.replace(
        axes=axes,
        spacing={letters[a]: v for a, v in info.spacing.items() if a in letters and letters[a] != "c"},
        units={letters[a]: v for a, v in info.units.items() if a in letters and letters[a] != "c"},
        rgb=info.rgb and same_channels,
        channel_names=info.channel_names if same_channels else (),
        identity=digest(info.identity, axes),
    )


def _overridden(info: ImageInfo, spec: SourceSpec) -> ImageInfo:
    """Return metadata with the spacing and nodata of the spec, checked."""
    spacing = dict(info.spacing)
    for axis, value in (spec.spacing or {}).items():
        if axis not in info.axes or axis == "c" or not (math.isfinite(value) and value > 0):
            allowed = ", ".join(a for a in info.axes if a != "c")
            raise UnreadableSourceError(
                f"spacing {axis!r}: {value} does not fit {shown(spec.uri)!r}. "
                f"Allowed: positive numbers for the axes {allowed}."
            )
        spacing[axis] = float(value)
    nodata = info.nodata if spec.nodata is None else stored_nodata(spec.nodata, info.dtype)
    if spec.nodata is not None and nodata is None:
        raise UnreadableSourceError(
            f"nodata={spec.nodata} cannot occur in {shown(spec.uri)!r}, whose pixels are {info.dtype}. "
            f"Allowed: {nodata_range(info.dtype)}."
        )
    return info.replace(spacing=spacing, nodata=nodata)


class SourceChangedError(RuntimeError):
    """A source that changed while it was read."""


def reopen_identity(spec: SourceSpec) -> str:
    """Return the identity that a source has now: it is opened anew, and all of it is listed again."""
    return open_source(spec).info.identity


def require_unchanged(spec: SourceSpec, identity: str) -> None:
    """Compare a source with what it was when it was opened.

    Raises
    ------
    SourceChangedError
        If it is another now, or gone, so that what was read may be a mixture.
    """
    try:
        now = reopen_identity(spec)
    except UnreadableSourceError as error:
        raise SourceChangedError(
            f"The source cannot be compared with what it was at the start: {error}"
        ) from error
    if now != identity:
        raise SourceChangedError(
            f"{shown(spec.uri)!r} has changed while it was read, so what was computed may be a mixture of both. "
            "Nothing is published. Let the source rest, and run with --overwrite to compute it anew."
        )
