"""Read and write regions of pixels, of a source or of a Zarr array, always in canonical axis order."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.spare import window_memory
from pipelines.image.info import ImageInfo
from pipelines.image.kept_sources import cached_source
from pipelines.image.source import SourceSpec, read_canonical
from pipelines.image.window import Region, extent
from pipelines.store.addresses import is_remote, within
from pipelines.store.arrays import CHUNK_VALUES, READ_AT_ONCE, open_array, read_region
from pipelines.store.checked_codecs import PILE_BYTES
from pipelines.store.targets import MARKER, exists
from pipelines.store.whole_chunks import require_chunks, send_chunks, write_chunks
from pipelines.tasks.fence import require_own_epoch

WRITING = "writing"
"""Folder beside the hierarchies of a run that holds chunks until they are whole."""

OWN_CHUNK_BYTES = 8 * CHUNK_VALUES
"""Bytes of the largest usual chunk of our own arrays."""

ENCODING_BYTES = 2 * OWN_CHUNK_BYTES
"""Memory that writing takes beside the pixels: chunks are encoded one after another, each from a copy."""


def decoding_bytes(chunk_bytes: int, uri: str = "") -> int:
    """Return the memory that reading parts of chunks at an address takes beside the pixels that are read.

    A pile of decoded chunks, at least one; and the encoded form of one, which is no larger. Chunks in a store are read
    several at a time, each in memory as it came, without its checksum, and decoded.
    """
    if is_remote(uri):
        return max(PILE_BYTES, READ_AT_ONCE * 3 * chunk_bytes)
    return max(PILE_BYTES, chunk_bytes) + chunk_bytes


class Pixels(ABC):
    """Pixels that a task can read, described by plain values that can be sent to any worker."""

    @abstractmethod
    def read(self, region: Region) -> NDArray[Any]:
        """Return a region, axes in canonical order."""

    def read_with(self, region: Region, empty: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Return a region as `read` does; with `reads_into` in an array that `empty` makes from its shape and dtype."""
        return self.read(region)

    @property
    def reads_into(self) -> bool:
        """Whether `read_with` reads into memory from `empty`, and takes none beside it but for decoding."""
        return False

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The Zarr arrays that they are read from; none for the user's image."""
        return ()

    @property
    def decoding_bytes(self) -> int:
        """Memory that decoding takes beside the pixels that are read, at most."""
        return 0

    @property
    def cell_bytes(self) -> int:
        """Memory per pixel that is read of what the pixels are computed from."""
        return 0

    def whole_along(self, axis: str) -> int:
        """Return how many cells along an axis are decoded together: reading them in turns decodes them each time."""
        return 1

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Pixels:
        """Return the pixels with statistics replaced by their values, in operators that compute them."""
        return self


