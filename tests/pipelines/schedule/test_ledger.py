"""The ledger: each row is one process's at a time, through the death of any."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.schedule.ledger import MOST_DEATHS, Ledger, LedgerError, State

CLAIMS = """\
import sys, time
from pathlib import Path
from pipelines.schedule.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    row = ledger.claim([int(n) for n in sys.argv[2:]])
    print(row and row.number, flush=True)
    time.sleep(600)
"""
"""A process that takes a row, and does nothing with it."""


def noted(ledger: Ledger, count: int = 3, stamp: str = "s", recipe: str = "r") -> list[int]:
    return ledger.note(recipe, [(f"/in/{i}.tif", stamp, [f"/out/{i}.zarr"]) for i in range(count)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scans.ledger"


def start(path: Path, numbers: list[int]) -> tuple[subprocess.Popen[str], int]:
    """Start a process that takes a row; return it and the row's number."""
    words = [sys.executable, "-c", CLAIMS, str(path), *map(str, numbers)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_nothing_is_made_before_a_source_is_noted(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.rows() == []
        assert ledger.others_targets([]) == {}
    assert not path.exists()


def test_the_same_sources_are_noted_once(path: Path) -> None:
    with Ledger(path) as ledger:
        first = noted(ledger)
        assert noted(ledger) == first
        assert len(ledger.rows()) == 3
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_a_row_is_one_process_s_until_that_dies(path: Path) -> None:
    with Ledger(path) as ledger:
        numbers = noted(ledger, 2)
        other, taken = start(path, numbers)
        assert taken == numbers[0]
        mine = ledger.claim(numbers)
        assert mine is not None
        assert (mine.number, mine.tries) == (numbers[1], 1)
        assert ledger.claim(numbers) is None
        kill(other)
        again = ledger.claim(numbers)
        assert again is not None
        assert (again.number, again.tries, again.deaths) == (taken, 2, 1)
        ledger.end(again, State.done, report={"tiles": 7})
        assert ledger.claim(numbers) is None
        assert ledger.rows([taken])[0].report == {"tiles": 7}


def test_locks_of_the_dead_are_swept(path: Path) -> None:
    dead, new = (path.with_name(f".{path.name}.{token}.lock") for token in ("dead", "new"))
    for lock in (dead, new):
        lock.touch()
    os.utime(dead, (1e9, 1e9))
    with Ledger(path) as ledger:
        ledger.claim(noted(ledger, 1))
        assert {child.name for child in path.parent.iterdir()} > {path.name, new.name}
        assert not dead.exists()
    assert {child.name for child in path.parent.iterdir()} == {path.name, new.name}


@pytest.mark.thorough
def test_a_source_that_kills_is_quarantined_unless_it_goes_on(path: Path) -> None:
    with Ledger(path) as ledger:
        (number,) = noted(ledger, 1)
        for _ in range(MOST_DEATHS):
            kill(start(path, [number])[0])
        assert ledger.claim([number]) is None
        (row,) = ledger.rows()
        assert row.state is State.quarantined
        assert "processes died" in row.message
        assert ledger.release() == 1
        kill(start(path, [number])[0])
        row = ledger.claim([number])
        assert row is not None
        assert row.deaths == 1
        ledger.begin(row, tiles=5)
        assert ledger.rows()[0].deaths == 0


def test_a_failed_source_is_not_due_before_its_time(path: Path) -> None:
    with Ledger(path) as ledger:
        (number,) = noted(ledger, 1)
        row = ledger.claim([number])
        assert row is not None
        ledger.end(row, State.failed, "no luck", due=time.time() + 60)
        assert ledger.claim([number]) is None
        assert ledger.release() == 1
        row = ledger.claim([number])
        assert row is not None
        assert row.tries == 1


def test_a_changed_source_takes_the_place_of_what_it_was(path: Path) -> None:
    with Ledger(path) as ledger:
        old, other = noted(ledger, 2)
        row = ledger.claim([old])
        assert row is not None
        ledger.begin(row, 0)
        ledger.end(row, State.done)
        new, same = ledger.note(
            "r", [("/in/0.tif", "t", ["/out/0.zarr"]), ("/in/1.tif", "s", ["/out/1.zarr"])]
        )
        states = {row.number: row.state for row in ledger.rows()}
        assert states == {old: State.replaced, other: State.waiting, new: State.waiting}
        assert same == other
        row = ledger.claim([new])
        assert row is not None
        assert ledger.may_replace(row)
        assert not ledger.may_replace(ledger.rows([other])[0])
        # Back to what it was: the result is another's by now.
        assert noted(ledger, 1) == [old]
        assert ledger.rows([old])[0].state is State.waiting


def test_targets_know_their_sources(path: Path) -> None:
    with Ledger(path) as ledger:
        noted(ledger, 2)
        assert ledger.others_targets(["/in/0.tif"]) == {"/out/1.zarr": "/in/1.tif"}


@pytest.mark.parametrize("kind", ["text", "another program's", "newer"])
def test_other_files_are_refused_and_left(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("no database at all, " * 100)
    else:
        with Ledger(path) as ledger:
            noted(ledger, 1)
        with sqlite3.connect(path) as base:
            base.execute(
                "PRAGMA application_id = 7" if kind == "another program's" else "PRAGMA user_version = 99"
            )
        base.close()
    before = path.read_bytes()
    with Ledger(path) as ledger, pytest.raises(LedgerError, match="ledger"):
        noted(ledger)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "none" / "scans.ledger") as ledger, pytest.raises(LedgerError, match="--ledger"):
        noted(ledger)
