"""Pictures in words: every number of the plain values arrives, long lines stay whole in pipes."""

import io
from typing import Any

from rich.console import Console

from pipelines.cli import show


def drawn(picture: Any) -> str:
    stream = io.StringIO()
    show.draw(Console(file=stream, force_terminal=False), picture)
    return stream.getvalue()


def stage(title: str, done: int = 0) -> dict[str, Any]:
    return {
        "title": title,
        "tiles": 4,
        "tile": [512, 512],
        "memory_per_task": 1 << 20,
        "expected_seconds": 2.0,
        "done": done,
    }


PLAN = {
    "source": {"shape": [2000, 1500], "axes": "yx", "dtype": "uint8"},
    "result": {
        "table": False,
        "dtype": "float32",
        "levels": [{"shape": [2000, 1500], "axes": "yx", "chunks": [512, 512]}],
    },
    "axes": "yx",
    "diffuses_along": "yx",
    "spacing": [1.0, 0.5],
    "tile": [512, 512],
    "batch": 1,
    "passes": 3,
    "halo": [[50, 40], [50, 40], [7, 7]],
    "tiles": 12,
    "threads": 2,
    "processes": 0,
    "cell_steps": 6_000_000_000,
    "redundancy": 1.21,
    "bytes_read": 3 << 30,
    "bytes_written": 2 << 30,
    "disk_bytes": 1 << 30,
    "memory_per_task": 8 << 20,
    "memory_total": 296 << 20,
    "memory_limit": 2 << 30,
    "expected_seconds": 185.0,
    "stages": [stage("heat (1 step)"), stage("heat (1 step)"), stage("pyramid level 1")],
    "notes": ["The source is copied first."],
}


def test_a_plan_shows_all_its_numbers():
    text = drawn(show.plan(PLAN, "a.tif", "b.zarr"))
    for part in (
        "y 2,000 × x 1,500, uint8", "1 level,", "1 × 0.5", "50 × 40 or 7 × 7 pixels",
        "3 over the data, of at most 1 step each",
        "6,000 Mpx·steps, computed 1.21 times", "3.00 GiB", "296.00 MiB of 2.00 GiB",
        "2 tasks at a time, 8.00 MiB each",
        "3:05 min", "note: The source is copied first.",
    ):  # fmt: skip
        assert part in text


def test_a_plan_of_a_table_says_so():
    text = drawn(show.plan({**PLAN, "result": {**PLAN["result"], "table": True}}, "a.tif", "b.csv"))
    assert "a table, of labels of y 2,000 × x 1,500, float32" in text
    assert "1 level" not in text


def test_equal_stages_are_one_line():
    lines = drawn(show.plan(PLAN, "a.tif", "b.zarr")).splitlines()
    assert [line.split("  ")[0] for line in lines[-3:-1]] == ["0 to 1", "2"]


def test_lines_stay_whole_where_it_is_no_terminal():
    path = "/".join(["a_long_name"] * 30)
    text = drawn(show.plan(PLAN, path, "b.zarr"))
    assert path in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_square_brackets_are_text():
    failure = {"stage": "heat", "tile": 3, "region": "y 0:5", "error": "IndexError: [red] [/]"}
    standing = {
        "target": "t", "complete": False, "running": False, "done": 1, "tiles": 4, "workdir": "w",
        "stages": [stage("heat", 1)], "failed": [failure], "problem": "", "dashboard": "http://here:1/status",
        "tiles_per_second": 2.0, "seconds_left": 90.0, "seconds_since_tile": 0.5,
    }  # fmt: skip
    text = drawn(show.status(standing))
    assert "IndexError: [red] [/]" in text
    assert "stopped; the same `diffuse run` goes on" in text
    assert "http://here:1/status" in text
    text = drawn(show.status({**standing, "running": True}))
    assert "running" in text
    assert "2 tiles/s, the last 0.5 s ago" in text
    assert "about 1:30 min" in text
