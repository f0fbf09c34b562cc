"""Moves to a target replace nothing, and are known again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.store.moving import bring_beside, move_new, remove, stamp


def made(path: Path, folder: bool) -> Path:
    if folder:
        path.mkdir()
        (path / "zarr.json").write_text("{}")
    else:
        path.write_text("pixels")
    return path


@pytest.mark.parametrize("folder", [False, True])
def test_a_result_keeps_its_stamp_when_it_is_moved(tmp_path: Path, folder: bool) -> None:
    path, target = made(tmp_path / "a", folder), tmp_path / "b"
    mark = stamp(path)
    move_new(bring_beside(path, target), target)
    assert stamp(target) == mark != stamp(path)
    assert stamp(path) is None


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_replaced(tmp_path: Path, folder: bool, there: bool) -> None:
    path, target = made(tmp_path / "a", folder), made(tmp_path / "b", there)
    mark = stamp(target)
    with pytest.raises(FileExistsError):
        move_new(path, target)
    assert stamp(target) == mark
    assert path.exists()


def test_what_was_made_anew_has_another_stamp(tmp_path: Path) -> None:
    first = stamp(made(tmp_path / "a", True))
    (tmp_path / "a").rename(tmp_path / "kept")
    assert stamp(made(tmp_path / "a", True)) != first
    remove(tmp_path / "a")
    remove(tmp_path / "nothing")
    assert not (tmp_path / "a").exists()
