"""Driver and workers that have nothing in common but a store: state, journal, lease, source and result lie there."""

from __future__ import annotations

import html
import json
import os
import signal
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import distributed
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from pipelines import stopping
from pipelines.cli.command import app
from pipelines.events import TileLost
from pipelines.record.journal import Claimed, Published
from pipelines.refusal import RefusedError
from pipelines.run import driver
from pipelines.run.repair import repair
from pipelines.run.run import run
from pipelines.run.status import cancel, status
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec, SpecError, make_spec
from pipelines.store.places import place_of
from pipelines.store.upload import upload_folder
from tests.faulty_proxy import Fault
from tests.pipelines.chaos import Running
from tests.pipelines.dask_processes import DaskProcesses, at_home, dask_processes
from tests.pipelines.object_server import ObjectServer
from tests.pipelines.runs import contents_of, ragged_image, save_source, small_spec
from tests.plugin_examples import ROOT

SECRETS = {"AWS_ACCESS_KEY_ID": "AKIANEVERSEEN", "AWS_SECRET_ACCESS_KEY": "never/seen+anywhere"}

EVOLUTION = {"operator": "perona-malik", "contrast": 5000, "conductance": "rational", "steps": 9}
LONG = {**EVOLUTION, "steps": 24}
"""Takes longer than a journal in a store keeps lines to itself."""


@dataclass
class Apart:
    """A store, and the spec of a run in it.

    Attributes
    ----------
    here : Path
        Folder of the test.
    bucket : str
        Address that nothing else uses.
    environment : dict
        What all processes are told of the store.
    """

    here: Path
    bucket: str
    environment: dict[str, str]

    @property
    def target(self) -> str:
        return f"{self.bucket}/out.ome.zarr"

    @property
    def workdir(self) -> str:
        return f"{self.target}.run"

    def expected(self) -> dict[str, bytes]:
        """Return the bytes of the result of threads on a disk."""
        source = save_source(self.here, ragged_image((200, 170)))
        target = self.here / "out.ome.zarr"
        assert run(small_spec(source, target, steps=[LONG])).exit_code == 0
        return contents_of(target)

    def start(self, cluster: DaskProcesses) -> Running:
        """Start the command in a home of its own, whose only file is a spec of addresses."""
        home = self.here / "driver"
        environment = {**os.environ, **self.environment, **SECRETS, **at_home(home), "PYTHONPATH": str(ROOT)}
        data = {
            "source": {"uri": f"{self.bucket}/in.zarr"},
            "steps": [LONG],
            "sink": {"uri": self.target, "chunk": 64},
            "run": {"tile": 64, "batch": 4, "threads": 2, "cluster": cluster.address, "memory": "3GiB"},
        }
        (home / "spec.yaml").write_text(json.dumps(data))
        job = SimpleNamespace(folder=home, environment=environment)
        return Running(job, [sys.executable, "-m", "pipelines.cli.command", "run", "spec.yaml", "--json"])

    def worker(self, cluster: DaskProcesses, number: int) -> object:
        """Start a worker in a home of its own."""
        home = self.here / f"worker-{number}"
        return cluster.worker(home=home, environment={**self.environment, **SECRETS})


def save_image(uri: str, image: np.ndarray) -> None:
    """Save an image under a path, or in a store as another library does."""
    zarr.create_array(uri, shape=image.shape, dtype="f4", chunks=(64, 64))[...] = image


@pytest.fixture
def apart(objects, tmp_path: Path) -> Iterator[Apart]:
    bucket = f"{objects.bucket}/{tmp_path.name}"
    save_image(f"{bucket}/in.zarr", ragged_image((200, 170)))
    return Apart(tmp_path, bucket, objects.environment)


def keys_of(cluster: DaskProcesses) -> str:
    """Return all that a scheduler remembers of its tasks, their keys among it."""
    with distributed.Client(cluster.address) as client:
        return client.run_on_scheduler(lambda dask_scheduler: repr(list(dask_scheduler.transition_log)))


