"""A ledger in a file: what it leaves beside it, and what is no ledger."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from pipelines.schedule.ledger.on_disk import LedgerOnDisk
from pipelines.schedule.ledger.rows import LedgerError
from tests.pipelines.schedule.ledger.test_ledger import noted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scans.ledger"


def test_locks_of_the_dead_are_swept(path: Path) -> None:
    dead, new = (path.with_name(f".{path.name}.{token}.lock") for token in ("dead", "new"))
    for lock in (dead, new):
        lock.touch()
    os.utime(dead, (1e9, 1e9))
    with LedgerOnDisk(path) as ledger:
        ledger.claim(noted(ledger, 1))
        assert {child.name for child in path.parent.iterdir()} > {path.name, new.name}
        assert not dead.exists()
    assert {child.name for child in path.parent.iterdir()} == {path.name, new.name}


@pytest.mark.parametrize("kind", ["text", "another program's", "newer"])
def test_other_files_are_refused_and_left(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("no database at all, " * 100)
    else:
        with LedgerOnDisk(path) as ledger:
            noted(ledger, 1)
        with sqlite3.connect(path) as base:
            base.execute(
                "PRAGMA application_id = 7" if kind == "another program's" else "PRAGMA user_version = 99"
            )
        base.close()
    before = path.read_bytes()
    with LedgerOnDisk(path) as ledger, pytest.raises(LedgerError, match="ledger"):
        noted(ledger)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with (
        LedgerOnDisk(tmp_path / "none" / "scans.ledger") as ledger,
        pytest.raises(LedgerError, match="--ledger"),
    ):
        noted(ledger)
