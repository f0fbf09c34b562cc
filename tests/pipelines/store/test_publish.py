"""Targets appear complete or not at all, replace nothing, and are known again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import fsspec
import pytest

from pipelines.store.publish import (
    bring_beside,
    finish_folder,
    finished_file,
    hand_over,
    remove_local,
    scratch_folder,
    stamp,
    stamp_of,
)
from pipelines.store.upload import TargetTakenError


def hierarchy(root: Path) -> Path:
    (root / "0" / "c").mkdir(parents=True)
    (root / "zarr.json").write_text("{}")
    (root / "0" / "c" / "1").write_bytes(b"pixels")
    return root


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def made(path: Path, folder: bool) -> Path:
    if folder:
        return hierarchy(path)
    path.write_text("pixels")
    return path


@pytest.mark.parametrize("folder", [False, True])
def test_a_result_keeps_its_stamp_when_it_is_moved(tmp_path: Path, folder: bool) -> None:
    path, target = made(tmp_path / "a", folder), tmp_path / "b"
    mark = stamp(path)
    hand_over(bring_beside(str(path), str(target)), str(target))
    assert stamp_of(str(target)) == mark != stamp(path)
    assert names(tmp_path) == ["b"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_replaced(tmp_path: Path, folder: bool, there: bool) -> None:
    path, target = made(tmp_path / "a", folder), made(tmp_path / "b", there)
    mark = stamp(target)
    with pytest.raises(TargetTakenError, match="left as it is"):
        hand_over(path, str(target))
    assert stamp(target) == mark
    assert path.exists()


def test_what_was_made_anew_has_another_stamp(tmp_path: Path) -> None:
    first = stamp(made(tmp_path / "a", True))
    (tmp_path / "a").rename(tmp_path / "kept")
    assert stamp(made(tmp_path / "a", True)) != first
    remove_local(tmp_path / "a")
    remove_local(tmp_path / "nothing")
    assert names(tmp_path) == ["kept"]


def test_a_folder_is_finished_once(tmp_path: Path) -> None:
    hierarchy(tmp_path / "result")
    for _ in range(2):
        finish_folder(str(tmp_path / "result"), str(tmp_path / "finished"))
        assert names(tmp_path) == ["finished"]


def second_disk(folder: Path) -> Path:
    """Return a folder on another disk, or skip the test where there is none."""
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or os.stat(elsewhere).st_dev == folder.stat().st_dev:
        pytest.skip("there is no second disk here")
    return elsewhere


@pytest.mark.parametrize("folder", [False, True])
def test_another_disk_is_copied_to(tmp_path: Path, folder: bool) -> None:
    with tempfile.TemporaryDirectory(dir=second_disk(tmp_path)) as there:
        target = Path(there) / "out"
        ready = bring_beside(str(made(tmp_path / "a", folder)), str(target))
        mark = stamp(Path(ready))
        hand_over(ready, str(target))
        assert stamp(target) == mark
        assert (target / "0" / "c" / "1" if folder else target).read_bytes() == b"pixels"
        assert names(Path(there)) == ["out"]


@pytest.mark.parametrize("linked", ["cells.ome.zarr", "cells.ome.zarr/labels"])
def test_labels_reach_an_image_on_another_disk(tmp_path: Path, linked: str) -> None:
    with tempfile.TemporaryDirectory(dir=second_disk(tmp_path)) as there:
        (tmp_path / linked).parent.mkdir(exist_ok=True)
        (tmp_path / linked).symlink_to(Path(there) / "kept", target_is_directory=True)
        labels = tmp_path / "cells.ome.zarr" / "labels"
        labels.resolve().mkdir(parents=True)
        hand_over(bring_beside(str(hierarchy(tmp_path / "a")), str(labels / "cells")), str(labels / "cells"))
        assert names(labels) == ["cells"]
        assert names(Path(there)) == ["kept"]


def test_a_remote_store_gets_the_metadata_last(tmp_path, monkeypatch):
    store = fsspec.filesystem("memory")
    order: list[str] = []
    put = type(store).put_file
    monkeypatch.setattr(
        type(store), "put_file", lambda self, *args, **kw: (order.append(args[1]), put(self, *args, **kw))[1]
    )
    hand_over(hierarchy(tmp_path / "run"), "memory://bucket/out.zarr")
    marked = stamp_of("memory://bucket/out.zarr")
    assert store.cat_file("/bucket/out.zarr/0/c/1") == b"pixels"
    assert order[-1].endswith("out.zarr/zarr.json")
    store.pipe_file("/bucket/out.zarr/zarr.json", b"{ }")
    assert stamp_of("memory://bucket/out.zarr") != marked
    assert stamp_of("memory://bucket/nothing.zarr") is None


def test_a_file_appears_when_all_is_written(tmp_path):
    target = tmp_path / "out.tif"
    with finished_file(str(target)) as part:
        part.write_bytes(b"all")
        assert not target.exists()
    assert target.read_bytes() == b"all"
    assert names(tmp_path) == ["out.tif"]


def test_a_file_that_fails_leaves_nothing_and_what_was_there_stays(tmp_path):
    target = tmp_path / "out.tif"
    target.write_bytes(b"before")

    def fail() -> None:
        with finished_file(str(target)) as part:
            part.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["out.tif"]


def test_a_file_goes_to_a_remote_store(tmp_path):
    (tmp_path / "out.png").write_bytes(b"all")
    hand_over(tmp_path / "out.png", "memory://bucket/out.png")
    assert fsspec.filesystem("memory").cat_file("/bucket/out.png") == b"all"


def test_scratch_is_empty_and_goes_away(tmp_path):
    (tmp_path / "run.export").mkdir()
    (tmp_path / "run.export" / "left by a killed run").touch()
    with scratch_folder(str(tmp_path / "run")) as folder:
        assert names(folder) == []
        (folder / "big").touch()
    assert names(tmp_path) == []