def test_nothing_is_lost_without_a_shared_disk_and_no_secret_is_told(apart: Apart) -> None:
    expected = apart.expected()
    with dask_processes(apart.here / "cluster") as cluster:
        workers = [apart.worker(cluster, number) for number in range(2)]
        killed = apart.start(cluster)
        assert killed.until_tiles(8), killed.errors()
        workers[0].kill()
        assert killed.until_tiles(2), killed.errors()
        # What is not in a segment yet is done again.
        assert killed.until(lambda: any(stage["done"] for stage in status(apart.target)["stages"])), (
            killed.errors()
        )
        assert status(apart.target)["running"]
        killed.kill("drivers without a shared disk")
        apart.worker(cluster, 2)
        again = apart.start(cluster)
        assert again.end() == 0, again.errors()
        keys = keys_of(cluster)
    assert contents_of(apart.target) == expected
    standing = status(apart.target)
    assert standing["complete"]
    assert not standing["running"]
    assert standing["report"]["tiles_resumed"] > 0
    assert verify(apart.target, samples=2)["ok"]
    kept = contents_of(apart.workdir)
    assert {name.partition("/")[0] for name in kept} == {
        "run.json",
        "report.json",
        "workers.json",
        "epoch",
        "journal",
    }
    # What the processes have written on disks. What one was about to send as it was killed is a temporary file.
    written = {p: p.read_bytes() for p in apart.here.rglob("*") if p.is_file() and p.suffix != ".npy"}
    lasting = [path.relative_to(apart.here).parts for path in written]
    assert not [
        path for path in lasting if path[0] == "driver" and path[1][:4] not in ("spec", "said", "tmp")
    ]
    assert "perform_group" in keys or "diffuse-run-" in keys
    for secret in SECRETS.values():
        assert secret not in keys
        assert not [name for name, data in {**written, **kept}.items() if secret.encode() in data]


@pytest.mark.thorough
def test_no_page_of_a_dashboard_tells_a_secret(apart: Apart, objects: ObjectServer) -> None:
    """While a run is at work, and some of its reads are denied for good."""
    pytest.importorskip("bokeh", reason="the extra dashboard is not installed")
    from tests.pipelines.dashboard_pages import pages_of

    denied = objects.proxy.add(Fault.denied, method="GET", path="in.zarr/c/2/1")
    with dask_processes(apart.here / "cluster", dashboard=True) as cluster:
        apart.worker(cluster, 0)
        running = apart.start(cluster)
        assert running.until(lambda: denied.used > 0), running.errors()
        # It stays at work for as long as one looks.
        running.process.send_signal(signal.SIGSTOP)
        try:
            with distributed.Client(cluster.address) as client:
                pages = pages_of(client)
        finally:
            running.process.send_signal(signal.SIGCONT)
        assert running.end() == 3
        assert "in.zarr" in running.errors() + running.output().rpartition("problem")[2]
    assert len(pages) > 30
    assert "diffuse-" in "".join(pages.values()), "no page shows the run"
    for secret in SECRETS.values():
        forms = (secret, html.escape(secret), json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe=""))
        assert not [url for url, said in pages.items() if any(form in said for form in forms)]


# ---- by threads: what is particular to a folder in a store


def stored_spec(apart: Apart, target: str, **sections: object) -> Spec:
    """Return the spec of a small run whose folder is in the store."""
    sections = {"steps": [EVOLUTION], **sections}
    sections["run"] = {"workdir": f"{apart.bucket}/kept/one.run", **sections.get("run", {})}
    return small_spec(f"{apart.bucket}/in.zarr", target, **sections)


