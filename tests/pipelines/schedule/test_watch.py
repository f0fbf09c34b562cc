"""Each source exactly once: changed ones again, bad ones aside, twice at the same time, through the death of either."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner, Result

from pipelines.cli.command import app
from pipelines.events import Event, RunStarted
from pipelines.record.holding import BusyError
from pipelines.record.lease import lease
from pipelines.refusal import RefusedError
from pipelines.schedule.ledger.ledger import Ledger
from pipelines.schedule.ledger.open_ledger import open_ledger
from pipelines.schedule.ledger.rows import Row, State
from pipelines.schedule.template import Template
from pipelines.schedule.watch import Policy, Watch
from pipelines.spec.spec import SpecError
from pipelines.stopping import CANCELLED
from pipelines.store.places import place_of
from tests.pipelines.runs import contents_of

COMMAND = [sys.executable, "-m", "pipelines.cli.command"]

SPEC = """\
source: {uri: in/a.npy}
steps:
  - {operator: heat, time: 2}
sink: {uri: "out/{stem}.zarr", pyramid: none}
run: {threads: 1, tile: 64}
"""


def save(path: Path, seed: int) -> None:
    """Write a small image whole or not at all."""
    part = path.with_name(f".{path.name}.npy")
    np.save(part, np.random.default_rng(seed).integers(0, 255, (90, 80), np.uint8))
    part.replace(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two images and a spec."""
    monkeypatch.chdir(tmp_path)
    for name in ("in", "out"):
        Path(name).mkdir()
    save(Path("in/a.npy"), 1)
    save(Path("in/b.npy"), 2)
    Path("scans.yaml").write_text(SPEC)
    return tmp_path


# ---- the policy, without runs


class Runs:
    """What a run does, as a test says; and which there were."""

    def __init__(self, *ends: BaseException | int) -> None:
        self.ends, self.calls = list(ends), list[tuple[str, bool]]()

    def __call__(self, spec: Any, overwrite: bool, begins: Callable[[Event], None]) -> Any:
        self.calls.append((Path(spec.source.uri).stem, overwrite))
        end = self.ends.pop(0) if self.ends else 0
        if isinstance(end, BaseException):
            raise end
        begins(RunStarted(spec.sink.uri, {}, 1, 0))
        problem, ended_by = "full" if end else "", CANCELLED if end == 75 else ""
        return SimpleNamespace(
            exit_code=end, data={"problem": problem, "failed": [], "ended_by": ended_by, "tiles": 1}
        )


@pytest.fixture(params=["disk", pytest.param("store", marks=pytest.mark.thorough)])
def ledger(request: pytest.FixtureRequest, folder: Path) -> Iterator[Ledger]:
    base = (
        f"{request.getfixturevalue('objects').bucket}/{folder.name}" if request.param == "store" else folder
    )
    with open_ledger(f"{base}/scans.ledger") as opened:
        yield opened


def watch(ledger: Ledger, runs: Runs, each: str = "in/*.npy", **policy: Any) -> Watch:
    return Watch(Template("scans.yaml", {}), Policy(each, **{"settle": 0.0, **policy}), ledger, runs)


