"""What can be known of a run, and asked of it, from another process that sees its folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffusion_ops.blocks.statistic import Tally
from pipelines.record.journal import Claimed, FileJournal, Finished, Forgotten, line_of
from pipelines.run.status import cancel, status
from pipelines.run.verify import verify
from tests.pipelines.runs import ragged_image, save_source

COMMAND = [sys.executable, "-m", "pipelines.cli.command"]

SPEC = """\
source: {uri: source.npy}
steps:
  - {operator: heat, time: 30, schedule: explicit}
sink: {uri: out.zarr, chunk: 64, pyramid: none}
run: {tile: 64, batch: 15, threads: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a spec whose run has a few hundred tiles, each of some hundredths of a second."""
    save_source(tmp_path, ragged_image((300, 300), holes=False))
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def run(folder: Path) -> subprocess.Popen[str]:
    words = [*COMMAND, "run", "spec.yaml", "--json"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True)


def wait_for_tiles(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        count -= json.loads(line)["event"] == "tile_done"
        if not count:
            return
    raise AssertionError("the run has ended")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.is_file()}


def test_a_run_is_watched_without_a_touch_cancelled_and_goes_on(folder: Path) -> None:
    target = str(folder / "out.zarr")
    first = run(folder)
    wait_for_tiles(first, 12)
    standing = status(target)
    assert standing["running"]
    assert 12 <= standing["done"] < standing["tiles"]
    assert standing["tiles_per_second"] > 0
    assert standing["seconds_since_tile"] < 60
    rest = (standing["tiles"] - standing["done"]) / standing["tiles_per_second"]
    assert standing["seconds_left"] == pytest.approx(rest, rel=0.5)
    assert cancel(target)["asked"]
    out, _ = first.communicate(timeout=60)
    report = json.loads(out.splitlines()[-1])["report"]
    assert (first.returncode, report["ended_by"], report["failed"]) == (75, "cancelled", [])
    assert "the same command goes on" in report["problem"]

    left = contents(folder / "out.zarr.run")
    assert not status(target)["running"]
    assert not cancel(target)["asked"]
    assert contents(folder / "out.zarr.run") == left
    done = status(target)["done"]
    assert 12 <= done < report["tiles"]
    second = run(folder)
    events = [json.loads(line) for line in second.communicate(timeout=300)[0].splitlines()]
    assert second.returncode == 0
    assert next(e["done"] for e in events if e["event"] == "run_started") == done
    assert not [e for e in events if e["event"] == "tile_lost"]
    assert verify(target)["ok"]


def test_a_long_journal_takes_less_than_a_second(tmp_path: Path) -> None:
    lines = [line_of(Finished(i % 10, i // 10, 123456789 * i % (1 << 32))) for i in range(100_000)]
    journal = FileJournal(tmp_path / "journal.jsonl")
    journal.path.write_bytes(b"".join(lines) * 10)
    began = time.process_time()  # others may use the machine, too
    told = [rows for rows in journal.glance() if isinstance(rows, np.ndarray)]
    assert time.process_time() - began < 1
    assert sum(map(len, told)) == 1_000_000
    assert {tuple(row) for row in told[0][:20].tolist()} == {(i % 10, i // 10) for i in range(20)}


def test_a_glance_sees_what_the_journal_says(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal.jsonl")
    events = [
        Finished(0, 7, 1),
        Finished(12, 345, 0, {"a": Tally(np.arange(4), np.arange(4))}),
        Forgotten(0, 7),
        Forgotten(3),
        Finished(0, 8, 5, {}, 2),
        Claimed(0, [1, 2]),
    ]
    for event in events:
        journal.append(event)
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b"\n\xff\n[]\n{\n12345678 9\n12345678 x 3 \nabcdefgh 1 2")
    told = [one.tolist() if isinstance(one, np.ndarray) else one for one in journal.glance()]
    assert [one for one in told if one] == [
        [[0, 7], [12, 345]],
        Forgotten(0, 7),
        Forgotten(3),
        [[0, 8]],
        Claimed(0, [1, 2]),
    ]
    os.truncate(journal.path, 0)
    assert not any(len(one) for one in journal.glance() if isinstance(one, np.ndarray))
