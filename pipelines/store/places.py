"""Return the place of an address, through which alone it is listed, read, written and deleted.

It is a local disk, or a store that fsspec knows (`s3://` and others). What a store answers in passing (500, 503, a
connection that breaks) is asked again. Tests put faulty places into `MAKERS`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from pipelines.store.addresses import require_local, scheme_of
from pipelines.store.patience import naming, patiently
from pipelines.store.place import Entry, LocalPlace, NotExclusiveError, Place

T = TypeVar("T")

EXCLUSIVE = ("s3", "s3a", "memory")
"""Schemes whose stores were seen to write an object only if there is none, in one step that no other writer can split
(S3: a put with `If-None-Match: *`)."""

PART_BYTES = 8 << 20
"""Bytes of one part of an object that is sent in several parts."""


@dataclass
class FsspecPlace(Place):
    """A store that fsspec knows.

    Attributes
    ----------
    filesystem : fsspec filesystem
        Without a cache of listings: what is listed is what is there now.
    scheme : str
    """

    filesystem: Any
    scheme: str
    exclusive: bool = field(init=False)

    def __post_init__(self) -> None:
        self.exclusive = self.scheme in EXCLUSIVE

    def address(self, path: str) -> str:
        """Return a path with its scheme."""
        return str(self.filesystem.unstrip_protocol(path))

    def entries(self, path: str) -> list[Entry]:
        """Return what is directly in a folder."""
        try:
            listed = self.filesystem.ls(path, detail=True)
        except FileNotFoundError as error:
            if error.__cause__ is None:
                raise
            # An empty S3 listing is no error. This is the server's own "404", which may pass.
            raise OSError(f"the store answered to a listing: {error}") from error
        found = []
        for one in listed:
            inside = str(one["name"]).rstrip("/")
            if inside == path.rstrip("/") and one["type"] != "directory" and not one["name"].endswith("/"):
                found.append(_entry(one, ""))
            elif inside.startswith(f"{path.rstrip('/')}/"):
                found.append(_entry(one, inside[len(path.rstrip("/")) + 1 :]))
        return found

    def entry(self, path: str) -> Entry | None:
        """Return what is known of one object or folder."""
        try:
            return _entry(self.filesystem.info(path), "")
        except FileNotFoundError:
            return None

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of an object, or a part of them."""
        if start == 0 and stop is None:
            return bytes(self.filesystem.cat_file(path))
        return bytes(self.filesystem.cat_file(path, start=start, end=stop))

    def write(self, path: str, data: bytes) -> None:
        """Write all of an object."""
        self.filesystem.pipe_file(path, data)

    def write_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object if there is none."""
        if self.exclusive:
            try:
                self.filesystem.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                self._learn(error)
            else:
                return True
        raise NotExclusiveError(
            f"A store of the kind {self.scheme!r}, or this server of it, is not known to write an object only if there "
            f"is none, so two runs cannot be told apart there. Known: {', '.join(EXCLUSIVE)}, and local folders."
        )

    def _learn(self, error: OSError) -> None:
        """Note that a server of a known kind does not know the condition (501); raise any other error."""
        if error.errno != errno.ENOSYS:
            raise error
        self.exclusive = False

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file, in parts where it is large.

        Where the store does not know "only if there is none", it is looked for first; another writer may come between.
        """
        if if_absent and not self.exclusive and self.entry(path) is not None:
            return False
        more: dict[str, Any] = {"mode": "create"} if if_absent and self.exclusive else {}
        if self.scheme in ("s3", "s3a"):
            # One part at a time: as many objects as there are threads are in flight already.
            more |= {"chunksize": part_bytes(file.stat().st_size), "max_concurrency": 1}
        try:
            self.filesystem.put_file(str(file), path, **more)
        except FileExistsError:
            return False
        except OSError as error:
            if "mode" not in more:
                raise
            self._learn(error)
            return self.send(file, path, if_absent=if_absent)
        return True

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, a thousand with one request where the store can."""
        for i in range(0, len(paths), 1000):
            try:
                self.filesystem.rm(list(paths[i : i + 1000]))
            except FileNotFoundError:
                for path in paths[i : i + 1000]:
                    if self.entry(path) is not None:
                        self.filesystem.rm_file(path)


def part_bytes(size: int) -> int:
    """Return the bytes of one part of an object of a size: S3 takes at most 10,000 parts."""
    return max(PART_BYTES, -(-size // 9000 >> 20) << 20)


MARKS = (
    "etag",
    "md5hash",
    "md5",
    "content-md5",
    "crc32c",
    "digest",
    "lastmodified",
    "last-modified",
    "mtime",
)
"""Keys under which stores tell a checksum or a time of change, the surest first."""


def _entry(info: dict[str, Any], name: str) -> Entry:
    lower = {key.lower(): value for key, value in info.items()}
    mark = next((lower[key] for key in (*MARKS, "updated", "created") if lower.get(key)), "")
    folder = info.get("type") == "directory"
    return Entry(name, None if folder else info.get("size"), "" if folder else str(mark).strip('"'), folder)


class PatientPlace(Place):
    """A place that is asked again where it fails in passing; an error that does not pass names the address."""

    def __init__(self, inner: Place) -> None:
        self.inner = inner
        self.exclusive = inner.exclusive

    def address(self, path: str) -> str:
        """Return what people call a path of this place."""
        return self.inner.address(path)

    def _ask(self, path: str, call: Callable[[], T], *, absent_passes: bool = False) -> T:
        with naming(self.inner.address(path)):
            return patiently(call, absent_passes=absent_passes)

    def entries(self, path: str) -> list[Entry]:
        """Return what is directly in a folder."""
        return self._ask(path, lambda: self.inner.entries(path))

    def entry(self, path: str) -> Entry | None:
        """Return what is known of one file, object or folder."""
        return self._ask(path, lambda: self.inner.entry(path))

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of a file or an object, or a part of them."""
        return self._ask(path, lambda: self.inner.read(path, start, stop))

    def write(self, path: str, data: bytes) -> None:
        """Write all of a file or an object."""
        self._ask(path, lambda: self.inner.write(path, data), absent_passes=True)

    def write_if_absent(self, path: str, data: bytes) -> bool:
        """Write a file or an object if there is none."""
        written = self._ask(path, lambda: self.inner.write_if_absent(path, data), absent_passes=True)
        if written:
            return True
        # Ours may be what is there: the answer to a first try is lost where a connection breaks, and clients of stores
        # try again by themselves.
        return self._ask(path, lambda: self.inner.read(path), absent_passes=True) == data

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file."""
        return self._ask(path, lambda: self.inner.send(file, path, if_absent=if_absent), absent_passes=True)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files or objects."""
        if paths:
            self._ask(paths[0], lambda: self.inner.delete(paths), absent_passes=True)


MAKERS: dict[str, Callable[[str], tuple[Place, str]]] = {}
"""Scheme -> function from an address to a place and the path in it, before fsspec is asked."""


def place_of(uri: str) -> tuple[Place, str]:
    """Return the place of an address, and the path in it."""
    scheme = scheme_of(uri)
    if scheme in MAKERS:
        place, path = MAKERS[scheme](uri)
        return PatientPlace(place), path
    if scheme in ("", "file", "local"):
        return LocalPlace(), str(require_local(uri))
    filesystem, path = fsspec.core.url_to_fs(uri, **FRESH)
    return PatientPlace(FsspecPlace(filesystem, scheme)), path.rstrip("/")


FRESH = {"use_listings_cache": False}
"""Options of fsspec with which a listing is what is there now, not what was there at the first look."""