class Clock:
    """Sleep that only moves what is due; it remembers how long it was to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.slept = time.time(), list[float]()
        monkeypatch.setattr(time, "time", lambda: self.now)

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def states(rows: Sequence[Row]) -> dict[str, str]:
    return {Path(row.address).stem: str(row.state) for row in rows}


def test_each_source_is_worked_on_once(ledger: Ledger) -> None:
    runs = Runs()
    assert states(watch(ledger, runs).once()) == {"a": "done", "b": "done"}
    assert states(watch(ledger, runs).once()) == {"a": "done", "b": "done"}
    assert runs.calls == [("a", False), ("b", False)]


def test_a_refused_source_is_quarantined_and_the_others_go_on(ledger: Ledger) -> None:
    runs = Runs(RefusedError("no image"))
    assert states(watch(ledger, runs).once()) == {"a": "quarantined", "b": "done"}
    assert ledger.rows()[0].message == "no image"
    assert len(runs.calls) == 2
    ledger.release()
    assert states(watch(ledger, runs).once()) == {"a": "done", "b": "done"}


def test_a_failing_source_is_tried_again_later_and_later(ledger: Ledger, monkeypatch) -> None:
    clock = Clock(monkeypatch)
    runs = Runs(OSError("gone"), 0, 3, 3)
    rows = watch(ledger, runs, retries=2).once(clock)
    assert states(rows) == {"a": "quarantined", "b": "done"}
    assert (rows[0].message, rows[0].tries) == ("full", 3)
    assert [name for name, _ in runs.calls] == ["a", "b", "a", "a"]
    first, second = (seconds for seconds in clock.slept if seconds)
    assert 2.5 <= first <= 7.5
    assert 5 <= second <= 15


def test_a_cancelled_source_is_not_begun_again(ledger: Ledger) -> None:
    rows = watch(ledger, Runs(75)).once()
    assert states(rows) == {"a": "quarantined", "b": "done"}
    assert "diffuse cancel" in rows[0].message


def test_a_held_source_is_no_failure(ledger: Ledger) -> None:
    runs = Runs(BusyError("another run works for it"))
    rows = watch(ledger, runs).once()
    assert states(rows) == {"a": "waiting", "b": "done"}
    assert rows[0].tries == 0


def test_an_interruption_gives_the_source_back(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        watch(ledger, Runs(KeyboardInterrupt())).once()
    assert states(ledger.rows()) == {"a": "waiting", "b": "waiting"}
    assert ledger.rows()[0].tries == 0


def test_a_source_that_is_being_written_is_left_alone(ledger: Ledger, folder: Path, monkeypatch) -> None:
    clock, runs = Clock(monkeypatch), Runs()
    os.utime("in/a.npy", (1e9, 1e9))

    def grows(seconds: float) -> None:
        clock(seconds)
        save(Path("in/b.npy"), 3)

    rows = watch(ledger, runs, settle=20).once(grows)
    assert (states(rows), clock.slept) == ({"a": "done"}, [20])
    assert states(watch(ledger, runs, settle=20).once(clock)) == {"a": "done", "b": "done"}
    assert runs.calls == [("a", False), ("b", False)]


def test_a_changed_source_takes_the_place_of_its_own_result_alone(ledger: Ledger) -> None:
    runs = Runs(0, RefusedError("the target exists"))
    watch(ledger, runs).once()
    save(Path("in/a.npy"), 4)
    save(Path("in/b.npy"), 4)
    watch(ledger, runs).once()
    assert runs.calls[2:] == [("a", True), ("b", False)]


def test_what_comes_later_must_have_a_target_of_its_own(ledger: Ledger, folder: Path) -> None:
    runs = Runs()
    work = watch(ledger, runs, "in/*")
    work.look()
    save(Path("in/a.more.npy"), 1)
    shutil.copy("in/a.npy", "in/a.tif")
    rows = work.once()
    assert states(rows) == {"a": "quarantined", "a.more": "done", "b": "done"}
    assert "too. Tell them apart" in next(row.message for row in rows if row.address.endswith("a.tif"))


def test_results_are_no_sources(ledger: Ledger, folder: Path) -> None:
    Path("scans.yaml").write_text(SPEC.replace("out/{stem}.zarr", "in/{stem}-calm.png"))
    with pytest.raises(SpecError, match="would itself be found"):
        watch(ledger, Runs(), "in/*").once()
    assert not ledger.is_there()


def test_a_ledger_is_no_source(folder: Path) -> None:
    with open_ledger("in/scans.ledger") as ledger:
        assert states(watch(ledger, Runs(), "in/*").once()) == {"a": "done", "b": "done"}
        assert states(watch(ledger, Runs(), "in/*").once()) == {"a": "done", "b": "done"}


def test_another_spec_is_another_work(ledger: Ledger) -> None:
    runs = Runs()
    watch(ledger, runs).once()
    Path("scans.yaml").write_text(SPEC.replace("time: 2", "time: 3"))
    watch(ledger, runs).once()
    assert len(runs.calls) == 4


# ---- the command


def diffuse(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_run_each_does_all_says_so_and_ends_with_3_where_one_is_refused(folder: Path) -> None:
    Path("in/bad.npy").write_text("no image")
    words = ("scans.yaml", "--each", "in/*.npy", "--settle", "0")
    done = diffuse("run", *words)
    assert done.exit_code == 3, done.stderr
    assert "2 done, 1 quarantined" in done.stdout
    again = diffuse("watch", *words, "--once", "--json")
    *_, last = (json.loads(line) for line in again.stdout.splitlines())
    assert (again.exit_code, last["event"]) == (3, "watch_finished")
    assert Counter(one["tries"] for one in last["sources"]) == {1: 3}
    save(Path("in/bad.npy"), 3)
    save(Path("in/a.npy"), 3)
    assert diffuse("run", *words).exit_code == 0
    assert contents_of("out/a.zarr") == contents_of("out/bad.zarr")
    shown = diffuse("watch", "scans.yaml", "--status")
    assert "3 done" in shown.stdout
    assert len(json.loads(diffuse("watch", "scans.yaml", "--status", "--json").stdout)["sources"]) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "scans.yaml", "--each", "none/*.npy"), "There is no"),
        (("run", "fixed.yaml", "--each", "in/*.npy"), "is the same for every source"),
        (("run", "scans.yaml", "--each", "in/*.npy", "--ledger", "abc://b/x"), "Protocol not known"),
        (
            ("run", "scans.yaml", "--each", "in/*.npy", "--ledger", "s3://me:secret@b/x"),
            "a password or a token",
        ),
        (("run", "scans.yaml", "--each", "in/*.npy", "--ledger", "memory://b/x"), "keeps to conditions"),
        (("run", "scans.yaml", "--each", "in/*.npy", "--ledger", "no/x"), "cannot be a ledger"),
        (("run", "scans.yaml", "--each", "in/*.npy", "--ledger", "scans.yaml"), "cannot be a ledger"),
        (("run", "scans.yaml", "--retry-quarantined"), "goes with --each"),
        (("watch", "scans.yaml"), "Give --each PATTERN"),
        (("watch", "scans.yaml", "--status"), "There is no ledger"),
        (("watch", "wrong.yaml", "--each", "in/*.npy"), "line 3: steps[0]: unknown key"),
    ],
)
def test_a_refusal_has_exit_code_2_and_nothing_is_written(
    folder: Path, words: Sequence[str], said: str
) -> None:
    Path("fixed.yaml").write_text(SPEC.replace("{stem}", "all"))
    Path("wrong.yaml").write_text(SPEC.replace("time", "tmie"))
    before = sorted(folder.rglob("*"))
    result = diffuse(*words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert sorted(folder.rglob("*")) == before


def test_a_source_whose_target_another_run_holds_waits(folder: Path) -> None:
    with lease(str(folder / "out/a.zarr"), folder / "elsewhere"):
        done = diffuse("run", "scans.yaml", "--each", "in/*.npy", "--settle", "0")
    assert done.exit_code == 0
    assert "1 waiting, 1 done" in done.stdout
    assert "Another run" in done.stdout


STORED = """\
steps:
  - {{operator: heat, time: 1}}
