"""Send a finished result to a store: what is not there yet, never over what is another's, and check that all is there.

An object is sent only if there is none of its name, so that nothing of anybody else is replaced. One that is there is
taken for ours where its bytes are: its ETag is the MD5 of the file (for an object in parts, the MD5 of the MD5s of its
parts), or, where the store's checksum is another (encryption, another kind of store), it is read back and compared.
The root's metadata goes last, when a listing of the store has shown everything else.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.store.addresses import is_remote, shown, within
from pipelines.store.listings import tree
from pipelines.store.object_place import PART_BYTES, part_bytes
from pipelines.store.patience import patiently
from pipelines.store.place import Entry, Place, whole_name
from pipelines.store.places import place_of
from pipelines.store.targets import MARKER

OBJECTS_AT_ONCE = 8
"""Objects in flight at a time."""

LARGE_OBJECTS_AT_ONCE = 3
"""The same where one is larger than a part: each of them takes up to two parts of memory."""


class TargetTakenError(FileExistsError):
    """Something that is not this result is at the target; it is left as it is."""


class UnverifiedError(OSError):
    """The store does not have what was sent to it."""


class Original(ABC):
    """Something that is to be sent.

    Attributes
    ----------
    size : int
    mark : str
        ETag of an object, "" for a file.
    """

    size: int
    mark: str = ""

    @abstractmethod
    def file(self) -> AbstractContextManager[Path]:
        """Return a context with a local file of its bytes."""


class LocalOriginal(Original):
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        self._path, self.size = path, path.stat().st_size

    def file(self) -> AbstractContextManager[Path]:
        """Return a context with the file itself."""
        return nullcontext(self._path)


class StoredOriginal(Original):
    """An object."""

    def __init__(self, place: Place, path: str, entry: Entry) -> None:
        self._place, self._path, self.size, self.mark = place, path, entry.size or 0, entry.mark

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yield a copy of the object, which is removed at the end."""
        with TemporaryDirectory(prefix="diffuse-") as folder:
            copy = Path(folder, "object")
            self._place.fetch(self._path, copy)
            yield copy


def _originals(root: str | Path) -> dict[str, Original]:
    """Return what is below a path or an address, by name."""
    if not is_remote(str(root)):
        files = sorted(p for p in Path(root).rglob("*") if p.is_file())
        return {file.relative_to(root).as_posix(): LocalOriginal(file) for file in files}
    place, base = place_of(str(root))
    entries = sorted(tree(place, base), key=lambda entry: entry.name)
    return {entry.name: StoredOriginal(place, within(base, entry.name), entry) for entry in entries}


def upload_folder(root: str | Path, target: str) -> None:
    """Send a hierarchy from a folder or a store; what an upload that was cut short has sent is not sent again.

    Raises
    ------
    TargetTakenError
        If there are other objects at the target.
    UnverifiedError
        If the store does not list everything that was sent, with the right sizes and checksums.
    """
    place, base = place_of(target)
    files = _originals(root)
    sending = _Sending(place, base, files, target)
    sending.compare()
    body = [name for name in files if name != MARKER]
    if MARKER in sending.proven and not sending.proven.keys() >= set(body):
        raise _taken(target, MARKER)
    for names in (body, [name for name in files if name == MARKER]):
        sending.send(names)
        sending.require(names)


def upload_file(file: Path, target: str) -> None:
    """Send one file, as `upload_folder` does."""
    place, path = place_of(target)
    there = place.entry(path)
    if there is not None and there.is_folder:
        raise _taken(target, "a folder")
    place.send(file, path, if_absent=True)

    def entry() -> Entry:
        found = place.entry(path)
        if found is None:
            raise UnverifiedError(
                f"{shown(target)} is not there after it was sent. Run the same command again."
            )
        return found

    if not same_bytes(place, path, patiently(entry), file):
        raise _taken(target, "another file")


