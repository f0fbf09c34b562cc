"""Make a target appear complete or not at all, and in the place of nothing else.

A result is finished in the run's folder first, by the format; then it is renamed to its target, copied to its disk and
renamed there, or uploaded. What has appeared at the target meanwhile is another's, and is left as it is.
"""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipelines.store.addresses import is_remote, local_path, outside, require_local, within
from pipelines.store.listings import tree
from pipelines.store.object_place import PART_BYTES
from pipelines.store.place import Place, link_or_rename, sync_folder
from pipelines.store.places import place_of
from pipelines.store.targets import LABELS, MARKER, MARKERS
from pipelines.store.upload import OBJECTS_AT_ONCE, TargetTakenError, upload_file, upload_folder

# ---- what is at a target


def stamp(path: Path) -> list[int] | None:
    """Return a mark by which a file or folder is known again, also after a rename; None where nothing is."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if path.is_dir() and not path.is_symlink():
        # The time of a folder is the time of its entries; the root of a hierarchy tells when that was written.
        return [found.st_dev, found.st_ino, *(stamp(path / MARKER) or [])]
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def stamp_of(uri: str) -> list[int] | None:
    """Return the mark of what is at an address; in a store, that of the names there and of the root's metadata."""
    path = local_path(uri)
    if path is not None:
        return stamp(path)
    place, inside = place_of(uri)
    entry = place.entry(inside)
    if entry is None:
        return None
    if entry.is_folder:
        entries = [(e.name, e.mark if e.name in MARKERS else "") for e in place.entries(inside)]
        return [zlib.crc32(repr(sorted(entries)).encode())]
    return [zlib.crc32(repr((entry.size, entry.mark)).encode())]


def content_checksum(uri: str) -> int | None:
    """Return the CRC-32 of a file, or that of the metadata of a hierarchy, whose chunks have their own.

    Labels are added to an image later, each by a run that knows its checksum.

    Returns
    -------
    int or None
        None where nothing is.
    """
    place, path = place_of(uri)
    entry = place.entry(path)
    if entry is None:
        return None
    if not entry.is_folder:
        return _checksum(place, path, entry.size or 0, 0)
    crc = 0
    for one in sorted(tree(place, path), key=lambda e: e.name):
        if one.name.rpartition("/")[2] == MARKER and not one.name.startswith(f"{LABELS}/"):
            crc = _checksum(place, within(path, one.name), one.size or 0, zlib.crc32(one.name.encode(), crc))
    return crc


def _checksum(place: Place, path: str, size: int, crc: int) -> int:
    for start in range(0, size, PART_BYTES):
        crc = zlib.crc32(place.read(path, start, min(size, start + PART_BYTES)), crc)
    return crc


# ---- the way there


def bring_beside(finished: str, target: str) -> str:
    """Return a finished file or folder on its target's disk: itself, or a copy under a temporary name.

    For a target in a store it is what is finished, wherever that lies.
    """
    if is_remote(target):
        return finished
    path = require_local(target)
    if not is_remote(finished) and os.lstat(finished).st_dev == path.parent.stat().st_dev:
        return finished
    copy = part_of(path)
    if copy.parent.stat().st_dev != path.parent.stat().st_dev:
        # An image, or its labels, that are mounted or linked to.
        copy = path.with_name(f".{path.name}.part")
    remove_local(copy)
    if is_remote(finished):
        _fetch_folder(finished, copy)
    elif Path(finished).is_dir():
        shutil.copytree(finished, copy)
    else:
        shutil.copyfile(finished, copy)
    return str(copy)


def _fetch_folder(uri: str, folder: Path) -> None:
    """Write all objects of a hierarchy into a new folder, several at a time."""
    place, base = place_of(uri)

    def fetch(name: str) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        place.fetch(within(base, name), file)
        with open(file, "rb+") as written:
            os.fsync(written.fileno())

    with ThreadPoolExecutor(OBJECTS_AT_ONCE) as pool:
        for one in [pool.submit(fetch, entry.name) for entry in tree(place, base)]:
            one.result()


def hand_over(ready: str | Path, target: str) -> None:
    """Rename what `bring_beside` returned to its target, or upload it; an upload that was cut short goes on.

    Raises
    ------
    TargetTakenError
        If something else is at the target.
    """
    here = Path(ready)
    if is_remote(str(ready)) or (is_remote(target) and here.is_dir()):
        upload_folder(ready, target)
        return
    if is_remote(target):
        upload_file(here, target)
        return
    path = require_local(target)
    if not (_rename_folder if here.is_dir() else link_or_rename)(here, path):
        raise TargetTakenError(f"Something has appeared at {target}, which is left as it is.")
    if path.is_file():
        here.unlink(missing_ok=True)
    sync_folder(path.parent)


def _rename_folder(path: Path, target: Path) -> bool:
    if os.path.lexists(target):
        return False
    try:
        path.rename(target)  # it would replace an empty folder only
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def part_of(path: Path) -> Path:
    """Return the name, beside a target, of what is on its way there."""
    beside = Path(outside(str(path)))
    return beside.with_name(f".{beside.name}.part")


def remove_local(path: Path) -> None:
    """Remove a file or a folder, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ---- hierarchies in the making


def put_files(fresh: Path, root: str) -> None:
    """Let files take the places of those that differ, below a path or an address; the root's metadata go last."""
    place, base = place_of(root)
    files = {file.relative_to(fresh).as_posix(): file for file in sorted(fresh.rglob("*")) if file.is_file()}
    for name in sorted(files, key=lambda name: name == MARKER):
        path, data = within(base, name), files[name].read_bytes()
        there = place.entry(path)
        if there is None or there.is_folder or there.size != len(data) or place.read(path) != data:
            place.write(path, data)


# ---- for formats


def finish_folder(root: str, finished: str) -> None:
    """Move a filled hierarchy to the place of finished results, where it is not there yet; in a store it stays."""
    if not is_remote(root) and Path(root).exists():
        Path(root).rename(finished)


@contextmanager
def scratch_folder(finished: str) -> Iterator[Path]:
    """Yield an empty folder beside what is made of a hierarchy, and remove it at the end."""
    path = Path(finished)
    folder = path.with_name(f"{path.name}.export")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def finished_file(finished: str) -> Iterator[Path]:
    """Yield a temporary path to write to, which gets its name if the block succeeds, and is removed if it fails."""
    path = Path(finished)
    part = part_of(path).with_suffix(f".part{path.suffix}")  # some writers choose the format by the ending
    part.unlink(missing_ok=True)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
