"""A ledger in a store: what it asks of the store, what it makes of faults, and which stores it refuses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from pipelines.cli.command import app
from pipelines.record import holding
from pipelines.schedule.ledger import in_store, log
from pipelines.schedule.ledger.in_store import LedgerInStore
from pipelines.schedule.ledger.ledger import Ledger
from pipelines.schedule.ledger.rows import LedgerError, Row, State
from pipelines.store.places import MAKERS, FsspecPlace, place_of
from tests.faulty_proxy import Fault
from tests.pipelines.record.test_lease import forgetful
from tests.pipelines.runs import contents_of
from tests.pipelines.schedule.ledger.test_ledger import noted


@pytest.fixture
def folder(objects, tmp_path: Path) -> str:
    return f"{objects.bucket}/{tmp_path.name}"


@pytest.fixture
def address(folder: str) -> str:
    return f"{folder}/scans.ledger"


def one_source(ledger: Ledger, numbers: Sequence[int]) -> Row | None:
    """Work on one source, as `diffuse watch` does."""
    row = ledger.claim(numbers)
    if row is not None:
        ledger.begin(row, 0)
        assert ledger.end(row, State.done, report={"seconds": 1.5, "tiles": 9, "complete": True})
    return row


def require_done_once(rows: Sequence[Row], count: int) -> None:
    assert [(row.number, row.state, row.tries) for row in rows] == [
        (number + 1, State.done, 1) for number in range(count)
    ]


# ---- what it asks of the store


def asked(requests: Sequence[tuple[str, str]]) -> Counter[str]:
    """Count requests, without those for leases, of which there are more the longer it takes."""
    return Counter(method for method, path in requests if ".holders" not in path)


@pytest.mark.parametrize(
    ("count", "worked_on"), [(1000, 10), pytest.param(100_000, 100, marks=pytest.mark.slow)]
)
def test_a_look_costs_one_request_and_a_source_six_however_many_there_are(
    objects, address: str, count: int, worked_on: int
) -> None:
    with LedgerInStore(address) as ledger, LedgerInStore(address) as other:
        numbers = noted(ledger, count)
        objects.proxy.clear()
        assert noted(ledger, count) == numbers
        assert asked(objects.proxy.requests) == {"HEAD": 1}
        objects.proxy.clear()
        for _ in range(worked_on):
            one_source(ledger, numbers)
        alone = asked(objects.proxy.requests)
        # Three changes, and now and then a part.
        assert 3 * worked_on <= alone["PUT"] <= 3.1 * worked_on
        assert 3 * worked_on <= alone["HEAD"] <= 3.1 * worked_on
        assert alone.total() <= 6.2 * worked_on
        one_source(other, numbers)
        objects.proxy.clear()
        for number in range(worked_on):
            one_source((ledger, other)[number % 2], numbers)
        # What the other one has changed is read.
        assert asked(objects.proxy.requests).total() <= 7.3 * worked_on
        assert len(ledger.rows()) == count
        head = place_of(address)[0].entry(place_of(address)[1])
        assert head.size < log.HEAD_BYTES


def test_parts_are_joined_and_who_has_slept_meanwhile_goes_on(
    folder: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "HEAD_BYTES", 3000)
    monkeypatch.setattr(log, "MOST_PARTS", 3)
    count = 16
    with LedgerInStore(address) as first, LedgerInStore(address) as second, LedgerInStore(address) as sleeper:
        numbers = noted(first, count)
        mine = sleeper.claim(numbers)
        assert mine is not None
        for number in range(count // 2):
            one_source((first, second)[number % 2], numbers)
        sleeper.begin(mine, 0)
        assert sleeper.end(mine, State.done)
        while one_source(sleeper, numbers):
            assert first.rows() == sleeper.rows()
        with LedgerInStore(address) as late:
            require_done_once(late.rows(), count)
        require_done_once(first.rows(), count)
        head = json.loads(contents_of(folder)["scans.ledger"])
        parts = {name.rpartition("/")[2] for name in contents_of(folder) if ".parts/" in name}
        assert set(head["parts"]) <= parts
        # Those of the last second may be left.
        assert len(parts) <= 30
    assert not [name for name in contents_of(folder) if "holders" in name]


@pytest.mark.parametrize("count", [6, pytest.param(30, marks=pytest.mark.thorough)])
def test_changes_whose_answers_are_lost_are_made_once(objects, address: str, count: int) -> None:
    with LedgerInStore(address) as first, LedgerInStore(address) as second:
        numbers = noted(first, count)
        head = rf"{address.rpartition('/')[2]}$"
        lost = objects.proxy.add(Fault.reset_after, method="PUT", path=head, rate=0.2, seed=1)
        busy = objects.proxy.add(Fault.unavailable, path=head, rate=0.1, seed=2)
        for number in range(count):
            assert one_source((first, second)[number % 2], numbers) is not None
        objects.proxy.clear()
        assert lost.used
        assert busy.used
        require_done_once(first.rows(), count)


def test_a_lost_answer_is_known_by_the_name_of_the_change(address: str, monkeypatch) -> None:
    """Also where another change has come after it, before anybody could look."""
    with LedgerInStore(address) as ledger, LedgerInStore(address) as other:
        numbers = noted(ledger, 3)
        append = log.Log.append

        def loses(self: log.Log, change: str, rows: Sequence[Any]) -> bool:
            assert append(self, change, rows)
            monkeypatch.setattr(log.Log, "append", append)
            assert one_source(other, numbers) is not None
            self._mark = "of an earlier head"
            return False

        monkeypatch.setattr(log.Log, "append", loses)
        row = ledger.claim(numbers)
        assert row is not None
        assert ledger.end(row, State.done)
        assert [one.state for one in other.rows()] == [State.done, State.done, State.waiting]


# ---- who lives


def test_the_row_of_a_process_whose_lease_has_ended_is_taken_over(
    folder: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LedgerInStore(address) as slept, LedgerInStore(address) as other:
        numbers = noted(slept, 1)
        mine = slept.claim(numbers)
        assert mine is not None
        assert other.claim(numbers) is None
        with monkeypatch.context() as patch:
            patch.setattr(holding, "LASTS_SECONDS", -1.0)
            other._others.clear()
            taken = other.claim(numbers)
        assert taken is not None
        assert (taken.tries, taken.deaths) == (2, 1)
        assert not slept.end(mine, State.failed)
        # It was taken for dead, so it shows under another name that it lives.
        monkeypatch.setattr(holding, "RENEWED_SECONDS", -1.0)
        assert slept.claim(numbers) is None
        assert other.end(taken, State.waiting)
        again = slept.claim(numbers)
        assert again is not None
        assert again.holder not in (mine.holder, taken.holder)
        assert other.claim(numbers) is None
    assert not [name for name in contents_of(folder) if "holders" in name]


def test_what_the_dead_have_left_is_swept(folder: str, address: str, monkeypatch) -> None:
    place, path = place_of(address)
    place.write(f"{log.beside(path, 'holders')}/dead", b"{}")
    with LedgerInStore(address) as ledger:
        noted(ledger, 1)
        assert ".scans.ledger.holders/dead" in contents_of(folder)
    monkeypatch.setattr(in_store, "SWEPT_SECONDS", -1.0)
    with LedgerInStore(address) as ledger:
        noted(ledger, 2)
        assert ".scans.ledger.holders/dead" not in contents_of(folder)


# ---- what is refused


SPEC = """\
steps: [{operator: heat, time: 1}]
sink: {uri: "{stem}.zarr"}
"""


def refused(tmp_path: Path, ledger: str, *more: str) -> str:
    """Return what the command says of a ledger that it refuses, with nothing written here."""
    (tmp_path / "scans.yaml").write_text(SPEC)
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in" / "a.npy").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    each = more or ("--each", str(tmp_path / "in"), "--once", "--settle", "0")
    result = CliRunner().invoke(app, ["watch", str(tmp_path / "scans.yaml"), "--ledger", ledger, *each])
    assert (result.exit_code, result.stdout) == (2, "")
    assert sorted(tmp_path.rglob("*")) == before
    said = " ".join(result.stderr.split())
    assert "Unexpected" not in said
    return said


def of_kind(scheme: str) -> Callable[[str], tuple[FsspecPlace, str]]:
    """Return what makes a place of a kind whose own library is not here."""
    return lambda uri: (FsspecPlace(fsspec.filesystem("memory"), scheme), f"/{uri.partition('://')[2]}")


def test_a_store_that_does_not_tell_writers_apart_is_refused(tmp_path: Path, monkeypatch) -> None:
    scheme = "oss"
    monkeypatch.setitem(MAKERS, scheme, of_kind(scheme))
    said = refused(tmp_path, f"{scheme}://ledgers/scans.ledger")
    assert f"A store of the kind '{scheme}'" in said
    assert "a file on a disk that all machines share" in said
    assert not fsspec.filesystem("memory").exists("/ledgers")


def test_a_server_that_does_not_keep_to_conditions_is_refused(
    objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MAKERS, "forgetful", forgetful(objects.bucket))
    said = refused(tmp_path, "forgetful://forgot.ledger")
    assert "does not keep to them" in said
    assert not [name for name in contents_of(objects.bucket) if "forgot" in name]


def test_a_server_without_conditions_is_refused(objects, folder: str, address: str, tmp_path: Path) -> None:
    objects.proxy.add(Fault.unsupported, method="PUT")
    assert "is not known to write an object only if there is none" in refused(tmp_path, address)
    objects.proxy.clear()
    assert not contents_of(folder)


@pytest.mark.parametrize(
    "kind",
    [
        *("text", "folder", "part"),
        *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("JSON", "list", "newer", "large")),
        *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("columns", "rows")),
    ],
)
def test_something_else_at_the_address_is_refused_and_left(
    folder: str, address: str, tmp_path: Path, kind: str
) -> None:
    with LedgerInStore(address) as ledger:
        noted(ledger, 1)
    place, path = place_of(address)
    head = json.loads(place.read(path))
    if kind == "folder":
        place.delete([path])
        place.write(f"{path}/c/0", b"pixels")
    elif kind == "part":
        place.write(f"{log.beside(path, 'parts')}/x.jsonl.gz", b"no gzip")
        place.write(path, json.dumps({**head, "parts": ["x.jsonl.gz"]}).encode())
    else:
        data = {
            "text": "dear",
            "JSON": "{}",
            "list": "[1]",
            "newer": json.dumps({**head, log.FORMAT: 2}),
            "large": " " * (log.MOST_HEAD_BYTES + 1),
            "columns": json.dumps({**head, "rows": [{"number": 1, "colour": "red"}]}),
            "rows": json.dumps({**head, "rows": [7]}),
        }
        place.write(path, data[kind].encode())
    before = contents_of(folder)
    for words in ((), ("--status",)):
        assert "scans.ledger is " in refused(tmp_path, address, *words)
    assert contents_of(folder) == before


@pytest.mark.thorough
def test_a_bucket_that_there_is_not_is_refused(objects, tmp_path: Path) -> None:
    assert "cannot be used" in refused(tmp_path, "s3://no-such-bucket-here/scans.ledger")


def test_a_store_that_lets_nobody_in_is_refused(objects, address: str, tmp_path: Path) -> None:
    assert "There is no ledger" in refused(tmp_path, address, "--status")
    objects.proxy.add(Fault.denied)
    assert "cannot be used" in refused(tmp_path, address)
    assert "cannot be used" in refused(tmp_path, address, "--status")
    objects.proxy.clear()
    objects.proxy.add(Fault.denied, method="PUT")
    assert "cannot be used" in refused(tmp_path, address)


def test_a_ledger_that_is_removed_while_it_is_used_is_told(address: str) -> None:
    with LedgerInStore(address) as ledger:
        numbers = noted(ledger, 1)
        place, path = place_of(address)
        place.delete([path])
        with pytest.raises(LedgerError, match="was removed"):
            ledger.claim(numbers)
