"""Make a target appear complete or not at all: write under a temporary name beside it, then rename once.

The run decides before it starts whether a target may be replaced. These functions always replace it, so that an
interrupted publication can be repeated.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from pipelines.store.addresses import is_remote, require_local


def publish_folder(root: str, target: str) -> None:
    """Move a finished hierarchy to its target; copy it to another disk, upload it to a remote store."""
    if root == target:
        return
    if is_remote(target):
        _upload_folder(require_local(root), target)
        return
    source, path = require_local(root), require_local(target)
    if not source.exists() and path.exists():
        return  # moved by a run that was killed right afterwards
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_dev != path.parent.stat().st_dev:
        source = _copy_beside(source, path)
    _swap_folder(source, path)


def upload(finished: Path, target: str, replace: bool) -> None:
    """Upload a finished file or folder to a store."""
    if finished.is_dir():
        _upload_folder(finished, target)
    else:
        store, path = fsspec.core.url_to_fs(target)
        store.put_file(str(finished), path)


def _copy_beside(source: Path, path: Path) -> Path:
    copy = _beside(path)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    return copy


def _swap_folder(source: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        _remove(old)
        path.rename(old)
    source.rename(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _upload_folder(root: Path, target: str) -> None:
    store, base = fsspec.core.url_to_fs(target)
    files = sorted(p for p in root.rglob("*") if p.is_file())
    # The root's metadata goes last: without it, a reader sees no image rather than half of one.
    files.sort(key=lambda p: p == root / "zarr.json")
    for file in files:
        store.put_file(str(file), f"{base}/{file.relative_to(root).as_posix()}")


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
            store, path = fsspec.core.url_to_fs(target)
            store.put_file(str(part), path)
        else:
            part.replace(local)
    finally:
        part.unlink(missing_ok=True)
