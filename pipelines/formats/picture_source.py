"""PNG and JPEG pictures, decoded as a whole: the engine copies them into Zarr first."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from pipelines.image.errors import damaged, local_file, pick_level, refuse_options
from pipelines.image.identity import file_identity
from pipelines.image.info import ImageInfo
from pipelines.image.source import SOURCES, Source, SourceSpec
from pipelines.store.addresses import local_path

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
JPEG_END = b"\xff\xd9"
TRAILER_BYTES = 1 << 16
"""Cameras and phones append data of their own after the end of a JPEG."""

NAMES = {
    1: (),
    2: ("grey", "alpha"),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "alpha"),
}
TURNED = (5, 6, 7, 8)
"""Orientations of cameras held upright, where rows and columns are swapped."""

PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""By colour type: grey, RGB, palette (read as RGB), grey and alpha, RGB and alpha."""

_FILTERS = threading.Lock()


@dataclass(frozen=True)
class Header:
    """The header of a picture."""

    rows: int
    columns: int
    channels: int
    dtype: np.dtype[Any]
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, and channels where there are several."""
        flat = (self.rows, self.columns)
        return flat if self.channels == 1 else (*flat, self.channels)


@SOURCES.register("picture")
class PictureSource(Source):
    """One picture: grey, RGB, with or without alpha; palettes become RGB, 1 bit becomes 0 and 255."""

    extensions = (".png", ".jpg", ".jpeg")
    about = "PNG (8 and 16 bits) and JPEG; decoded whole, then copied into Zarr"

    def __init__(self, spec: SourceSpec) -> None:
        refuse_options(spec, "a picture", ("path", "series"))
        self._path = local_file(spec, "pictures")
        self._is_png = _magic(self._path, len(PNG)) == PNG
        try:
            header = _png_header(self._path) if self._is_png else _jpeg_header(self._path)
        except (OSError, ValueError, SyntaxError, struct.error) as error:
            raise damaged(spec.uri, "a picture", error) from error
        pick_level(spec, [header.shape])
        self.info = ImageInfo(
            shape=header.shape,
            dtype=header.dtype,
            axes="yx" if header.channels == 1 else "yxc",
            chunks=header.shape,
            channel_names=header.names,
            rgb=header.names[:3] == NAMES[3],
            identity=file_identity(spec),
            by_region=False,
        )

    @classmethod
    def claims(cls, uri: str) -> int:
        """Return 10 for files that begin as PNG or JPEG files do."""
        path = local_path(uri)
        if path is None or not path.is_file():
            return 0
        magic = _magic(path, len(PNG))
        return 10 if magic == PNG or magic.startswith(JPEG) else 0

    @classmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open the picture, reading its header and checking that it is whole."""
        return cls(spec)

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region; every call decodes the whole picture."""
        pixels = _decode_png(self._path) if self._is_png else _decode_jpeg(self._path)
        return np.array(pixels.reshape(self.info.shape)[region], dtype=self.info.dtype)


def _magic(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def _png_header(path: Path) -> Header:
    """Return the header of a PNG after checking every chunk, so that damage is found before a run begins."""
    found: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        file.seek(len(PNG))
        while b"IEND" not in found:
            length, name = struct.unpack(">I4s", file.read(8))
            data, check = file.read(length), file.read(4)
            if len(check) < 4 or zlib.crc32(name + data) != int.from_bytes(check, "big"):
                raise ValueError(f"its part {name.decode('latin-1')} is cut short or has a wrong checksum")
            # Only the header and the mark of transparency matter; pixels are not kept.
            found[name] = data if name in (b"IHDR", b"tRNS") else b""
    columns, rows, bits, kind = struct.unpack(">IIBB", found[b"IHDR"][:10])
    channels = PNG_CHANNELS[kind]
    if b"tRNS" in found and channels in (1, 3):
        channels += 1
    return Header(rows, columns, channels, np.dtype("uint16" if bits == 16 else "uint8"), NAMES[channels])


def _decode_png(path: Path) -> NDArray[Any]:
    # Pillow silently cuts colours of 16 bits down to 8.
    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def _jpeg_header(path: Path) -> Header:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TRAILER_BYTES))
        if JPEG_END not in file.read():
            raise ValueError("it has no end mark")
    properties = _pillow(iio.improps, path)
    known = _pillow(iio.immeta, path, exclude_applied=False)
    rows, columns = properties.shape[:2]
    if known.get("Orientation") in TURNED:
        rows, columns = columns, rows
    channels = properties.shape[2] if len(properties.shape) == 3 else 1
    names = tuple("CMYK") if known.get("mode") == "CMYK" else NAMES[channels]
    return Header(rows, columns, channels, np.dtype(properties.dtype), names)


def _decode_jpeg(path: Path) -> NDArray[Any]:
    """Return the pixels as the camera was held."""
    return np.asarray(_pillow(iio.imread, path, rotate=True))


def _pillow(ask: Callable[..., Any], path: Path, **options: Any) -> Any:
    """Ask Pillow about a JPEG, without its warning of large pictures: the plan counts the memory."""
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Image size")
        try:
            return ask(path, plugin="pillow", extension=".jpeg", index=0, **options)
        except Exception as error:
            # Its refusal of very large pictures is an Exception of no narrower kind.
            raise ValueError(str(error)) from error
