"""Define an output format: Zarr arrays to fill by whole chunks, and a way to turn them into the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from diffusion_ops.registry import Registry
from pipelines.image.info import ImageInfo
from pipelines.store.addresses import labelled_image, require_label_name, shown

PATH = r"^[^\x00]*$"
"""What a path can be."""


class SinkSpec(BaseModel):
    """Where the result goes: the `sink` of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str = Field(pattern=PATH, description="Path or address of the result; must not exist yet.")
    format: str | None = Field(None, description="Name of the format; from the ending of the uri by default.")
    dtype: str | None = Field(
        None, description="Pixel type, rounded and clipped; float32 for integer images by default."
    )
    pyramid: Literal["auto", "none"] | Annotated[int, Field(ge=0, le=64)] = Field(
        "auto", description="Levels below the finest: auto, none or how many."
    )
    chunk: int | None = Field(
        None, gt=0, lt=1 << 31, description="Pixels per side of a chunk; 512 (64 in 3-D) by default."
    )
    compression: Literal["lz4", "zstd", "none"] = Field("zstd", description="Codec of the chunks.")
    of: str = Field(
        "source",
        description="Name of a step, or 'source': the image whose means a table of labelled regions has.",
    )

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                kind = np.dtype(value)
            except Exception:  # NumPy parses what is no name of a type as Python
                raise ValueError(
                    f"dtype {value!r} is not known. Allowed: uint8, uint16, float32 and so on."
                ) from None
            if kind.kind not in "iuf" or kind.itemsize > 8:
                raise ValueError(
                    f"dtype {value!r} is not possible. Allowed: integers, float16, float32, float64."
                )
        return value


TABLE = "table.npy"
"""Name of the file that a table is made of, inside the folder of its result."""

LINES = -1
"""Second number of a table of lines, after that of axes; in tables of regions it is the number of means."""


@dataclass(frozen=True)
class Level:
    """One resolution of the result, as an array to fill.

    Attributes
    ----------
    path : str
        Path of the array inside the Zarr hierarchy, "" for the root.
    info : ImageInfo
        Shape, dtype, axes (the sink's order), spacing, nodata; `info.chunks` is the smallest extent of one write: a
        shard where there are shards, else a chunk.
    chunks : tuple of int
        Shape of a chunk, in the sink's axis order.
    factors : tuple of int
        Reduction from the level before, per axis.
    """

    path: str
    info: ImageInfo
    chunks: tuple[int, ...]
    factors: tuple[int, ...]


class Sink(ABC):
    """One output format.

    The engine fills Zarr arrays in a working folder, whatever the format. `create` makes them, with all their metadata;
    `finish` turns the filled hierarchy into the target: a rename for Zarr, a streaming export for files. A target
    appears complete or not at all.
    """

    extensions: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = ""
    priority: ClassVar[int] = 0
    """Rank among formats with the same ending: the highest is taken where the spec names no format."""
    library_bytes: ClassVar[int] = 0
    """Resident memory that the format's library takes beside what every run loads."""
    is_zarr: ClassVar[bool] = False
    """True where the Zarr hierarchy itself is moved to the target; else the target is exported from it."""
    pyramid: ClassVar[bool] = False
    """True where the run writes levels below the finest."""
    is_table: ClassVar[bool] = False
    """True where the target is a table of labelled regions, made of `TABLE`; arrays are what that is made from."""

    lines_only: ClassVar[bool] = False
    """True for tables that hold lines, and no regions."""

    def __init__(self, spec: SinkSpec) -> None:
        self.spec = spec

    @classmethod
    def suits(cls, info: ImageInfo) -> bool:
        """Return whether this format suits an image; of formats with the same ending, this counts before `priority`."""
        return True

    @classmethod
    def ending(cls, name: str) -> int:
        """Return the length of the ending by which an address, in lower case, names this format, 0 for another."""
        return max((len(e) for e in cls.extensions if name.endswith(e)), default=0)

    def require_place(self, info: ImageInfo) -> None:
        """Refuse a target whose address cannot be that of an image of this metadata.

        Raises
        ------
        ValueError
        """
        require_label_name(self.spec.uri)
        if labelled_image(self.spec.uri) is not None:
            raise ValueError(
                f"{shown(self.spec.uri)} lies among the labels of an image, which are OME-Zarr. Remove `format`."
            )

    def require_surroundings(self, info: ImageInfo) -> None:  # noqa: B027 (most need nothing)
        """Refuse to write where what is on the disk around the target cannot take it: the image of labels.

        Raises
        ------
        ValueError
        """

    @abstractmethod
    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return the arrays of the result, the finest first, for an image of this metadata (with the final dtype).

        Raises
        ------
        ValueError
            For images that the format cannot hold (axes, dtype, size), before anything is written.
        """

    @abstractmethod
    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Write the hierarchy with empty arrays and all metadata to `root` (a folder that does not exist yet)."""

    @abstractmethod
    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Write `target` from the filled hierarchy with at most about `memory` bytes; `root` may be moved."""

    def is_listed(self) -> bool:
        """Return whether a target is in the list that it belongs to, where there is such a list."""
        return True

    def list_target(self, there: bool) -> None:
        """Add a target to the list that it belongs to, or remove it: labels in an image, one run at a time."""
        raise NotImplementedError(f"{type(self).__name__} writes no labels into images.")


SINKS: Registry[type[Sink]] = Registry("sink format", "pipelines.formats", "diffuse.formats")


def open_sink(spec: SinkSpec, info: ImageInfo) -> Sink:
    """Return the sink for a target and an image.

    Parameters
    ----------
    spec : SinkSpec
    info : ImageInfo
        Metadata of the result: of two formats with the same ending, the one that suits it better is taken.

    Raises
    ------
    ValueError
        For an unknown format or ending; the message lists those that exist.
    """
    if spec.format is not None:
        return SINKS[spec.format](spec)
    name = spec.uri.rstrip("/").lower()
    fitting = [cls for cls in SINKS.values() if cls.ending(name)]
    if not fitting:
        raise ValueError(
            f"The ending of {shown(spec.uri)!r} names no format. Allowed: {known_endings()}. "
            "Choose one of these endings, or say which with `format`."
        )
    # The longest ending first: .ome.zarr is also a .zarr.
    return max(fitting, key=lambda cls: (cls.ending(name), cls.suits(info), cls.priority))(spec)


def known_endings() -> str:
    """Return all endings with their formats, for messages."""
    return ", ".join(f"{' '.join(cls.extensions)} ({name})" for name, cls in SINKS.items())
