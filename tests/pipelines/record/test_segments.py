"""A journal in a store holds what one in a file holds, and only one process can write it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipelines.record import segments
from pipelines.record.journal import Claimed, Finished, Forgotten
from pipelines.record.segments import SegmentJournal, TakenOverError
from pipelines.store.places import place_of
from tests.faulty_proxy import Fault


@pytest.fixture
def journal(objects, tmp_path):
    """Return a function that makes a journal, as another process would."""
    return lambda: SegmentJournal(*place_of(f"{objects.bucket}/{tmp_path.name}/journal"))


def names(journal: SegmentJournal) -> list[str]:
    return [segment.name for segment in journal._listed()]


def test_events_come_back_in_order_and_are_joined(journal, monkeypatch) -> None:
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 1000.0)
    first, events = journal(), [Finished(0, tile, tile * 7) for tile in range(20)]
    assert list(first.events()) == []
    for event in events:
        first.append(event)
        first.flush()
    first.append(Forgotten(0, 3))
    first.close()
    assert len(names(first)) == 22
    for _ in range(2):
        again = journal()
        assert list(again.events()) == [*events, Forgotten(0, 3)]
        assert len(names(again)) == 1
        again.close()
    told = list(journal().glance())
    assert np.concatenate([t for t in told if isinstance(t, np.ndarray)])[:, 1].tolist() == list(range(20))
    assert [t for t in told if not isinstance(t, np.ndarray)] == [Forgotten(0, 3)]


def test_lines_are_written_within_seconds(journal, monkeypatch) -> None:
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 0.05)
    first = journal()
    list(first.events())
    first.append(Finished(0, 1))
    end = time.monotonic() + 30
    while not list(journal().events(repair=False)) and time.monotonic() < end:
        time.sleep(0.02)
    assert list(journal().events(repair=False)) == [Finished(0, 1)]
    assert abs(first.changed() - time.time()) < 60
    first.close()


def test_what_is_written_over_is_written_down_before(journal, monkeypatch) -> None:
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 1000.0)
    first = journal()
    list(first.events())
    first.append(Finished(1, 5))
    first.settle(1, 4)
    assert list(journal().events(repair=False)) == []
    first.settle(1, 5)
    assert list(journal().events(repair=False)) == [Finished(1, 5)]
    first.close()


def test_a_process_that_was_given_up_cannot_write_any_more(journal, monkeypatch) -> None:
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 1000.0)
    first, second = journal(), journal()
    list(first.events())
    first.append(Finished(0, 1))
    first.flush()
    assert list(second.events()) == [Finished(0, 1)]
    first.append(Finished(0, 2))
    with pytest.raises(TakenOverError, match="taken over"):
        first.flush()
    second.append(Finished(0, 3))
    second.close()
    first.close()
    assert list(journal().events(repair=False)) == [Finished(0, 1), Finished(0, 3)]


def test_a_joined_segment_stands_for_others_that_are_not_deleted_yet(journal, objects, monkeypatch) -> None:
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 1000.0)
    first = journal()
    list(first.events())
    for event in (Claimed(0, [1]), Finished(0, 1)):
        first.append(event)
        first.flush()
    first.close()
    objects.proxy.add(Fault.denied, method="POST|DELETE")
    with pytest.raises(PermissionError):
        list(journal().events())
    objects.proxy.clear()
    assert list(journal().events(repair=False)) == [Claimed(0, [1]), Finished(0, 1)]
    assert list(journal().events()) == [Claimed(0, [1]), Finished(0, 1)]


def test_a_damaged_line_is_passed_over(journal) -> None:
    first = journal()
    list(first.events())
    first.append(Finished(0, 1))
    first.append(Finished(0, 2))
    first.close()
    place, path = first._place, f"{first._path}/{names(first)[-1]}"
    place.write(path, place.read(path)[:-1])
    assert list(journal().events(repair=False)) == [Finished(0, 1)]


def test_many_segments_are_joined_while_a_run_lasts(journal, monkeypatch) -> None:
    monkeypatch.setattr(segments, "JOINED", 3)
    first = journal()
    list(first.events())
    for tile in range(10):
        first.append(Finished(0, tile))
        first.flush()
    assert len(names(first)) < 7
    first.close()
    assert list(journal().events(repair=False)) == [Finished(0, tile) for tile in range(10)]


def test_clearing_leaves_objects_of_others(journal) -> None:
    first = journal()
    list(first.events())
    first.append(Finished(0, 1))
    first.close()
    first._place.write(f"{first._path}/letter.txt", b"dear")
    first.clear()
    assert [entry.name for entry in first._place.entries(first._path)] == ["letter.txt"]
