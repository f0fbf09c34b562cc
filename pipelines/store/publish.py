"""Make a target appear complete or not at all: write under a temporary name beside it, then give it its name.

The run decides before it starts whether a target may be replaced, and moves the old one away. These functions replace
nothing: what has appeared at the target meanwhile is another's, and is left as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.store.addresses import is_remote, require_local
from pipelines.store.place import link_or_rename, sync_folder
from pipelines.store.upload import TargetTakenError, upload_file, upload_folder


def publish_folder(root: str, target: str) -> None:
    """Move a finished hierarchy to its target; copy it to another disk, upload it to a remote store.

    After an upload the local hierarchy is still there, and may be removed: the store was seen to have all of it.

    Raises
    ------
    TargetTakenError
        If something else is at the target.
    """
    if root == target:
        return
    if is_remote(target):
        upload_folder(require_local(root), target)
        return
    source, path = require_local(root), require_local(target)
    if not source.exists() and path.exists():
        return  # moved by a run that was killed right afterwards
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_free(path)
    if source.stat().st_dev != path.parent.stat().st_dev:
        source = _copy_beside(source, path)
        _require_free(path)
    source.rename(path)
    sync_folder(path.parent)


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        raise TargetTakenError(
            f"Something has appeared at {path}, which is left as it is. The result is kept in the run's folder. "
            "Move away what is there, or replace it with --overwrite."
        )


def _copy_beside(source: Path, path: Path) -> Path:
    copy = _beside(path)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    return copy


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextmanager
def scratch_folder(root: str) -> Iterator[Path]:
    """Yield an empty folder beside a working hierarchy, and remove it at the end."""
    path = require_local(root)
    folder = path.with_name(f"{path.name}.export")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def published_file(target: str, scratch: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes the target if the block succeeds, and is removed if it fails.

    Parameters
    ----------
    target : str
        Path or address of the file.
    scratch : Path
        Folder for the local copy of a remote target.

    Raises
    ------
    TargetTakenError
        If something is at the target when the block ends.
    """
    local = scratch / Path(target).name if is_remote(target) else require_local(target)
    local.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(local).with_suffix(f".part{local.suffix}")  # some writers choose the format by the ending
    part.unlink(missing_ok=True)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if is_remote(target):
            upload_file(part, target)
        elif not link_or_rename(part, local):
            _require_free(local)
    finally:
        part.unlink(missing_ok=True)
