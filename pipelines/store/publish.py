"""Make a target appear complete or not at all: a temporary name beside it, then one rename.

Whether a target may be replaced is decided before a run starts; here it is, so that an interrupted end can be
repeated.
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
    source, place = require_local(root), require_local(target)
    if not source.exists() and place.exists():
        return  # moved by a run that was killed right afterwards
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_dev != place.parent.stat().st_dev:
        source = _copy_beside(source, place)
    _swap_folder(source, place)


def _copy_beside(source: Path, place: Path) -> Path:
    copy = _beside(place)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    return copy


def _swap_folder(source: Path, place: Path) -> None:
    old = place.with_name(f".{place.name}.old")
    if place.exists():
        _remove(old)
        place.rename(old)
    source.rename(place)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.part")


def _upload_folder(root: Path, target: str) -> None:
    store, base = fsspec.core.url_to_fs(target)
    files = sorted(p for p in root.rglob("*") if p.is_file())
    # The root's metadata goes last: without it, a reader sees no image rather than half of one.
    files.sort(key=lambda p: p == root / "zarr.json")
    for file in files:
        store.put_file(str(file), f"{base}/{file.relative_to(root).as_posix()}")


@contextmanager
def scratch_folder(root: str) -> Iterator[Path]:
    """Give an empty folder beside a working hierarchy, which goes away at the end."""
    place = require_local(root)
    folder = place.with_name(f"{place.name}.export")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def published_file(target: str, scratch: Path) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes the target when the block ends well, or goes away.

    Parameters
    ----------
    target : str
        Path or address of the file.
    scratch : Path
        Folder for what a remote target needs on the local disk.
    """
    place = scratch / Path(target).name if is_remote(target) else require_local(target)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(place).with_suffix(f".part{place.suffix}")  # some writers choose the format by the ending
    part.unlink(missing_ok=True)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if is_remote(target):
            store, path = fsspec.core.url_to_fs(target)
            store.put_file(str(part), path)
        else:
            part.replace(place)
    finally:
        part.unlink(missing_ok=True)
