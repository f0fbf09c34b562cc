"""Read the metadata of TIFF files: tags, completeness, grid spacing, slide properties."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
GEO_TAGS = frozenset({33550, 33922, 34264, 34735, 42112, 50844})
"""Pixel scale, tie points, transformation, geo keys; GDAL's metadata; polynomial coefficients. GDAL's nodata
alone is no sign of a raster on the ground: OME-TIFF with nodata has it too, and is more than GDAL reads of
it."""

PRINT_DOTS_PER_INCH = 1200
"""Resolutions in inches up to this are print sizes, as picture programs write them (72, 300 dpi); microscopes
and slide scanners are finer. Taking 72 dpi for a grid spacing of 353 micrometers would only distort the time
scale."""

TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Whole number types of tag values."""

SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


@dataclass(frozen=True)
class Tag:
    """One entry of a page's directory: how its value is stored, and where."""

    kind: int
    count: int
    offset: int


def is_tiff(path: Path) -> bool:
    """Return whether a file begins as TIFF files do."""
    with path.open("rb") as file:
        return file.read(4) in MAGICS


def first_page_tags(path: Path) -> dict[int, Tag]:
    """Return the tags of the first page, by number; empty where the directory cannot be read."""
    with path.open("rb") as file:
        header = file.read(16)
        if header[:4] not in MAGICS or len(header) < 8:
            return {}
        order, big = "<>"[header[:1] == b"M"], header[2:4] in (b"+\0", b"\0+")
        return _directory(
            file, order, big, _unpack(header[8:16] if big else header[4:8], order, "Q" if big else "I")
        )


def _unpack(data: bytes, order: str, kind: str) -> int:
    value: int = struct.unpack(order + kind, data)[0]
    return value


def _directory(file: BinaryIO, order: str, big: bool, offset: int) -> dict[int, Tag]:
    counted, entry, number = (8, 20, "Q") if big else (2, 12, "H")
    inline = 8 if big else 4
    file.seek(offset)
    head = file.read(counted)
    if len(head) < counted:
        return {}
    tags: dict[int, Tag] = {}
    start = offset + counted
    data = file.read(entry * min(_unpack(head, order, number), 4096))
    for i in range(len(data) // entry):
        code, kind = struct.unpack_from(order + "HH", data, i * entry)
        count = struct.unpack_from(order + ("Q" if big else "I"), data, i * entry + 4)[0]
        value_offset = start + i * entry + entry - inline
        if count * SIZES.get(kind, 1) > inline:
            value_offset = struct.unpack_from(
                order + ("Q" if big else "I"), data, i * entry + entry - inline
            )[0]
        tags[code] = Tag(kind, count, value_offset)
    return tags


def missing_bytes(path: Path) -> int:
    """Return how many bytes of the first page lie beyond the end of the file; 0 for whole files."""
    tags = first_page_tags(path)
    offsets = tags.get(324) or tags.get(273)
    counts = tags.get(325) or tags.get(279)
    if offsets is None or counts is None:
        return 0
    size = path.stat().st_size
    with path.open("rb") as file:
        order: Literal["<", ">"] = ">" if file.read(1) == b"M" else "<"
        starts, lengths = _numbers(file, offsets, order), _numbers(file, counts, order)
    if starts is None or lengths is None:
        return 1
    n = min(len(starts), len(lengths))
    return max(0, int((starts[:n] + lengths[:n]).max(initial=0)) - size)


def _numbers(file: BinaryIO, tag: Tag, order: Literal["<", ">"]) -> NDArray[np.int64] | None:
    """Return the value of a tag of whole numbers, None where the file ends before it."""
    kind = np.dtype(TYPES.get(tag.kind, "I")).newbyteorder(order)
    file.seek(tag.offset)
    data = file.read(kind.itemsize * tag.count)
    return np.frombuffer(data, kind).astype(np.int64) if len(data) == kind.itemsize * tag.count else None


def resolution_spacing(x: float, y: float, unit: int) -> dict[str, float]:
    """Return the grid spacing in micrometers from the resolution tags, {} where they give none.

    Parameters
    ----------
    x, y : float
        Pixels per unit.
    unit : int
        1 none, 2 inch, 3 centimetre, 4 millimetre, 5 micrometre.

    Examples
    --------
    >>> resolution_spacing(20000, 20000, 3)
    {'y': 0.5, 'x': 0.5}
    >>> resolution_spacing(300, 300, 2)
    {}
    """
    length = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}.get(unit)
    finest = 25400.0 / PRINT_DOTS_PER_INCH
    if length is None or not all(math.isfinite(v) and v > 0 for v in (x, y)):
        return {}
    spacing = {"y": length / y, "x": length / x}
    return spacing if unit > 3 or max(spacing.values()) < finest else {}


def aperio_properties(description: str) -> dict[str, str]:
    """Return the properties in the description of an Aperio slide.

    Examples
    --------
    >>> aperio_properties("Aperio Image Library v11 2220x2967|AppMag = 20|MPP = 0.4990")
    {'AppMag': '20', 'MPP': '0.4990'}
    """
    if not description.startswith("Aperio"):
        return {}
    pairs = (part.split("=", 1) for part in description.split("|") if "=" in part)
    return {key.strip(): value.strip() for key, value in pairs if re.fullmatch(r"\s*[\w ]+", key)}


def aperio_spacing(properties: Mapping[str, str]) -> dict[str, float]:
    """Return the grid spacing in micrometers of an Aperio slide, {} where it is unknown."""
    try:
        value = float(properties["MPP"])
    except (KeyError, ValueError):
        return {}
    return {"y": value, "x": value} if math.isfinite(value) and value > 0 else {}


def level_factor(full: int, reduced: int) -> float:
    """Return the factor by which a level is coarser along an axis: a whole number, if one explains the lengths.

    Examples
    --------
    >>> level_factor(3567, 1783), level_factor(100, 40)
    (2.0, 2.5)
    """
    nearest = round(full / reduced)
    return float(nearest) if nearest and abs(full / nearest - reduced) < 1 else full / reduced
