"""A target is complete or absent, and nothing that is not the run's is replaced or removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.events import Exporting, TileDone
from pipelines.record.holding import BusyError
from pipelines.record.journal import Claimed, FileJournal, Published
from pipelines.record.lease import lease
from pipelines.record.workdir import DamagedError
from pipelines.run.run import RefusedError, run
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec
from tests.pipelines.runs import contents_of, ragged_image, read_result, save_source, small_spec

ENDINGS = ("out.zarr", "out.ome.zarr", "out.tif")


class StopError(Exception):
    """Stands for a kill between two lines of the journal."""


@pytest.fixture
def image() -> np.ndarray:
    return ragged_image((130, 100))


def spec_of(folder: Path, image: np.ndarray, name: str = "out.zarr", **sections: Any) -> Spec:
    return small_spec(save_source(folder, image), folder / name, **sections)


def expected_bytes(folder: Path, image: np.ndarray, name: str) -> dict[str, bytes]:
    other = folder / "undisturbed"
    other.mkdir()
    run(spec_of(other, image, name))
    return contents_of(other / name)


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("last", [Claimed, Published])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_kill_at_any_line_of_a_publication_is_gone_on_from(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str, last: type, before: bool
) -> None:
    append = FileJournal.append

    def append_and_die(self: FileJournal, event: Any) -> None:
        if not before or not isinstance(event, last):
            append(self, event)
        if isinstance(event, last):
            raise StopError

    expected = expected_bytes(tmp_path, image, name)
    spec = spec_of(tmp_path, image, name)
    with monkeypatch.context() as patch:
        patch.setattr(FileJournal, "append", append_and_die)
        with pytest.raises(StopError):
            run(spec)
    assert run(spec).exit_code == 0
    assert contents_of(tmp_path / name) == expected
    assert verify(spec.sink.uri)["ok"]
    assert not list(Path(spec.workdir).glob("run-*"))


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("folder", [True, False])
def test_what_appears_at_the_target_is_left_alone(
    tmp_path: Path, image: np.ndarray, name: str, folder: bool
) -> None:
    target = tmp_path / name

    def put(event: object) -> None:
        if isinstance(event, Exporting):
            if folder:
                target.mkdir()
                (target / "zarr.json").write_text("mine")
            else:
                target.write_text("mine")

    expected = expected_bytes(tmp_path, image, name)
    spec = spec_of(tmp_path, image, name)
    report = run(spec, listeners=[put])
    assert report.exit_code == 3
    assert "has appeared" in report.data["problem"]
    assert set(contents_of(target).values()) == {b"mine"}
    with pytest.raises(RefusedError, match="exists already"):
        run(spec)
    target.rename(tmp_path / "elsewhere")
    again = run(spec)
    assert again.data["tiles_resumed"] == again.data["tiles"]
    assert contents_of(target) == expected


def test_only_the_target_that_was_there_at_the_start_is_replaced(tmp_path: Path, image: np.ndarray) -> None:
    target = tmp_path / "out.zarr"
    target.write_text("old")

    def exchange(event: object) -> None:
        if isinstance(event, Exporting):
            target.rename(tmp_path / "moved")
            target.write_text("new")

    spec = spec_of(tmp_path, image)
    assert run(spec, overwrite=True, listeners=[exchange]).exit_code == 3
    assert target.read_text() == "new"
    assert run(spec, overwrite=True).exit_code == 0
    assert target.is_dir()


def test_a_source_that_changes_in_between_gives_no_result(tmp_path: Path, image: np.ndarray) -> None:
    spec = spec_of(tmp_path, image)

    def change(event: object) -> None:
        if isinstance(event, TileDone) and event.tile == 2:
            np.save(tmp_path / "source.npy", image + 1)
            os.utime(tmp_path / "source.npy", ns=(1, 1))

    report = run(spec, listeners=[change])
    assert report.exit_code == 3
    assert "has changed while it was read" in report.data["problem"]
    assert not (tmp_path / "out.zarr").exists()
    with pytest.raises(RefusedError, match="the source has changed"):
        run(spec)
    assert run(spec, overwrite=True).exit_code == 0
    assert verify(spec.sink.uri)["ok"]


def test_a_second_run_for_the_target_from_another_folder_is_refused(
    tmp_path: Path, image: np.ndarray
) -> None:
    spec = spec_of(tmp_path, image)
    with lease(spec.sink.uri, tmp_path / "elsewhere"), pytest.raises(BusyError, match="elsewhere"):
        run(spec)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["source.npy"]


@pytest.mark.parametrize("name", ["run.json", "report.json"])
def test_damaged_files_of_a_run_are_said_and_overwrite_gets_out_of_it(
    tmp_path: Path, image: np.ndarray, name: str
) -> None:
    spec = spec_of(tmp_path, image)
    run(spec)
    file = Path(spec.workdir) / name
    file.write_bytes(file.read_bytes().replace(b"1", b"2"))
    with pytest.raises(DamagedError, match="--overwrite"):
        run(spec)
    before = read_result(spec.sink.uri)
    assert run(spec, overwrite=True).exit_code == 0
    assert read_result(spec.sink.uri).tobytes() == before.tobytes()
