"""Targets appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import fsspec
import pytest

from pipelines.store.publish import publish_folder, published_file, scratch_folder
from pipelines.store.upload import TargetTakenError


def hierarchy(root: Path) -> Path:
    (root / "0" / "c").mkdir(parents=True)
    (root / "zarr.json").write_text("{}")
    (root / "0" / "c" / "1").write_bytes(b"pixels")
    return root


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_is_moved(tmp_path):
    publish_folder(str(hierarchy(tmp_path / "run")), str(tmp_path / "deep" / "out.zarr"))
    assert (tmp_path / "deep" / "out.zarr" / "0" / "c" / "1").read_bytes() == b"pixels"
    assert names(tmp_path) == ["deep"]


def test_a_move_that_was_killed_at_its_end_can_be_repeated(tmp_path):
    root, target = tmp_path / "run", tmp_path / "out.zarr"
    hierarchy(root)
    publish_folder(str(root), str(target))
    publish_folder(str(root), str(target))
    assert names(target) == ["0", "zarr.json"]


def test_a_folder_that_appeared_meanwhile_is_left_as_it_is(tmp_path):
    target = tmp_path / "out.zarr"
    target.mkdir()
    (target / "foreign").write_text("not ours")
    with pytest.raises(TargetTakenError, match="left as it is"):
        publish_folder(str(hierarchy(tmp_path / "run")), str(target))
    assert (target / "foreign").read_text() == "not ours"
    assert names(tmp_path / "run") == ["0", "zarr.json"]


def test_a_file_that_appeared_meanwhile_is_left_as_it_is(tmp_path):
    target = tmp_path / "out.tif"

    def write() -> None:
        with published_file(str(target), tmp_path) as part:
            part.write_bytes(b"ours")
            target.write_bytes(b"not ours")

    with pytest.raises(TargetTakenError, match="left as it is"):
        write()
    assert target.read_bytes() == b"not ours"
    assert names(tmp_path) == ["out.tif"]


def test_another_disk_is_copied_to(tmp_path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or os.stat(elsewhere).st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    with tempfile.TemporaryDirectory(dir=elsewhere) as folder:
        publish_folder(str(hierarchy(tmp_path / "run")), str(Path(folder) / "out.zarr"))
        assert (Path(folder) / "out.zarr" / "0" / "c" / "1").read_bytes() == b"pixels"
        assert names(Path(folder)) == ["out.zarr"]


def test_a_remote_store_gets_the_metadata_last(tmp_path, monkeypatch):
    store = fsspec.filesystem("memory")
    order: list[str] = []
    put = type(store).put_file
    monkeypatch.setattr(
        type(store), "put_file", lambda self, *args, **kw: (order.append(args[1]), put(self, *args, **kw))[1]
    )
    publish_folder(str(hierarchy(tmp_path / "run")), "memory://bucket/out.zarr")
    assert store.cat_file("/bucket/out.zarr/0/c/1") == b"pixels"
    assert order[-1].endswith("out.zarr/zarr.json")


def test_a_file_appears_when_all_is_written(tmp_path):
    target = tmp_path / "out.tif"
    with published_file(str(target), tmp_path) as part:
        part.write_bytes(b"all")
        assert not target.exists()
    assert target.read_bytes() == b"all"
    assert names(tmp_path) == ["out.tif"]


def test_a_file_that_fails_leaves_nothing_and_what_was_there_stays(tmp_path):
    target = tmp_path / "out.tif"
    target.write_bytes(b"before")

    def fail() -> None:
        with published_file(str(target), tmp_path) as part:
            part.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["out.tif"]


def test_a_file_goes_to_a_remote_store(tmp_path):
    with published_file("memory://bucket/out.png", tmp_path) as part:
        part.write_bytes(b"all")
    assert fsspec.filesystem("memory").cat_file("/bucket/out.png") == b"all"
    assert names(tmp_path) == []


def test_scratch_is_empty_and_goes_away(tmp_path):
    (tmp_path / "run.export").mkdir()
    (tmp_path / "run.export" / "left by a killed run").touch()
    with scratch_folder(str(tmp_path / "run")) as folder:
        assert names(folder) == []
        (folder / "big").touch()
    assert names(tmp_path) == []
