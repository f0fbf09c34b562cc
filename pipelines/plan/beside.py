"""Open what lies beside the source: an image of markers, or of where the source is known."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.image.info import ImageInfo
from pipelines.image.open_source import cached_source
from pipelines.image.source import SourceSpec
from pipelines.refusal import RefusedError
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import SourcePixels


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


def read_beside(uri: str, source: ImageInfo) -> Beside:
    """Return what lies at an address, to be read like the source.

    Raises
    ------
    RefusedError
        For an image of another size, or with several channels, or that cannot be read by region.
    """
    spec = SourceSpec(uri=uri)
    info = cached_source(spec).info
    if info.size("c") > 1:
        raise RefusedError(f"{uri} has {info.size('c')} channels. Allowed: one.")
    for axis in info.axes:
        if info.size(axis) not in (1, source.size(axis)) or (
            axis in "yx" and info.size(axis) != source.size(axis)
        ):
            raise RefusedError(
                f"{uri} has {info.size(axis):,} cells along {axis}, the source {source.size(axis):,}. They must agree."
            )
    if not info.by_region:
        raise RefusedError(
            f"{uri} cannot be read by region, as it is compressed as a whole. Convert it, such as into Zarr."
        )
    pixels = SourcePixels(spec, source.canonical_axes, info.chunk_bytes)
    return Beside(Reading(pixels, info.dtype, info.nodata, 1), info.identity)