@pytest.fixture
def small(objects, tmp_path: Path) -> Apart:
    """Return a store with a smaller image, of four tiles."""
    save_image(f"{objects.bucket}/{tmp_path.name}/in.zarr", image := ragged_image((100, 90)))
    np.save(tmp_path / "source.npy", image)
    (tmp_path / "markers.csv").write_text("row,column,label\n3,4,1\n90,80,2\n")
    return Apart(tmp_path, f"{objects.bucket}/{tmp_path.name}", objects.environment)


KINDS = {
    "front": [{"operator": "eikonal", "markers": "markers.csv"}],
    "graph": [{"operator": "thresholding"}, {"operator": "components"}],
    "holes": [{"operator": "inpainting", "by": "biharmonic"}],
    "steady": [{"operator": "random-walker", "markers": "markers.csv", "tolerance": 1e-2}],
    "second order": [{"operator": "eikonal", "markers": "markers.csv", "order": 2}],
    "levels": [{"operator": "inpainting", "rounds": 2}],
    "path": [
        {"name": "times", "operator": "eikonal", "markers": "markers.csv"},
        {"operator": "shortest-path", "input": "times", "markers": "markers.csv"},
    ],
    "adaptive": [{"operator": "heat", "time": 4, "schedule": {"adaptive": 2.0}}],
}


IN_CI = {"front": (), "graph": pytest.mark.thorough, "holes": pytest.mark.thorough}
"""Marks of those that take seconds."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=IN_CI.get(kind, pytest.mark.slow)) for kind in KINDS]
)
def test_every_kind_of_work_keeps_its_state_in_a_store(small: Apart, kind: str) -> None:
    named = {"markers": str(small.here / "markers.csv")}
    steps = [{**step, **(named if "markers" in step else {})} for step in KINDS[kind]]
    on_disk, stored = small.here / "out.zarr", f"{small.bucket}/out.zarr"
    assert run(small_spec(str(small.here / "source.npy"), on_disk, steps=steps)).exit_code == 0
    report = run(stored_spec(small, stored, steps=steps))
    assert report.exit_code == 0, report.data
    assert report.data["memory"]["measured"] <= report.data["memory"]["limit"]
    assert contents_of(stored) == contents_of(on_disk)


@pytest.mark.thorough
def test_a_store_of_another_maker_keeps_a_run_through_the_death_of_its_driver(
    container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Apart(tmp_path, f"{container}/{tmp_path.name}", {})
    image = ragged_image((100, 90))
    save_image(str(tmp_path / "in.zarr"), image)
    upload_folder(tmp_path / "in.zarr", f"{here.bucket}/in.zarr")
    spec, on_disk = stored_spec(here, f"{here.bucket}/out.zarr"), tmp_path / "out.zarr"
    assert run(small_spec(save_source(tmp_path, image), on_disk, steps=[EVOLUTION])).exit_code == 0
    with monkeypatch.context() as patch:
        die_after(patch, 3)
        with pytest.raises(DiedError):
            run(spec)
    assert state_of(f"{here.bucket}/kept")
    report = run(spec)
    assert report.exit_code == 0, report.data
    assert contents_of(f"{here.bucket}/out.zarr") == contents_of(on_disk)
    assert verify(str(spec.sink.uri), workdir=spec.workdir)["ok"]


class DiedError(Exception):
    """The process has died at this moment."""


def die_after(patch: pytest.MonkeyPatch, tiles: int) -> None:
    """Let a driver die, without a word to its journal, after so many tiles."""
    note, done = driver.Driver._note, list[object]()

    def note_or_die(self: driver.Driver, event: object) -> object:
        done.append(event)
        if len(done) > tiles:
            self.workdir.journal.close = lambda: None
            raise DiedError
        return note(self, event)

    patch.setattr(driver.Driver, "_note", note_or_die)


def state_of(workdir: str) -> list[str]:
    """Return the names of the chunks of states."""
    return sorted(name for name in contents_of(workdir) if "/state/" in name and "/c/" in name)


def harm(damaged: str, lost: str) -> None:
    """Change a bit of a chunk, and remove another one."""
    place, path = place_of(damaged)
    data = bytearray(place.read(path))
    data[5] ^= 4
    place.write(path, bytes(data))
    place, path = place_of(lost)
    place.delete([path])


def lost_tiles(told: list[object]) -> list[tuple[int, int]]:
    """Return the stages and numbers of the tiles that are done again, of all events."""
    return sorted((event.stage, event.tile) for event in told if isinstance(event, TileLost))


@pytest.mark.parametrize("name", ["out.zarr", pytest.param("out.tif", marks=pytest.mark.thorough)])
def test_what_a_store_has_lost_of_a_state_is_computed_again(
    small: Apart, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also to a target on the disk of the driver, which the workers do not see."""
    target = small.here / name
    spec = stored_spec(small, str(target))
    with monkeypatch.context() as patch:
        die_after(patch, 7)
        with pytest.raises(DiedError):
            run(spec)
    assert verify(str(target), workdir=spec.workdir)["ok"]
    chunks = [f"{spec.workdir}/{name}" for name in state_of(spec.workdir)]
    harm(damaged=chunks[0], lost=chunks[1])
    assert not verify(str(target), workdir=spec.workdir)["ok"]
    told = list[object]()
    report = run(spec, listeners=[told.append])
    assert len(lost_tiles(told)) == 2
    assert report.exit_code == 0, report.data
    assert report.data["tiles_resumed"] > 0
    expected = small.here / f"expected-{name}"
    assert run(small_spec(str(small.here / "source.npy"), expected, steps=[EVOLUTION])).exit_code == 0
    if name.endswith(".zarr"):
        assert contents_of(target) == contents_of(expected)
    else:
        assert target.read_bytes() == expected.read_bytes()
    assert not state_of(spec.workdir)


