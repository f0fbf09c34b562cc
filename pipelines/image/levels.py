"""Decide which levels a pyramid has, and the shape and spacing of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import zarr

from pipelines.image.info import ImageInfo
from pipelines.image.pyramid import reduced_shape
from pipelines.image.sink import Level
from pipelines.store.arrays import SPATIAL, Chunking, Compression, create_array

Pyramid = Literal["auto", "none"] | int

SMALLEST_LEVEL = 512
"""An automatic pyramid ends at the first level with at most this many pixels per side: one chunk."""


def level_factors(info: ImageInfo, pyramid: Pyramid, reduce_z: bool = True) -> tuple[tuple[int, ...], ...]:
    """Return the factors, in the image's axis order, from each level to the next.

    Parameters
    ----------
    info : ImageInfo
        Sizes and spacing of the finest level.
    pyramid : "auto", "none" or int
        "auto" halves the plane until it fits into 512 x 512, "none" never, a number this many times, as long as
        an axis is longer than 1. z is halved with the plane while its spacing is at most 1.5 times the plane's:
        cells become cubes, not columns.
    reduce_z : bool
        True where z may be halved.
    """
    sizes, spacing = info.sizes, {a: info.spacing.get(a, 1.0) for a in "zyx"}
    found: list[tuple[int, ...]] = []
    while _halves_again(sizes, pyramid, len(found)):
        factor = {a: 2 for a in "yx" if sizes[a] > 1}
        cubic = spacing["z"] <= 1.5 * min(spacing["y"], spacing["x"])
        if reduce_z and sizes.get("z", 1) > 1 and (cubic or not factor):
            factor["z"] = 2
        if not factor:
            break
        found.append(tuple(factor.get(a, 1) for a in info.axes))
        sizes = {a: math.ceil(n / factor.get(a, 1)) for a, n in sizes.items()}
        spacing = {a: s * factor.get(a, 1) for a, s in spacing.items()}
    return tuple(found)


def _halves_again(sizes: dict[str, int], pyramid: Pyramid, done: int) -> bool:
    if pyramid == "none":
        return False
    if pyramid == "auto":
        return max(sizes["y"], sizes["x"]) > SMALLEST_LEVEL
    return done < pyramid


def pyramid_infos(
    info: ImageInfo, pyramid: Pyramid, reduce_z: bool = True
) -> Iterator[tuple[ImageInfo, tuple[int, ...]]]:
    """Yield every level with its factors from the one before, the finest first."""
    yield info, (1,) * len(info.axes)
    for factors in level_factors(info, pyramid, reduce_z):
        per_axis = dict(zip(info.axes, factors, strict=True))
        known = [a for a in info.axes if a in SPATIAL or a in info.spacing]
        spacing = {a: info.spacing.get(a, 1.0) * per_axis[a] for a in known}
        info = info.replace(shape=reduced_shape(info.shape, factors), spacing=spacing)
        yield info, factors


def reordered(info: ImageInfo, axes: str) -> ImageInfo:
    """Return the metadata of an image with its axes in another order."""
    order = [info.axes.index(a) for a in axes]
    return info.replace(
        axes=axes, shape=tuple(info.shape[i] for i in order), chunks=tuple(info.chunks[i] for i in order)
    )


def create_level(
    root: str, level: Level, compression: Compression, attributes: Mapping[str, Any] | None = None
) -> zarr.Array[Any]:
    """Create the empty array of one level of a result."""
    info = level.info
    return create_array(
        root,
        level.path,
        info.shape,
        info.dtype,
        Chunking(level.chunks, None if info.chunks == level.chunks else info.chunks),
        axes=info.axes,
        compression=compression,
        nodata=info.nodata,
        attributes=attributes,
    )
