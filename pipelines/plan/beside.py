"""Open what lies beside the source: an image or points that are markers, or an image of where the source is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.image.info import ImageInfo, digest
from pipelines.image.kept_sources import cached_source
from pipelines.image.source import SourceSpec
from pipelines.plan.points import is_points, read_points
from pipelines.refusal import RefusedError
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import PointPixels, SourcePixels


@dataclass(frozen=True)
class Beside:
    """What lies beside the source.

    Attributes
    ----------
    reading : Reading
    identity : str
        Digest that changes when it may have changed.
    """

    reading: Reading
    identity: str


def read_beside(uri: str, source: ImageInfo, spatial: str) -> Beside:
    """Return what lies at an address, to be read like the source; frames share it where it has no axis for them.

    Raises
    ------
    RefusedError
        For an image of another size, or with several channels, or that cannot be read by region.
    """
    if is_points(uri):
        cells, axes = read_points(uri, source, spatial), source.canonical_axes
        pixels = PointPixels(tuple(axes.index(a) for a in spatial), cells)
        return Beside(Reading(pixels, np.dtype(np.int32)), digest(cells))
    spec = SourceSpec(uri=uri)
    info = cached_source(spec).info
    if info.size("c") > 1:
        raise RefusedError(f"{uri} has {info.size('c')} channels. Allowed: one.")
    for axis in dict.fromkeys(info.axes + spatial):
        lacks = info.size(axis) == 1 and axis not in spatial
        if info.size(axis) != source.size(axis) and not lacks:
            raise RefusedError(
                f"{uri} has {info.size(axis):,} cells along {axis}, the source {source.size(axis):,}. They must agree."
            )
    if not info.by_region:
        raise RefusedError(
            f"{uri} cannot be read by region, as it is compressed as a whole. Convert it, such as into Zarr."
        )
    read = SourcePixels(spec, source.canonical_axes, info.chunk_bytes)
    return Beside(Reading(read, info.dtype, info.nodata, 1), info.identity)