@pytest.mark.thorough
@pytest.mark.parametrize("there", [True, False])
def test_what_a_store_has_lost_of_a_result_is_computed_alone(small: Apart, there: bool) -> None:
    target = f"{small.bucket}/out.ome.zarr" if there else str(small.here / "out.ome.zarr")
    spec = stored_spec(small, target, sink={"pyramid": 1})
    assert run(spec).exit_code == 0
    before, around = contents_of(target), sorted(small.here.iterdir())
    assert repair(target, workdir=spec.workdir)["tiles"] == 0
    for damaged, lost, tiles in (("0/c/1/1", "0/c/0/1", [1, 3]), ("1/c/0/0", "0/c/1/0", [2, 0])):
        harm(f"{target}/{damaged}", f"{target}/{lost}")
        assert not verify(target, samples=1, workdir=spec.workdir)["ok"]
        told = list[object]()
        done = repair(target, [told.append], spec.workdir)
        assert (done["ok"], done["whole"], done["tiles"], len(done["damaged"])) == (True, "", 2, 2)
        assert [tile for _, tile in lost_tiles(told)] == tiles
        assert contents_of(target) == before
        assert verify(target, workdir=spec.workdir)["ok"]
    assert sorted(small.here.iterdir()) == around


@pytest.mark.parametrize(
    ("moment", "there"),
    [
        (Published, True),
        pytest.param(Published, False, marks=pytest.mark.thorough),
        pytest.param(Claimed, True, marks=pytest.mark.thorough),
    ],
)
def test_a_result_on_its_way_from_the_store_is_not_lost(
    small: Apart, monkeypatch: pytest.MonkeyPatch, moment: type, there: bool
) -> None:
    target = f"{small.bucket}/out.ome.zarr" if there else str(small.here / "out.ome.zarr")
    spec = stored_spec(small, target)
    note = driver.Driver._note

    def note_or_die(self: driver.Driver, event: object) -> object:
        if isinstance(event, moment):
            raise DiedError
        return note(self, event)

    with monkeypatch.context() as patch:
        patch.setattr(driver.Driver, "_note", note_or_die)
        with pytest.raises(DiedError):
            run(spec)
    report = run(spec)
    assert report.exit_code == 0, report.data
    expected = small.here / "expected" / "out.ome.zarr"
    expected.parent.mkdir()
    assert run(small_spec(str(small.here / "source.npy"), expected, steps=[EVOLUTION])).exit_code == 0
    assert contents_of(target) == contents_of(expected)
    assert not [name for name in contents_of(spec.workdir) if name.startswith("run-")]


