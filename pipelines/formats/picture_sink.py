"""Write PNG for small results: pixels only, no metadata."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.image.info import ImageInfo
from pipelines.image.levels import create_level, reordered
from pipelines.image.sink import SINKS, Level, Sink
from pipelines.store.arrays import choose_chunks, open_array
from pipelines.store.publish import finished_file

WORKING = "pixels"
LARGEST = 100_000_000
"""Largest number of pixels; viewers decode a PNG as a whole."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">IIBBBBB")
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> grey, grey and alpha, RGB, RGB and alpha, by their numbers in the format."""


@SINKS.register("png")
class PictureSink(Sink):
    """One picture that every program shows."""

    extensions: ClassVar[tuple[str, ...]] = (".png",)
    about: ClassVar[str] = "PNG, up to 100 million pixels of uint8 or uint16 in 1 to 4 channels; pixels only"

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return the working array, with the channels of a pixel together."""
        _refuse(info)
        axes = "".join(a for a in info.canonical_axes if a != "c") + ("c" if "c" in info.axes else "")
        picture = reordered(info, axes)
        layout = choose_chunks(axes, picture.shape, self.spec.chunk, whole="c")
        return (Level(WORKING, picture.replace(chunks=layout.unit), layout.chunks, (1,) * len(axes)),)

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Lay out the working array."""
        create_level(root, levels[0], self.spec.compression)

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Encode the picture strip by strip."""
        with (
            finished_file(target) as part,
            open(part, "wb") as file,
        ):
            _write_png(file, levels[0].info, _strips(root, levels[0], memory))


def _strips(root: str, level: Level, memory: int) -> Iterator[NDArray[Any]]:
    """Yield rows of whole pixels, each strip as (rows, bytes of a row), the most significant byte first."""
    array, sizes = open_array(root, level.path), level.info.sizes
    row_bytes = sizes["x"] * sizes.get("c", 1) * level.info.dtype.itemsize
    step = max(1, min(level.info.chunks[level.info.axes.index("y")], memory // (8 * row_bytes)))
    for y in range(0, sizes["y"], step):
        region = tuple(slice(y, y + step) if a == "y" else slice(None) for a in level.info.axes)
        pixels = np.asarray(array[region])
        rows = pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8)
        yield rows.reshape(-1, row_bytes)


def _write_png(file: BinaryIO, info: ImageInfo, strips: Iterable[NDArray[Any]]) -> None:
    """Write a PNG of which only one strip is in memory; libraries encode a picture as a whole."""
    file.write(SIGNATURE)
    colour = COLOUR_TYPES[info.size("c")]
    bits = info.dtype.itemsize * 8
    _write_chunk(file, b"IHDR", HEADER.pack(info.size("x"), info.size("y"), bits, colour, 0, 0, 0))
    encoder = zlib.compressobj(6)
    above: Any = 0
    for rows in strips:
        # Filter 2: the difference to the row above, modulo 256.
        lines = np.full((rows.shape[0], rows.shape[1] + 1), 2, np.uint8)
        lines[0, 1:] = rows[0] - above
        lines[1:, 1:] = rows[1:] - rows[:-1]
        above = rows[-1]
        _write_chunk(file, b"IDAT", encoder.compress(lines.tobytes()))
    _write_chunk(file, b"IDAT", encoder.flush())
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


def _refuse(info: ImageInfo) -> None:
    other = "or choose a target that ends in .tif, .ome.zarr or .zarr."
    if info.dtype.name not in ("uint8", "uint16"):
        got = info.dtype.name
        raise ValueError(f"PNG cannot hold {got}. Allowed: uint8, uint16. Set sink.dtype, {other}")
    deep = [f"{a} of length {info.size(a)}" for a in "tz" if info.size(a) > 1]
    if deep or info.size("c") > 4:
        got = " and ".join(deep) or f"{info.size('c')} channels"
        raise ValueError(f"PNG holds one plane of 1 to 4 channels, got {got}. Read fewer, {other}")
    pixels = info.size("y") * info.size("x")
    if pixels > LARGEST:
        raise ValueError(
            f"PNG holds at most {LARGEST:,} pixels here, got {pixels:,}. Read a coarser level, {other}"
        )
