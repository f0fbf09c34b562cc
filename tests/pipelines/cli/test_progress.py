"""What is shown of a run: speed, time left after resuming, lines, JSON, a live picture."""

import io
import json

import pytest
from rich.console import Console

from pipelines.cli.json_lines import JsonProgress, event_name
from pipelines.cli.progress import LineProgress, LiveProgress, Meter, progress
from pipelines.events import (
    Connected,
    Exporting,
    RunFinished,
    RunStarted,
    StageDone,
    StageStarted,
    TileDone,
    TileFailed,
    Waiting,
    WorkerLeftOut,
)

PLAN = {
    "stages": [{"tiles": 10, "expected_seconds": 1.0}, {"tiles": 10, "expected_seconds": 99.0}],
    "expected_seconds": 100.0,
    "memory_total": 300 << 20,
    "memory_limit": 1 << 30,
}


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tile(stage: int, number: int, memory: int = 200 << 20) -> TileDone:
    return TileDone(stage, number, 1_000_000, 2_000_000, 1.0, 5_000_000, memory)


def run_through(meter, clock, stage, numbers, seconds):
    for number in numbers:
        clock.now += seconds
        meter(tile(stage, number))


def test_time_left_is_the_plans_until_something_is_measured():
    meter = Meter(Clock())
    meter(RunStarted("t", PLAN, 20, 0))
    assert meter.seconds_left == 100.0


def test_time_left_weighs_stages_as_the_plan_does():
    clock = Clock()
    meter = Meter(clock)
    meter(RunStarted("t", PLAN, 20, 0))
    run_through(meter, clock, 0, range(10), 0.2)
    # The first stage took twice what was expected (2 s instead of 1), so will the second.
    assert meter.seconds_left == pytest.approx(198.0)


def test_tiles_of_an_earlier_run_are_not_speed():
    clock = Clock()
    meter = Meter(clock)
    meter(RunStarted("t", PLAN, 20, 15))
    assert meter.done == 15
    run_through(meter, clock, 1, range(5, 7), 9.9)
    assert meter.seconds_left == pytest.approx(3 * 9.9)
    assert meter.cell_steps_per_second == pytest.approx(5_000_000 / 9.9)


def test_speed_is_that_of_the_latest_tiles():
    clock = Clock()
    meter = Meter(clock)
    meter(RunStarted("t", {}, 1000, 0))
    run_through(meter, clock, 0, range(100), 10.0)
    run_through(meter, clock, 0, range(100, 200), 1.0)
    assert meter.seconds_left == pytest.approx(800.0)
    assert meter.written_per_second == pytest.approx(2_000_000)


def test_a_check_without_a_run_counts_the_tiles_of_its_stages():
    meter = Meter(Clock())
    meter(StageStarted(0, "check", 7))
    meter(StageStarted(1, "check", 3))
    assert meter.tiles == 10


def test_retries_and_failures_are_told_apart():
    meter = Meter(Clock())
    meter(TileFailed(0, 1, "y 0:5", "OSError: no", 2))
    meter(TileFailed(0, 1, "y 0:5", "OSError: no", 0))
    assert meter.trouble_text == "1 tried again, 1 failed"


def test_lines_come_at_stages_failures_and_every_few_seconds():
    clock, stream = Clock(), io.StringIO()
    lines = LineProgress(stream, every=5.0, clock=clock)
    lines(RunStarted("out.zarr", PLAN, 20, 3))
    lines(Connected("threads", ""))
    lines(StageStarted(0, "measure contrast", 10))
    for number in range(10):
        clock.now += 1.0
        lines(tile(0, number))
    lines(StageDone(0, "measure contrast", 10.0, {"contrast": 4.25}))
    lines(TileFailed(1, 7, "y 0:512", "OSError: lost", 2))
    lines(Waiting("The scheduler has no workers.", 65.0))
    lines(WorkerLeftOut("tcp://there:1", "numpy is 2.0, wanted 2.1"))
    lines(Exporting("out.tif"))
    text = stream.getvalue().splitlines()
    assert text[0] == "out.zarr: 20 tiles, 3 of them done before; memory predicted 300.00 MiB, limit 1.00 GiB"
    assert text[1] == "stage 0, measure contrast: 10 tiles"
    assert text[2].startswith("8 of 20 tiles (40%), ")
    assert "5.0 Mpx·steps/s, memory 200.00 MiB, predicted 300.00 MiB, limit 1.00 GiB" in text[2]
    assert text[4:] == [
        "measure contrast: contrast = 4.25",
        "tile 7 of stage 1 (y 0:512) failed, 2 more tries: OSError: lost",
        "waiting for 1:05 min: The scheduler has no workers.",
        "the worker tcp://there:1 gets no task: numpy is 2.0, wanted 2.1",
        "writing out.tif",
    ]


def test_equal_passes_do_not_fill_the_log():
    stream = io.StringIO()
    lines = LineProgress(stream, clock=Clock())
    for stage in range(100):
        lines(StageStarted(stage, "heat (5 steps)", 10))
    assert len(stream.getvalue().splitlines()) == 1


EVENTS = [
    RunStarted("t", PLAN, 20, 0),
    Connected("local", "http://here:8787/status"),
    StageStarted(0, "heat", 10),
    tile(0, 0),
    TileFailed(0, 1, "y 0:5", "OSError: no", 1),
    Waiting("no workers", 5.0),
    WorkerLeftOut("tcp://there:1", "numpy is 2.0, wanted 2.1"),
    StageDone(0, "heat", 1.0, {}),
    Exporting("t"),
    RunFinished({"complete": True}),
]


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_every_event_is_one_json_object(event):
    stream = io.StringIO()
    JsonProgress(stream)(event)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == event_name(event)


def test_names_are_in_snake_case():
    assert [event_name(event) for event in EVENTS[:3]] == ["run_started", "connected", "stage_started"]


def test_the_live_picture_shows_tiles_speed_memory_and_trouble():
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    meter = Meter(clock)
    with LiveProgress(console, meter) as live:
        for event in EVENTS[:5]:
            clock.now += 1.0
            live(event)
        console.print(live.render())
    text = stream.getvalue()
    for part in (
        "heat",
        "1 of 20 tiles",
        "5%",
        "Mpx·steps/s",
        "limit 1.00 GiB",
        "1 tried again",
        "dashboard http://here:8787/status",
    ):
        assert part in text
    assert "tile 1 of stage 0 (y 0:5) failed, 1 more tries: OSError: no" in text


def test_the_picture_is_gone_after_an_error():
    console = Console(file=io.StringIO(), force_terminal=True)
    live = LiveProgress(console)

    def interrupted() -> None:
        with live:
            live(EVENTS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not live._live.is_started


@pytest.mark.parametrize(
    ("json_events", "terminal", "kind"),
    [(True, True, JsonProgress), (False, True, LiveProgress), (False, False, LineProgress)],
)
def test_the_listener_suits_where_the_output_goes(json_events, terminal, kind):
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with progress(json_events, io.StringIO(), console) as listener:
        assert isinstance(listener, kind)