def test_a_folder_in_a_store_is_cleaned_of_the_runs_own_objects_alone(small: Apart) -> None:
    spec = stored_spec(small, f"{small.bucket}/out.zarr")
    place, base = place_of(spec.workdir)
    assert run(spec).exit_code == 0
    strangers = ("letter.txt", "run-mine/c/0", "journal/letter.txt", "run-0123456789abc/x")
    for name in strangers:
        place.write(f"{base}/{name}", b"dear")
    place.write(f"{base}/run-0123456789ab/state/x", b"what an earlier run has left")
    assert run(spec, overwrite=True).exit_code == 0
    left = contents_of(spec.workdir)
    assert {name for name in left if left[name] == b"dear"} == set(strangers)
    assert not [name for name in left if name.startswith("run-0123456789ab/")]
    assert verify(spec.sink.uri, samples=1, workdir=spec.workdir)["ok"]


def test_a_folder_of_something_else_in_a_store_is_refused(small: Apart) -> None:
    spec = stored_spec(small, f"{small.bucket}/out.zarr")
    place, base = place_of(spec.workdir)
    place.write(f"{base}/letter.txt", b"dear")
    with pytest.raises(RefusedError, match=r"is no folder of a run: it holds letter\.txt"):
        run(spec)
    assert contents_of(spec.workdir) == {"letter.txt": b"dear"}


def test_a_run_in_a_store_can_be_cancelled_from_anywhere(
    small: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = stored_spec(small, f"{small.bucket}/out.zarr")
    take = driver.Driver._take

    def take_and_cancel(self: driver.Driver, *told: object) -> None:
        take(self, *told)
        assert cancel(spec.sink.uri, spec.workdir)["asked"]

    with monkeypatch.context() as patch:
        patch.setattr(driver.Driver, "_take", take_and_cancel)
        patch.setattr(stopping, "LOOK_SECONDS", 0.0)
        assert run(spec).exit_code == 75
    assert run(spec).exit_code == 0


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://x.run", "Give run.workdir a folder on a disk"),
        ("abc://x/y.run", "Protocol not known"),
        ("s3://key:secret@bucket/x.run", "user name, a password or a token"),
    ],
)
def test_what_cannot_be_the_folder_of_a_run_is_refused(small: Apart, address: str, said: str) -> None:
    spec = {
        "source": {"uri": "source.npy"},
        "steps": [EVOLUTION],
        "sink": {"uri": "out.zarr"},
        "run": {"workdir": address},
    }
    (small.here / "spec.yaml").write_text(json.dumps(spec))
    before = sorted(small.here.rglob("*"))
    result = CliRunner().invoke(app, ["run", str(small.here / "spec.yaml")])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "secret" not in result.stderr
    assert sorted(small.here.rglob("*")) == before


def test_the_folder_is_beside_a_target_in_a_store_where_workers_are_elsewhere() -> None:
    data = {"source": {"uri": "s3://a/in.zarr"}, "steps": [EVOLUTION], "sink": {"uri": "s3://a/out.zarr/"}}
    assert make_spec({**data, "run": {"cluster": "tcp://10.0.0.1:8786"}}).workdir == "s3://a/out.zarr.run"
    with pytest.raises(SpecError, match=r"run\.workdir: one of this machine is faster"):
        make_spec(data)
    with pytest.raises(SpecError, match=r"run\.workdir"):
        make_spec({**data, "run": {"cluster": "local"}})