@dataclass(frozen=True)
class SourcePixels(Pixels):
    """The user's image.

    Attributes
    ----------
    spec : SourceSpec
    axes : str
        Canonical axes of the image.
    chunk_bytes : int
        Bytes of a decoded chunk: what its storage reads at once.
    chunks : tuple of int
        Length of a chunk per canonical axis; empty where parts of chunks are read.
    listing : str
        File with the driver's listing of the image, which workers take over where it is there.
    reads_into : bool
    """

    spec: SourceSpec
    axes: str
    chunk_bytes: int = 0
    chunks: tuple[int, ...] = ()
    listing: str = ""
    reads_into: bool = False

    @classmethod
    def of(cls, spec: SourceSpec, info: ImageInfo, listing: str = "") -> SourcePixels:
        """Return the pixels of an image that is open."""
        axes = info.canonical_axes
        lengths = dict(zip(info.axes, info.chunks, strict=True))
        chunks = tuple(lengths[a] for a in axes) if info.chunk_bytes else ()
        return cls(spec, axes, info.chunk_bytes, chunks, listing, info.reads_into and info.axes == axes)

    def whole_along(self, axis: str) -> int:
        """Return the length of a chunk."""
        return self.chunks[self.axes.index(axis)] if self.chunks else 1

    @property
    def decoding_bytes(self) -> int:
        """A pile of decoded chunks, and the encoded form of one."""
        return decoding_bytes(self.chunk_bytes, self.spec.uri)

    def read(self, region: Region) -> NDArray[Any]:
        """Return a region of the source, with axes of length 1 that its file leaves out."""
        return self.read_with(region, window_memory)

    def read_with(self, region: Region, empty: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Return a region of the source in memory from `empty`, where its format can."""
        source = cached_source(self.spec, self.listing)
        pixels = read_canonical(source, dict(zip(self.axes, region, strict=True)), empty)
        return pixels.reshape(extent(region))


def _open_array(root: str, path: str) -> Any:
    """Return an array that is opened once, and again where another run has created it anew under the same path.

    In a store no two runs have arrays of the same address.
    """
    if is_remote(root):
        return _opened_array(root, path)
    metadata = Path(root, path, "zarr.json").stat()
    return _opened_array(root, path, (metadata.st_mtime_ns, metadata.st_ino))


@functools.lru_cache(maxsize=64)
def _opened_array(root: str, path: str, _laid_out: tuple[int, int] = (0, 0)) -> Any:
    return open_array(root, path)


def forget_arrays() -> None:
    """Open all arrays anew: at the address of a target in a store there may be those of a later run."""
    _opened_array.cache_clear()


@dataclass(frozen=True)
class ZarrPixels(Pixels):
    """An array of a Zarr hierarchy.

    Attributes
    ----------
    root, path : str
    axes : str
        Order in which the array stores its axes.
    canonical : str
        The same letters in canonical order.
    """

    root: str
    path: str
    axes: str
    canonical: str

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The array itself."""
        return (self,)

    @property
    def decoding_bytes(self) -> int:
        """A pile of decoded chunks, and the encoded form of one."""
        return decoding_bytes(OWN_CHUNK_BYTES, self.root)

    @property
    def exists(self) -> bool:
        """True once the array has been created."""
        return exists(within(self.address, MARKER))

    @property
    def address(self) -> str:
        """Where the array is."""
        return within(self.root, self.path)

    def _stored(self, region: Region) -> Region:
        return tuple(region[self.canonical.index(a)] for a in self.axes)

    def read(self, region: Region) -> NDArray[Any]:
        """Return a region of the array.

        Raises
        ------
        MissingChunkError
            Where a chunk of it was never written, or is lost.
        """
        return self.read_with(region, window_memory)

    def read_with(self, region: Region, empty: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Return a region of the array, in memory from `empty`; see `read`."""
        array, stored = _open_array(self.root, self.path), self._stored(region)
        if not is_remote(self.root):  # a store tells it of each chunk that it is asked for
            require_chunks(array, Path(self.root, self.path), stored)
        return np.transpose(read_region(array, stored, empty), [self.axes.index(a) for a in self.canonical])

    @property
    def reads_into(self) -> bool:
        """True where the array stores its axes in canonical order."""
        return self.axes == self.canonical

    @property
    def writing(self) -> Path:
        """Folder on the disk of the array for chunks that are not whole yet."""
        return Path(self.root).parent / WRITING

    def write(self, region: Region, values: NDArray[Any]) -> None:
        """Write a region that covers whole chunks (whole shards) or ends at the array's end.

        Raises
        ------
        ValueError
            For any other region.
        FencedOffError
            Where another process has taken over the run.
        """
        pixels = np.transpose(values.reshape(extent(region)), [self.canonical.index(a) for a in self.axes])
        array = _open_array(self.root, self.path)
        if is_remote(self.root):
            send_chunks(array, self.address, self._stored(region), pixels, require_own_epoch)
            return
        folder = Path(self.root, self.path)
        write_chunks(array, folder, self._stored(region), pixels, self.writing, require_own_epoch)


@dataclass(frozen=True)
class PointPixels(Pixels):
    """Labels at a few cells, 0 elsewhere, in every frame alike.

    Attributes
    ----------
    spatial : tuple of int
        Places of the spatial axes among the axes of the image.
    cells : tuple of tuples of int
        One index per spatial axis, and the label.
    """

    spatial: tuple[int, ...]
    cells: tuple[tuple[int, ...], ...]

    def read(self, region: Region) -> NDArray[Any]:
        """Return a region as int32."""
        found = np.zeros(extent(region), np.int32)
        for *cell, label in self.cells:
            if all(region[a].start <= n < region[a].stop for a, n in zip(self.spatial, cell, strict=True)):
                at: list[Any] = [slice(None)] * found.ndim
                for a, n in zip(self.spatial, cell, strict=True):
                    at[a] = n - region[a].start
                found[tuple(at)] = label
        return found


@dataclass(frozen=True)
class ConstantPixels(Pixels):
    """One value everywhere, such as the fill value of invalid pixels in a new quantity.

    Attributes
    ----------
    value : float
    """

    value: float

    def read(self, region: Region) -> NDArray[Any]:
        """Return an array that is filled with the value."""
        return np.broadcast_to(np.float64(self.value), extent(region))