sink: {{uri: "{bucket}/out/{{stem}}.zarr", pyramid: none}}
run: {{workdir: "state/{{stem}}", threads: 1}}
"""


def test_sources_and_results_may_lie_in_a_store(folder: Path, objects) -> None:
    for seed, name in enumerate("ab"):
        image = np.random.default_rng(seed).integers(0, 255, (60, 50), np.uint8)
        zarr.create_array(f"{name}.zarr", data=image)
        for key, data in contents_of(f"{name}.zarr").items():
            place, path = place_of(f"{objects.bucket}/in/{name}.zarr/{key}")
            place.write(path, data)
    Path("stored.yaml").write_text(STORED.format(bucket=objects.bucket))
    done = diffuse("run", "stored.yaml", "--each", f"{objects.bucket}/in/*.zarr", "--settle", "0")
    assert done.exit_code == 0, done.stderr
    assert "2 done" in done.stdout
    results = [contents_of(f"{objects.bucket}/out/{name}.zarr") for name in "ab"]
    assert results[0] != results[1]
    assert all(results)


@pytest.mark.thorough
def test_a_watcher_that_is_terminated_gives_its_source_back(folder: Path) -> None:
    slow = SPEC.replace("time: 2", "time: 200, schedule: explicit").replace("tile: 64", "tile: 64, batch: 20")
    Path("scans.yaml").write_text(slow)
    words = [*COMMAND, "watch", "scans.yaml", "--each", "in/*.npy", "--settle", "0", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "tile_done":
            process.terminate()
            break
    process.communicate(timeout=60)
    assert process.returncode == 143
    with open_ledger(f"{folder}/scans.ledger") as ledger:
        assert states(ledger.rows()) == {"a": "waiting", "b": "waiting"}
        assert ledger.rows()[0].tries == 0


# ---- twice at the same time, through SIGKILL of either


def start(folder: Path, number: int) -> subprocess.Popen[bytes]:
    """Start a watcher whose events go to a file of its own."""
    words = ["watch", "scans.yaml", "--each", "in/*.npy", "--interval", "0.5", "--settle", "0", "--json"]
    with open(folder / f"events-{number}.jsonl", "wb") as out, open(folder / f"errors-{number}", "wb") as err:
        return subprocess.Popen([*COMMAND, *words], cwd=folder, stdout=out, stderr=err)


def watched(folder: Path, count: int, kills: int, seed: int) -> list[Row]:
    """Let two watchers work on images while one or the other is killed and started again; return the ledger."""
    chance, ledger = random.Random(seed), open_ledger(f"{folder}/scans.ledger")
    running = [start(folder, number) for number in range(2)]
    killed, until = 0, time.monotonic() + 60 + 5 * count
    try:
        while True:
            assert time.monotonic() < until, ledger.rows()
            assert all(process.poll() is None for process in running), list(folder.glob("errors-*"))
            rows = ledger.rows()
            done = sum(row.state is State.done for row in rows)
            if done == count and killed >= kills:
                return rows
            # A kill for every so many results, at whatever moment.
            if (
                killed < kills
                and done >= killed * count // kills
                and any(r.state is State.running for r in rows)
            ):
                time.sleep(chance.uniform(0, 0.3))
                victim = chance.randrange(2)
                running[victim].kill()
                running[victim].wait()
                killed += 1
                running[victim] = start(folder, 1 + killed)
            time.sleep(0.05)
    finally:
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.wait()
        ledger.close()


def require_once(folder: Path, rows: Sequence[Row], count: int) -> None:
    """Compare with one undisturbed pass, and count who did what."""
    assert Counter(row.state for row in rows) == {State.done: count}
    assert all(row.report["complete"] for row in rows)
    # Every try but the last one ended with the death of its process.
    assert sum(row.tries - 1 for row in rows) <= len(list(folder.glob("events-*"))) - 2
    events = [
        json.loads(line)
        for file in folder.glob("events-*")
        for line in file.read_text().splitlines()
        if line.endswith("}")
    ]
    ended = Counter(e["address"] for e in events if e["event"] == "source_ended")
    assert set(ended.values()) == {1}, ended
    spec = folder / "alone.yaml"
    spec.write_text(SPEC.replace("out/{stem}", "alone/{stem}"))
    (folder / "alone").mkdir()
    assert diffuse("run", str(spec), "--each", f"{folder}/in/*.npy", "--settle", "0").exit_code == 0
    for row in rows:
        name = Path(row.address).stem
        assert contents_of(folder / f"out/{name}.zarr") == contents_of(folder / f"alone/{name}.zarr") != {}


@pytest.mark.parametrize(
    ("count", "kills"),
    [pytest.param(6, 3, marks=pytest.mark.thorough), pytest.param(200, 20, marks=pytest.mark.slow)],
)
def test_two_watchers_do_each_image_once_through_kills_of_either(
    folder: Path, count: int, kills: int
) -> None:
    for number in range(count - 2):
        save(Path(f"in/{number:03}.npy"), number)
    rows = watched(folder, count, kills, seed=count)
    require_once(folder, rows, count)


@pytest.mark.thorough
def test_two_passes_at_the_same_time_share_the_work(folder: Path) -> None:
    words = [*COMMAND, "run", "scans.yaml", "--each", "in/*.npy", "--settle", "0", "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    events = [json.loads(line) for one in both for line in one.communicate(timeout=120)[0].splitlines()]
    assert [process.returncode for process in both] == [0, 0]
    ended = Counter(Path(e["address"]).stem for e in events if e["event"] == "source_ended")
    assert ended == {"a": 1, "b": 1}
    with open_ledger(f"{folder}/scans.ledger") as ledger:
        assert [row.tries for row in ledger.rows()] == [1, 1]
    assert {path.name for path in folder.iterdir()} == {"in", "out", "scans.ledger", "scans.yaml"}
