"""The folder of a run: only its own files are read, replaced or removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.record import workdir
from pipelines.record.journal import Claimed, FileJournal, Finished, Forgotten, Published, event_of, line_of
from pipelines.record.workdir import DamagedError, OccupiedError, Workdir
from pipelines.store.place import whole_name

VALUES = {"science": "abc", "tile": [64, 64], "share": 0.1, "nan": float("nan")}


def test_a_file_is_read_as_it_was_written_or_not_at_all(tmp_path: Path) -> None:
    folder = Workdir(str(tmp_path))
    assert folder.read("run.json") is None
    folder.write("run.json", VALUES)
    assert json.dumps(folder.read("run.json")) == json.dumps(VALUES)
    whole = (tmp_path / "run.json").read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        (tmp_path / "run.json").write_bytes(changed)
        try:
            found = folder.read("run.json")
        except DamagedError:
            continue
        # White space of the file says nothing.
        assert json.dumps(found) == json.dumps(VALUES)
    for content in (b"", b"[]", whole[:-5], b"\xff\x00", b'{"science": 1}'):
        (tmp_path / "run.json").write_bytes(content)
        with pytest.raises(DamagedError, match="--overwrite"):
            folder.read("run.json")


def test_a_folder_of_something_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OccupiedError, match=r"it holds letter\.txt, lock"):
        Workdir(str(tmp_path)).require_own()


@pytest.mark.parametrize(
    "left",
    [(".run.json.12.345.part",), ("report.json", "journal.jsonl", "epoch"), ("holder", ".epoch.1.2.part")],
)
def test_what_a_killed_run_has_left_is_known_as_its_own(tmp_path: Path, left: tuple[str, ...]) -> None:
    for name in ("lock", *left):
        (tmp_path / name).touch()
    Workdir(str(tmp_path)).require_own()
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OccupiedError):
        Workdir(str(tmp_path)).require_own()


def test_clearing_leaves_what_is_not_the_runs(tmp_path: Path) -> None:
    folder = Workdir(str(tmp_path))
    folder.write("run.json", VALUES)
    for name in (".run.json.12.345.part", ".epoch.1.2.part", "report.json"):
        (tmp_path / name).touch()
    (tmp_path / "run-0123456789ab" / "state").mkdir(parents=True)
    (tmp_path / "run-mine").mkdir()
    (tmp_path / "letter.txt").write_text("dear")
    folder.clear()
    assert sorted(child.name for child in tmp_path.iterdir()) == ["letter.txt", "run-mine"]


def test_a_run_killed_while_it_removes_an_earlier_one_does_not_go_on_in_its_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path) -> None:
        raise KeyboardInterrupt

    folder = Workdir(str(tmp_path))
    folder.write("run.json", VALUES)
    (tmp_path / "letter.txt").write_text("dear")
    (tmp_path / "run-0123456789ab").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(workdir.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            folder.clear()
    assert not (tmp_path / "run-0123456789ab").exists()
    folder.require_own()
    folder.clear()
    assert [child.name for child in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_of_a_run_is_whole_and_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[str] = []

    def fsync(handle: int) -> None:
        forced.append(Path(f"/proc/self/fd/{handle}").resolve().name)

    monkeypatch.setattr(os, "fsync", fsync)
    Workdir(str(tmp_path)).write("run.json", VALUES)
    assert [whole_name(name) for name in forced] == ["run.json", tmp_path.name]
    assert forced[0] != "run.json"


def test_each_process_has_an_epoch_of_its_own(tmp_path: Path) -> None:
    first = Workdir(str(tmp_path)).new_epoch()
    first.require()
    second = Workdir(str(tmp_path)).new_epoch()
    second.require()
    with pytest.raises(RuntimeError, match="is over"):
        first.require()


# ---- the journal

EVENTS = [
    Finished(0, 1, 2, {}, 3),
    Finished(4, 250_000, 2**32 - 1),
    Forgotten(1),
    Forgotten(1, 2),
    Claimed(0, [1, 2, 3]),
    Published(1),
]


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_event_is_its_line(event: object) -> None:
    assert event_of(line_of(event)) == event


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    for event in EVENTS:
        journal.append(event)
    journal.close()
    whole = journal.path.read_bytes()
    random = np.random.default_rng(0)
    for position in random.integers(0, len(whole), 300):
        changed = bytearray(whole)
        changed[position] ^= 1 << int(random.integers(8))
        journal.path.write_bytes(changed)
        found = list(journal.events(repair=False))
        # A line break that has become something else joins two lines, and one that appears cuts a line in two.
        assert len(EVENTS) - 2 <= len(found) <= len(EVENTS)
        assert all(event in EVENTS for event in found)


def test_a_cut_line_is_removed_before_another_is_appended(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    for event in EVENTS:
        journal.append(event)
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-3])
    assert list(journal.events()) == EVENTS[:-1]
    journal.append(EVENTS[-1])
    journal.close()
    assert list(journal.events()) == EVENTS