@dataclass
class _Sending:
    """One upload of a folder.

    Attributes
    ----------
    place, base : where to
    files : dict
        Name of an object -> what it is made of.
    target : str
        Address, for messages.
    proven : dict
        Name -> what the store said of the object whose bytes were found to be the file's.
    """

    place: Place
    base: str
    files: Mapping[str, Original]
    target: str
    proven: dict[str, Entry] = field(default_factory=dict)

    def compare(self) -> None:
        """List the target; refuse objects that this result does not have, or has with other bytes."""
        try:
            there = {entry.name: entry for entry in tree(self.place, self.base)}
        except FileNotFoundError:
            there = {}
        for name in [name for name in there if name not in self.files and _whole(name) in self.files]:
            # Left by an upload that was killed: of a target one process is in charge.
            self.place.delete([within(self.base, name)])
            del there[name]
        others = sorted(set(there) - set(self.files))
        if others:
            raise _taken(self.target, others[0])
        new = [name for name, entry in there.items() if self.proven.get(name) != entry]
        with ThreadPoolExecutor(LARGE_OBJECTS_AT_ONCE) as pool:
            for name, same in zip(new, pool.map(lambda n: self._same(there[n]), new), strict=True):
                if not same:
                    raise _taken(self.target, name)
        self.proven = there

    def _same(self, entry: Entry) -> bool:
        original = self.files[entry.name]
        if entry.size is not None and entry.size != original.size:
            return False
        if entry.mark and entry.mark == original.mark:
            return True
        with original.file() as file:
            return same_bytes(self.place, within(self.base, entry.name), entry, file)

    def send(self, names: Sequence[str]) -> None:
        """Send what is not proven to be there, several objects at a time."""
        names = [name for name in names if name not in self.proven]
        large = any(self.files[name].size > PART_BYTES for name in names)
        with ThreadPoolExecutor(LARGE_OBJECTS_AT_ONCE if large else OBJECTS_AT_ONCE) as pool:
            sent = [pool.submit(self._send, name) for name in names]
            try:
                for one in sent:
                    one.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _send(self, name: str) -> None:
        with self.files[name].file() as file:
            self.place.send(file, within(self.base, name), if_absent=True)

    def require(self, names: Sequence[str]) -> None:
        """List the target again and compare what is new; raise where something that was sent is not listed."""
        self.compare()
        missing = [name for name in names if name not in self.proven]
        if missing:
            raise UnverifiedError(
                f"{len(missing)} of {len(names)} objects are not in the listing of {shown(self.target)} after they "
                f"were sent, {missing[0]} among them. Run the same command again."
            )


def _whole(name: str) -> str:
    """Return the name of the object that a part belongs to."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{whole_name(last)}"


def _taken(target: str, name: str) -> TargetTakenError:
    return TargetTakenError(
        f"{shown(target)} holds something that is not this result ({name or 'an object'}), which is left as it is. "
        "The result is kept here. Choose another target, or replace what is there with --overwrite."
    )


def same_bytes(place: Place, path: str, entry: Entry, file: Path) -> bool:
    """Return whether an object has the bytes of a file."""
    size = file.stat().st_size
    if entry.size is not None and entry.size != size:
        return False
    if entry.mark and entry.mark in etags(file, "-" in entry.mark):
        return True
    parts = _parts(file, PART_BYTES)
    starts = range(0, max(size, 1), PART_BYTES)
    return all(
        place.read(path, start, min(start + PART_BYTES, size)) == part if size else place.read(path) == b""
        for start, part in zip(starts, parts, strict=True)
    )


def _parts(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield opened.read(size)
        while part := opened.read(size):
            yield part


def etags(file: Path, in_parts: bool = False) -> tuple[str, ...]:
    """Return the ETags that S3 may give an object: the MD5, or those of the MD5s of its parts and their number.

    The parts are those that it is sent in, or one, where the store has copied it.
    """
    plain = hashlib.md5(usedforsecurity=False)
    for one in _parts(file, PART_BYTES):
        plain.update(one)
    if not in_parts:
        return (plain.hexdigest(),)
    sent = [hashlib.md5(one, usedforsecurity=False) for one in _parts(file, part_bytes(file.stat().st_size))]
    return tuple(
        f"{hashlib.md5(b''.join(one.digest() for one in sums), usedforsecurity=False).hexdigest()}-{len(sums)}"
        for sums in ([plain], sent)
    )
