"""Two machines with nothing in common but a store do each source exactly once, through the death of either."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from pipelines.cli.command import app
from pipelines.schedule.ledger.open_ledger import open_ledger
from pipelines.schedule.ledger.rows import Row, State
from pipelines.store.places import place_of
from tests.pipelines.dask_processes import at_home
from tests.pipelines.runs import contents_of
from tests.plugin_examples import ROOT

MACHINE = """
from pipelines.record import holding

holding.RENEWED_SECONDS, holding.LASTS_SECONDS = 1.0, 10.0
holding._machine = lambda: ""

from pipelines.cli.command import app

app()
"""
"""The command on a machine of its own: of its processes others know by their leases alone, which are short here."""

SPEC = """\
steps: [{{operator: heat, time: 2}}]
sink: {{uri: "{base}/out/{{stem}}.zarr", pyramid: none}}
run: {{workdir: "{runs}/{{stem}}.run", threads: 1, tile: 64}}
"""


class Store:
    """A folder of a bucket, with sources in it.

    Attributes
    ----------
    base : str
        Address of the folder.
    here : Path
        Folder of the test, with a folder for each machine.
    """

    def __init__(self, base: str, here: Path) -> None:
        self.base, self.here = base, here
        self.said = list[Path]()

    def save(self, count: int) -> None:
        """Write sources, here and into the store."""
        for seed in range(count):
            name = f"{seed:03}.zarr"
            image = np.random.default_rng(seed).integers(0, 255, (90, 80), np.uint8)
            zarr.create_array(self.here / "sources" / name, data=image)
            for key, data in contents_of(self.here / "sources" / name).items():
                place, path = place_of(f"{self.base}/in/{name}/{key}")
                place.write(path, data)

    def words(self, ledger: str = "scans.ledger") -> list[str]:
        """Return what the command is told on all machines."""
        each = ["--each", f"{self.base}/in/*.zarr", "--ledger", f"{self.base}/{ledger}", "--settle", "0"]
        return ["scans.yaml", *each, "--json"]

    def home(self, machine: int) -> Path:
        """Return the home of a machine, whose only file is the spec."""
        home = self.here / f"machine-{machine}"
        home.mkdir(exist_ok=True)
        (home / "scans.yaml").write_text(SPEC.format(base=self.base, runs=f"{self.base}/runs"))
        return home

    def start(self, machine: int) -> subprocess.Popen[bytes]:
        """Start a watcher on a machine."""
        home = self.home(machine)
        self.said.append(self.here / f"said-{len(self.said)}.jsonl")
        with open(self.said[-1], "wb") as out, open(f"{self.said[-1]}.errors", "wb") as err:
            return subprocess.Popen(
                [sys.executable, "-c", MACHINE, "watch", *self.words(), "--interval", "1"],
                env={**os.environ, **at_home(home), "PYTHONPATH": str(ROOT)},
                cwd=home,
                stdout=out,
                stderr=err,
            )

    def events(self) -> Iterator[dict[str, object]]:
        """Yield what all processes have told."""
        for file in self.said:
            yield from (json.loads(line) for line in file.read_text().splitlines() if line.endswith("}"))

    def errors(self) -> str:
        return "\n".join(Path(f"{file}.errors").read_text() for file in self.said)


@pytest.fixture
def store(objects, tmp_path: Path) -> Store:
    return Store(f"{objects.bucket}/{tmp_path.name}", tmp_path)


def watched(store: Store, count: int, kills: int) -> list[Row]:
    """Let two machines work while one or the other is killed and started again; return the rows of the ledger."""
    chance, until = random.Random(count), time.monotonic() + 120 + 15 * count
    running = [store.start(machine) for machine in range(2)]
    killed = 0
    try:
        with open_ledger(f"{store.base}/scans.ledger") as ledger:
            while True:
                assert time.monotonic() < until, ledger.rows()
                assert all(process.poll() is None for process in running), store.errors()
                rows = ledger.rows()
                done = sum(row.state is State.done for row in rows)
                if done == count and killed == kills:
                    return rows
                # A kill for every so many results, at whatever moment.
                at_work = any(row.state is State.running for row in rows)
                if killed < kills and at_work and done >= killed * count // kills:
                    time.sleep(chance.uniform(0, 1.5))
                    machine = chance.randrange(2)
                    running[machine].send_signal(signal.SIGKILL)
                    running[machine].wait()
                    killed += 1
                    running[machine] = store.start(machine)
                time.sleep(0.2)
    finally:
        for process in running:
            process.kill()
            process.wait()


def require_once(store: Store, rows: Sequence[Row], count: int, kills: int) -> None:
    """Compare with one undisturbed pass on a disk, and count who did what."""
    assert Counter(row.state for row in rows) == {State.done: count}
    assert all(row.report["complete"] for row in rows)
    # Every try but the last one ended with the death of its process.
    assert sum(row.tries - 1 for row in rows) <= kills
    ended = Counter(
        e["address"] for e in store.events() if (e["event"], e.get("state")) == ("source_ended", "done")
    )
    assert len(ended) >= count - kills  # one may be killed before it can tell
    assert set(ended.values()) == {1}
    alone = store.here / "alone"
    (alone / "out").mkdir(parents=True)
    (alone / "scans.yaml").write_text(SPEC.format(base=alone, runs=alone))
    words = ["run", str(alone / "scans.yaml"), "--each", f"{store.here}/sources/*.zarr", "--settle", "0"]
    assert CliRunner().invoke(app, words).exit_code == 0
    for number in range(count):
        name = f"{number:03}.zarr"
        assert contents_of(f"{store.base}/out/{name}") == contents_of(alone / "out" / name) != {}


@pytest.mark.parametrize(
    ("count", "kills"),
    [pytest.param(4, 2, marks=pytest.mark.thorough), pytest.param(48, 10, marks=pytest.mark.slow)],
)
def test_two_machines_do_each_source_once_through_kills_of_either(
    store: Store, count: int, kills: int
) -> None:
    store.save(count)
    rows = watched(store, count, kills)
    require_once(store, rows, count, kills)
    # Nothing of the work lies on a disk.
    for machine in range(2):
        files = {path.name for path in store.home(machine).rglob("*") if path.is_file()}
        assert not [name for name in files if "ledger" in name or "zarr" in name or "run.json" in name], files


def passed(store: Store, machine: int, ledger: str) -> tuple[int, list[str]]:
    """Carry out one pass on a machine with a ledger; return its exit code, and the states of the sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store.home(machine))
        result = CliRunner().invoke(app, ["run", *store.words(ledger)])
    return result.exit_code, [one["state"] for one in json.loads(result.stdout.splitlines()[-1])["sources"]]


@pytest.mark.thorough
def test_what_a_machine_with_another_ledger_has_done_counts_as_done(store: Store) -> None:
    store.save(1)
    assert passed(store, 0, "first.ledger") == (0, ["done"])
    before = contents_of(f"{store.base}/out")
    assert passed(store, 1, "second.ledger") == (0, ["done"])
    assert contents_of(f"{store.base}/out") == before
    words = [
        "watch",
        str(store.home(2) / "scans.yaml"),
        "--ledger",
        f"{store.base}/second.ledger",
        "--status",
    ]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert "1 done" in shown.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert told["ledger"] == f"{store.base}/second.ledger"
    assert [(one["state"], one["report"]["complete"]) for one in told["sources"]] == [("done", True)]
