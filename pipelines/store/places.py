"""Return the place of an address, through which alone it is listed, read, written and deleted.

It is a local disk, a store of objects, or what else fsspec knows (`https://` and others). What a store answers in
passing (500, 503, a connection that breaks) is asked again. Tests put faulty places into `MAKERS`.
"""

from __future__ import annotations

import errno
import functools
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from pipelines.store.addresses import in_store, of_store, require_local, scheme_of, shown
from pipelines.store.object_place import AMAZON, AZURE, GOOGLE, SCHEMES, ObjectPlace
from pipelines.store.patience import naming, patiently
from pipelines.store.place import Entry, LocalPlace, NotExclusiveError, Place

T = TypeVar("T")

EXCLUSIVE = ("memory",)
"""Other schemes whose stores write an object only if there is none, in one step that no other writer can split."""


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
        found = []
        for one in self.filesystem.ls(path, detail=True):
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
                f"A store of the kind {self.scheme!r} is not known to write an object only if there is none, so two "
                f"runs cannot be told apart there. Known: {', '.join(SCHEMES)}, and local folders."
            )
        try:
            self.filesystem.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def write_over(self, path: str, data: bytes, mark: str) -> bool:
        """Refuse to: no other store was seen to do so."""
        raise NotExclusiveError(
            f"A store of the kind {self.scheme!r} is not known to replace an object only if it is a certain one. "
            f"Known: {', '.join(SCHEMES)}."
        )

    def fetch(self, path: str, file: Path) -> None:
        """Write the bytes of an object into a local file."""
        self.filesystem.get_file(path, str(file))

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file.

        Where the store does not know "only if there is none", it is looked for first; another writer may come between.
        """
        if if_absent and not self.exclusive and self.entry(path) is not None:
            return False
        try:
            self.filesystem.put_file(
                str(file), path, **({"mode": "create"} if if_absent and self.exclusive else {})
            )
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


TIMES = ("lastmodified", "last-modified", "mtime", "updated", "created")
"""Keys under which stores tell a time of change."""


def _entry(info: dict[str, Any], name: str) -> Entry:
    lower = {key.lower(): value for key, value in info.items()}
    mark = next((lower[key] for key in (*MARKS, "updated", "created") if lower.get(key)), "")
    if info.get("type") == "directory":
        return Entry(name, is_folder=True)
    changed = next((lower[key] for key in TIMES if key in lower), None)
    moment = changed.timestamp() if isinstance(changed, datetime) else None
    return Entry(name, info.get("size"), str(mark).strip('"'), changed=moment)


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

    def write_over(self, path: str, data: bytes, mark: str) -> bool:
        """Write an object in the place of a certain one."""
        written = self._ask(path, lambda: self.inner.write_over(path, data, mark), absent_passes=True)
        if written or self.entry(path) is None:
            return written
        # As with `write_if_absent`.
        return self.read(path) == data

    def fetch(self, path: str, file: Path) -> None:
        """Write the bytes of a file or an object into a local file."""
        self._ask(path, lambda: self.inner.fetch(path, file))

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file."""
        return self._ask(path, lambda: self.inner.send(file, path, if_absent=if_absent), absent_passes=True)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files or objects."""
        if paths:
            self._ask(paths[0], lambda: self.inner.delete(paths), absent_passes=True)


EXTRAS = {
    **dict.fromkeys(AMAZON, "s3"),
    **dict.fromkeys(GOOGLE, "gs"),
    **dict.fromkeys(AZURE, "az"),
    **dict.fromkeys(("http", "https"), "http"),
}
"""Scheme -> extra with the library that reaches its addresses."""


def advice(uri: str) -> str:
    """Return what may help where a place cannot be reached."""
    scheme = scheme_of(uri)
    extra = EXTRAS.get(scheme)
    more = f"; {of_store(scheme, '')} needs its extra: pip install 'diffuse[{extra}]'" if extra else ""
    return f"Check the address, the network and the credentials{more}."


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
    if scheme in SCHEMES:
        return PatientPlace(ObjectPlace(scheme)), in_store(uri)
    filesystem, path = fsspec.core.url_to_fs(uri, **OPTIONS)
    return PatientPlace(FsspecPlace(filesystem, scheme)), path.rstrip("/")


OPTIONS: dict[str, Any] = {"use_listings_cache": False}
"""Options of fsspec: a listing is what is there now, not what was there at the first look."""


COPIES = 32
"""Local copies that a process keeps; who has opened an older one may read on."""

_copies: OrderedDict[tuple[str, str], Path] = OrderedDict()
_copying = threading.Lock()


@functools.cache
def _folder_of_copies() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="diffuse-")


def local_copy(uri: str) -> Path:
    """Return a local file with the bytes at an address: that file itself, or a copy of the object as it is now.

    Raises
    ------
    FileNotFoundError
    """
    place, path = place_of(uri)
    if isinstance(place, LocalPlace):
        return Path(path)
    with _copying:
        entry = place.entry(path)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "There is no such object", shown(uri))
        key = (uri, entry.mark)
        if key not in _copies:
            file = Path(_folder_of_copies().name, uuid.uuid4().hex)
            place.fetch(path, file)
            _copies[key] = file
        _copies.move_to_end(key)
        while len(_copies) > COPIES:
            _copies.popitem(last=False)[1].unlink(missing_ok=True)
        return _copies[key]
