"""Read and write small pictures of results for people, through the formats of sources and sinks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipelines.image.info import ImageInfo
from pipelines.image.open_source import open_source
from pipelines.image.sink import SinkSpec, open_sink
from pipelines.image.source import SourceSpec, read_canonical

GAP = 8
"""White pixels between pictures."""


def read_colours(spec: SourceSpec, side: int) -> NDArray[np.uint8]:
    """Return the corner of an image as (rows, columns, 3) colours, at most `side` pixels long.

    Values are rounded and clipped to 0..255; one channel becomes grey, of more than three the first three are
    shown, and of several planes or times the first.
    """
    source = open_source(spec)
    first = {a: slice(0, 1) for a in "tz"}
    region = {
        a: slice(0, min(n, side)) if a in "yx" else first.get(a, slice(0, n))
        for a, n in source.info.sizes.items()
    }
    pixels = read_canonical(source, region)
    channels = source.info.size("c")
    planes = np.reshape(pixels, (channels, *pixels.shape[-2:]))
    shown = planes[:3] if channels >= 3 else np.repeat(planes[:1], 3, axis=0)
    finite = np.nan_to_num(shown.astype(np.float64))
    return np.moveaxis(np.clip(np.rint(finite), 0, 255).astype(np.uint8), 0, -1)


def side_by_side(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return pictures of equal height in a row, with white between them."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)


def write_picture(pixels: NDArray[Any], target: Path) -> None:
    """Write grey (rows, columns) or colours (rows, columns, 3) to a file in the format of its ending, anew."""
    axes = "yxc"[: pixels.ndim]
    info = ImageInfo(pixels.shape, pixels.dtype, axes, pixels.shape, rgb=pixels.ndim == 3)
    sink = open_sink(SinkSpec(uri=str(target), pyramid="none"), info)
    levels = sink.levels(info)
    level = levels[0]
    with tempfile.TemporaryDirectory(prefix=".picture-", dir=target.parent) as folder:
        root = f"{folder}/result"
        sink.create(root, info, levels)
        order = [axes.index(a) for a in level.info.axes]
        zarr.open_array(root, path=level.path, mode="r+")[...] = np.transpose(pixels, order)
        sink.finish(root, info, levels, str(target), 1 << 28)
