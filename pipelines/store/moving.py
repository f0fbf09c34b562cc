"""Move finished results to local targets: nothing that is there is replaced, and nothing is there in part."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from pipelines.store.addresses import is_taken, local_path


def stamp(path: Path) -> list[int] | None:
    """Return a mark by which a file or folder is known again, also after a move on the same disk; None without one."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if path.is_dir() and not path.is_symlink():
        # The time of a folder is the time of its entries; a Zarr hierarchy's root tells when it was written.
        inside = stamp(path / "zarr.json") or []
        return [found.st_dev, found.st_ino, *inside]
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def stamp_of(uri: str) -> list[int] | None:
    """Return the mark of what is at an address; of what is in a store, only whether something is there."""
    path = local_path(uri)
    if path is not None:
        return stamp(path)
    return [1] if is_taken(uri) else None


def bring_beside(finished: Path, target: Path) -> Path:
    """Return the finished file or folder on its target's disk: itself, or a copy under a temporary name."""
    if finished.lstat().st_dev == target.parent.stat().st_dev:
        return finished
    copy = target.with_name(f".{target.name}.part")
    remove(copy)
    if finished.is_dir():
        shutil.copytree(finished, copy)
    else:
        shutil.copyfile(finished, copy)
    return copy


def move_new(path: Path, target: Path) -> None:
    """Rename a file or folder to a target that must not exist.

    Raises
    ------
    FileExistsError
        Where something has appeared there; it is left alone.
    """
    if path.is_dir():
        _rename_folder(path, target)
        return
    try:
        os.link(path, target)  # unlike a rename, it never replaces a file
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        path.rename(target)
        return
    path.unlink()


def _rename_folder(path: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        path.rename(target)  # it would replace an empty folder only
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
