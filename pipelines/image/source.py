"""Define an input format: the metadata of an image, and the pixels of a region."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from diffusion_ops.blocks.spare import release_window
from diffusion_ops.registry import Registry
from pipelines.image.info import ImageInfo
from pipelines.refusal import RefusedError
from pipelines.store.listings import Listing


class SourceSpec(BaseModel):
    """What to read: the `source` of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str = Field(description="Path or address of the image.")
    format: str | None = Field(None, description="Name of the format; found from the file by default.")
    level: int = Field(0, ge=0, description="Pyramid level, 0 is the finest.")
    path: str | None = Field(
        None, description="Array or group inside a Zarr hierarchy, variable of a NetCDF file."
    )
    series: int = Field(0, ge=0, description="Image series of a TIFF file.")
    axes: str | None = Field(
        None, description="Letters of 'tczyx', one per axis, where the file does not tell."
    )
    channels: tuple[int, ...] | None = Field(
        None, description="Channels or bands to read, from 0; all by default."
    )
    spacing: dict[str, float] | None = Field(
        None, description="Grid spacing per axis letter, instead of the file's."
    )
    nodata: float | None = Field(None, description="Value of invalid pixels, instead of the file's.")
    complex: str | None = Field(
        None,
        pattern="^(amplitude|intensity)$",
        description="What to take of complex pixels: amplitude or intensity.",
    )


class UnreadableSourceError(RefusedError):
    """A source that is missing, damaged, of unknown format, or lacks what was asked for; the message says which."""


class Source(ABC):
    """One image that can be read window by window, from several threads at once."""

    extensions: ClassVar[tuple[str, ...]] = ()
    """File name endings, lower case, for the list of formats and for refusals."""
    about: ClassVar[str] = ""
    """One line for `diffuse list formats`."""

    info: ImageInfo

    @classmethod
    @abstractmethod
    def claims(cls, uri: str) -> int:
        """Return how well this format fits a file that exists: 0 not at all, more for more specific formats."""

    @classmethod
    @abstractmethod
    def open(cls, spec: SourceSpec) -> Source:
        """Open the image, reading only metadata.

        Raises
        ------
        UnreadableSourceError
            For files that are damaged, or without the level, series, path or channels that were asked for.
        """

    @abstractmethod
    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a region in the image's own axis order and dtype; slices lie inside, with step 1."""

    def read_with(self, region: tuple[slice, ...], empty: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Return the pixels of a region, in an array that `empty` makes from its shape and dtype where `read` can.

        By default they are read into new memory, and that of a window before is free first.
        """
        release_window()
        return self.read(region)

    @property
    def stale(self) -> bool:
        """True once the source is known to be another than when it was opened."""
        return False

    @property
    def listing(self) -> Listing | None:
        """All that is stored of the image, where that was listed when it was opened."""
        return None

    def absent_chunks(self) -> int | None:
        """Return how many chunks of the image are not stored, so that they read as fill value; None if not known."""
        return None


SOURCES: Registry[type[Source]] = Registry("source format", "pipelines.formats", "diffuse.formats")


def read_canonical(
    source: Source, region: dict[str, slice], empty: Callable[..., NDArray[Any]] | None = None
) -> NDArray[Any]:
    """Return a window with axes in canonical order; axes that are not named are read whole."""
    info = source.info
    part = tuple(region.get(a, slice(0, n)) for a, n in info.sizes.items())
    pixels = source.read(part) if empty is None else source.read_with(part, empty)
    pixels = np.transpose(pixels, [info.axes.index(a) for a in info.canonical_axes])
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
