"""Say what every place of files must do, a disk or a store; and do it on the disks of this machine."""

from __future__ import annotations

import os
import re
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


class NotExclusiveError(NotImplementedError):
    """A store that cannot write an object only if there is none, or only in the place of a certain one."""


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
    changed : float or None
        Time of the last change by the clock of the place; None where it does not tell.
    """

    name: str
    size: int | None = None
    mark: str = ""
    is_folder: bool = False
    changed: float | None = field(default=None, compare=False)


class Place(ABC):
    """One disk or store. Paths are what `place_of` returns with it."""

    exclusive: bool = True
    """True where `write_if_absent` and `send` with `if_absent` cannot be split by another writer."""

    def address(self, path: str) -> str:
        """Return what people call a path of this place."""
        return path

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

    def write_over(self, path: str, data: bytes, mark: str) -> bool:
        """Write an object in the place of the one that has a mark (see `Entry`), and return whether that was there.

        Two writers are told apart by their bytes: each must write something of its own.

        Raises
        ------
        NotExclusiveError
            If this place cannot tell two writers apart.
        """
        raise NotExclusiveError("Objects are not replaced in turn here.")

    @abstractmethod
    def fetch(self, path: str, file: Path) -> None:
        """Write the bytes of a file or an object into a local file."""

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
                    found.append(_entry(one.name, stat))
        return found

    def entry(self, path: str) -> Entry | None:
        """Return what is known of one file or folder; a link that leads nowhere is something too."""
        try:
            stat = os.stat(path)
        except FileNotFoundError:
            return Entry("") if os.path.lexists(path) else None
        if os.path.isdir(path):
            return Entry("", is_folder=True)
        return _entry("", stat)

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

    def fetch(self, path: str, file: Path) -> None:
        """Copy a file."""
        shutil.copyfile(path, file)

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


def _entry(name: str, stat: os.stat_result) -> Entry:
    return Entry(name, stat.st_size, str(stat.st_mtime_ns), changed=stat.st_mtime)


_PART = re.compile(r"\.(.+)\.\d+\.\d+\.part")


def part_name(name: str) -> str:
    """Return the name of a part of a file, or of an object, that only this thread has."""
    return f".{name}.{os.getpid()}.{threading.get_ident()}.part"


def whole_name(name: str) -> str:
    """Return the name of the file that a part left by a killed writer belongs to; any other name as it is."""
    part = _PART.fullmatch(name)
    return name if part is None else part.group(1)


def _part(path: str, data: bytes) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(part_name(target.name))
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
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
