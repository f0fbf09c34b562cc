"""Every ledger, wherever it is kept: each row is one process's at a time, through the death of any."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.record.holding import BusyError
from pipelines.schedule.ledger.ledger import MOST_DEATHS, Ledger
from pipelines.schedule.ledger.open_ledger import open_ledger
from pipelines.schedule.ledger.rows import State
from tests.pipelines.runs import contents_of

CLAIMS = """\
import sys, time
from pipelines.schedule.ledger.open_ledger import open_ledger
with open_ledger(sys.argv[1]) as ledger:
    row = ledger.claim([int(n) for n in sys.argv[2:]])
    print(row and row.number, flush=True)
    time.sleep(600)
"""
"""A process that takes a row, and does nothing with it."""


def noted(ledger: Ledger, count: int = 3, stamp: str = "s", recipe: str = "r") -> list[int]:
    return ledger.note(recipe, [(f"/in/{i}.tif", stamp, [f"/out/{i}.zarr"]) for i in range(count)])


@pytest.fixture(params=["disk", "store", pytest.param("azure", marks=pytest.mark.thorough)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Path or address of an empty folder."""
    if request.param == "disk":
        return str(tmp_path)
    store = request.getfixturevalue("container" if request.param == "azure" else "objects")
    return f"{store if request.param == 'azure' else store.bucket}/{tmp_path.name}"


@pytest.fixture
def address(folder: str) -> str:
    return f"{folder}/scans.ledger"


def start(address: str, numbers: list[int]) -> tuple[subprocess.Popen[str], int]:
    """Start a process that takes a row; return it and the row's number."""
    words = [sys.executable, "-c", CLAIMS, address, *map(str, numbers)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_nothing_is_made_before_a_source_is_noted(folder: str, address: str) -> None:
    with open_ledger(address) as ledger:
        assert ledger.rows() == []
        assert ledger.others_targets([]) == {}
    assert not contents_of(folder)


def test_the_same_sources_are_noted_once(folder: str, address: str) -> None:
    with open_ledger(address) as ledger:
        first = noted(ledger)
        assert noted(ledger) == first
        assert len(ledger.rows()) == 3
    assert list(contents_of(folder)) == ["scans.ledger"]


def test_a_row_is_one_process_s_until_that_dies(address: str) -> None:
    with open_ledger(address) as ledger:
        numbers = noted(ledger, 2)
        other, taken = start(address, numbers)
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


@pytest.mark.thorough
def test_a_source_that_kills_is_quarantined_unless_it_goes_on(address: str) -> None:
    with open_ledger(address) as ledger:
        (number,) = noted(ledger, 1)
        for _ in range(MOST_DEATHS):
            kill(start(address, [number])[0])
        assert ledger.claim([number]) is None
        (row,) = ledger.rows()
        assert row.state is State.quarantined
        assert "processes died" in row.message
        assert ledger.release() == 1
        kill(start(address, [number])[0])
        row = ledger.claim([number])
        assert row is not None
        assert row.deaths == 1
        ledger.begin(row, tiles=5)
        assert ledger.rows()[0].deaths == 0


def test_a_failed_source_is_not_due_before_its_time(address: str) -> None:
    with open_ledger(address) as ledger:
        (number,) = noted(ledger, 1)
        row = ledger.claim([number])
        assert row is not None
        ledger.end(row, State.failed, "no luck", due=time.time() + 60)
        assert ledger.claim([number]) is None
        assert ledger.release() == 1
        row = ledger.claim([number])
        assert row is not None
        assert row.tries == 1


def test_a_changed_source_takes_the_place_of_what_it_was(address: str) -> None:
    with open_ledger(address) as ledger:
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


def test_targets_know_their_sources(address: str) -> None:
    with open_ledger(address) as ledger:
        noted(ledger, 2)
        assert ledger.others_targets(["/in/0.tif"]) == {"/out/1.zarr": "/in/1.tif"}


def test_what_one_process_notes_the_others_see(address: str) -> None:
    with open_ledger(address) as first, open_ledger(address) as second:
        numbers = noted(first)
        assert second.rows() == first.rows()
        assert noted(second, 4)[:3] == numbers
        row = second.claim(numbers)
        assert row is not None
        assert [one.state for one in first.rows(numbers)] == [State.running, State.waiting, State.waiting]
        assert second.end(row, State.quarantined, "no image")
        assert first.rows([row.number])[0].message == "no image"
        assert first.release() == 1


def test_a_row_that_another_process_has_taken_is_not_changed(address: str) -> None:
    with open_ledger(address) as ledger:
        numbers = noted(ledger, 1)
        row = ledger.claim(numbers)
        assert row is not None
        assert ledger.end(row, State.waiting)
        again = ledger.claim(numbers)
        assert again is not None
        lost = dataclasses.replace(row, holder="of another")
        assert not ledger.end(lost, State.done)
        with pytest.raises(BusyError, match="has taken it over"):
            ledger.begin(lost, 0)
        assert ledger.rows() == [again]


def test_many_processes_at_the_same_time_take_each_row_once(address: str) -> None:
    count = 24
    with open_ledger(address) as ledger:
        numbers = noted(ledger, count)

    def work(_: int) -> list[int]:
        taken = []
        with open_ledger(address) as mine:
            while (row := mine.claim(numbers)) is not None:
                mine.begin(row, 0)
                assert mine.end(row, State.done)
                taken.append(row.number)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [number for one in pool.map(work, range(4)) for number in one]
    assert sorted(taken) == numbers
    with open_ledger(address) as ledger:
        assert {(row.state, row.tries, row.begun) for row in ledger.rows()} == {(State.done, 1, True)}
