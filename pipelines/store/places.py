"""List, read, write and delete at any address: the only module that asks a disk or a store for anything.

Everything goes through `Place`: a local disk, or a store that fsspec knows (`s3://` and others). What a store answers
in passing (500, 503, a connection that breaks) is asked again. Tests put faulty places into `MAKERS`.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from pipelines.store.addresses import require_local, scheme_of
from pipelines.store.patience import patiently

EXCLUSIVE = ("s3", "s3a", "memory")
"""Schemes whose stores were seen to write an object only if there is none, in one step that no other writer can split
(S3: a put with `If-None-Match: *`)."""

PART_BYTES = 8 << 20
"""Bytes of one part of an object that is sent in several parts."""


class NotExclusiveError(NotImplementedError):
    """A store that cannot write an object only if there is none."""


@dataclass(frozen=True)
class Entry:
    """What a listing says of one thing.

    Attributes
    ----------
    name : str
        Name in the folder that was listed; "" for the thing itself.
    size : int or None
    mark : str
        Checksum (ETag, MD5), else the time of change; "" where the store tells neither.
    is_folder : bool
    """

    name: str
    size: int | None = None
    mark: str = ""
    is_folder: bool = False


class Place(ABC):
    """One disk or store. Paths are what `place_of` returns with it."""

    exclusive: bool = True
    """True where `write_if_absent` and `send` with `if_absent` cannot be split by another writer."""

    @abstractmethod
    def entries(self, path: str) -> list[Entry]:
        """Return what is directly in a folder.

        Raises
        ------
        FileNotFoundError
            If there is no such folder; a store has only folders with objects in them.
        """

    @abstractmethod
    def entry(self, path: str) -> Entry | None:
        """Return what is known of one file, object or folder, None where there is none."""

    @abstractmethod
    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of a file or an object, or a part of them."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Write all of a file or an object: readers see the old one or the new one."""

    @abstractmethod
    def write_if_absent(self, path: str, data: bytes) -> bool:
        """Write a file or an object if there is none, and return whether that was so.

        Two writers are told apart by their bytes: each must write something of its own.

        Raises
        ------
        NotExclusiveError
            If this place cannot tell two writers apart.
        """

    @abstractmethod
    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file; with `if_absent` return False where there is one."""

    @abstractmethod
    def delete(self, paths: Sequence[str]) -> None:
        """Delete files or objects; those that are gone already are no error."""


class LocalPlace(Place):
    """The file system of this machine."""

    def entries(self, path: str) -> list[Entry]:
        """Return what is directly in a folder."""
        found = []
        with os.scandir(path) as inside:
            for one in inside:
                if one.is_dir():
                    found.append(Entry(one.name, is_folder=True))
                    continue
                try:
                    stat = one.stat()
                except FileNotFoundError:  # a link that leads nowhere, or a file that is just gone
                    found.append(Entry(one.name))
                else:
                    found.append(Entry(one.name, stat.st_size, str(stat.st_mtime_ns)))
        return found

    def entry(self, path: str) -> Entry | None:
        """Return what is known of one file or folder; a link that leads nowhere is something too."""
        try:
            stat = os.stat(path)
        except FileNotFoundError:
            return Entry("") if os.path.lexists(path) else None
        if os.path.isdir(path):
            return Entry("", is_folder=True)
        return Entry("", stat.st_size, str(stat.st_mtime_ns))

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of a file, or a part of them."""
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)

    def write(self, path: str, data: bytes) -> None:
        """Write a file under a name of its own, bring it to the disk, and rename it."""
        part = _part(path, data)
        try:
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(Path(path).parent)

    def write_if_absent(self, path: str, data: bytes) -> bool:
        """Write a file if there is none."""
        part = _part(path, data)
        try:
            return link_or_rename(part, Path(path))
        finally:
            part.unlink(missing_ok=True)

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Copy a file."""
        data = file.read_bytes()
        if if_absent:
            return self.write_if_absent(path, data)
        self.write(path, data)
        return True

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files."""
        for path in paths:
            Path(path).unlink(missing_ok=True)


def _part(path: str, data: bytes) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return part


def link_or_rename(part: Path, target: Path) -> bool:
    """Give a finished file its name if nothing has it; return whether that was so."""
    try:
        # A link fails where the name is taken, in one step; a rename would replace what appeared meanwhile.
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            return False
        os.rename(part, target)
    sync_folder(target.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


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
        if not self.exclusive:
            raise NotExclusiveError(
                f"A store of the kind {self.scheme!r} is not known to write an object only if there is none, "
                f"so two runs cannot be told apart there. Known: {', '.join(EXCLUSIVE)}, and local folders."
            )
        try:
            self.filesystem.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file, in parts where it is large."""
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
    """A place that is asked again where it fails in passing."""

    def __init__(self, inner: Place) -> None:
        self.inner = inner
        self.exclusive = inner.exclusive

    def entries(self, path: str) -> list[Entry]:
        """Return what is directly in a folder."""
        return patiently(lambda: self.inner.entries(path))

    def entry(self, path: str) -> Entry | None:
        """Return what is known of one file, object or folder."""
        return patiently(lambda: self.inner.entry(path))

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of a file or an object, or a part of them."""
        return patiently(lambda: self.inner.read(path, start, stop))

    def write(self, path: str, data: bytes) -> None:
        """Write all of a file or an object."""
        patiently(lambda: self.inner.write(path, data), absent_passes=True)

    def write_if_absent(self, path: str, data: bytes) -> bool:
        """Write a file or an object if there is none."""
        written = patiently(lambda: self.inner.write_if_absent(path, data), absent_passes=True)
        if written:
            return True
        # Ours may be what is there: the answer to a first try is lost where a connection breaks, and clients of stores
        # try again by themselves.
        return patiently(lambda: self.inner.read(path), absent_passes=True) == data

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file."""
        return patiently(lambda: self.inner.send(file, path, if_absent=if_absent), absent_passes=True)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files or objects."""
        patiently(lambda: self.inner.delete(paths), absent_passes=True)


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
