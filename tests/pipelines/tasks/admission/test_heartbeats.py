"""A worker is silent when the scheduler has not heard of it for long, and only then."""

from __future__ import annotations

from pipelines.tasks.admission.heartbeats import SILENT_SECONDS, Heartbeats


def test_workers_whose_signs_stop_are_silent():
    heartbeats, seconds = Heartbeats(), SILENT_SECONDS / 6
    for look in range(4):
        # The scheduler's clock is another one. A worker that is slow to give signs is quiet now and then.
        heartbeats.note({"goes on": 1e9 + look, "stops": 1e9}, 50 + look * seconds)
        assert heartbeats.silent() == ({"stops": SILENT_SECONDS} if look == 3 else {})
    heartbeats.note({}, 50 + 4 * seconds)
    assert heartbeats.silent() == {}


def test_a_time_without_looks_says_nothing_of_the_workers():
    heartbeats = Heartbeats()
    heartbeats.note({"one": 1.0}, 50.0)
    heartbeats.note({"one": 1.0}, 50.0 + 3 * SILENT_SECONDS)
    assert heartbeats.silent() == {}
