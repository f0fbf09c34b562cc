"""Driver and workers that have nothing in common but a store: state, journal, lease, source and result lie there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest
import zarr

from pipelines.run.run import run
from pipelines.run.status import status
from pipelines.run.verify import verify
from pipelines.store.places import place_of
from tests.pipelines.chaos import Running
from tests.pipelines.dask_processes import DaskProcesses, at_home, dask_processes
from tests.pipelines.runs import contents_of, ragged_image, save_source, small_spec
from tests.plugin_examples import ROOT

SECRETS = {"AWS_ACCESS_KEY_ID": "AKIANEVERSEEN", "AWS_SECRET_ACCESS_KEY": "never/seen+anywhere"}

MARKERS = "row,column,label\n3,4,1\n150,100,2\n"

EVOLUTION = {"operator": "perona-malik", "contrast": 5000, "conductance": "rational", "steps": 9}


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
    step : dict
    """

    here: Path
    bucket: str
    environment: dict[str, str]
    step: dict[str, object]

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
        assert run(small_spec(source, target, steps=[self.step])).exit_code == 0
        return contents_of(target)

    def start(self, cluster: DaskProcesses) -> Running:
        """Start the command in a home of its own, whose only file is a spec of addresses."""
        home = self.here / "driver"
        environment = {**os.environ, **self.environment, **SECRETS, **at_home(home), "PYTHONPATH": str(ROOT)}
        data = {
            "source": {"uri": f"{self.bucket}/in.zarr"},
            "steps": [self.step],
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


@pytest.fixture
def apart(objects, tmp_path: Path) -> Iterator[Apart]:
    bucket = f"{objects.bucket}/{tmp_path.name}"
    image = ragged_image((200, 170))
    zarr.create_array(f"{bucket}/in.zarr", shape=image.shape, dtype="f4", chunks=(64, 64))[...] = image
    place, path = place_of(f"{bucket}/markers.csv")
    place.write(path, MARKERS.encode())
    return Apart(tmp_path, bucket, objects.environment, EVOLUTION)


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
    # What the processes have written on disks.
    written = {p: p.read_bytes() for p in apart.here.rglob("*") if p.is_file() and p.suffix != ".npy"}
    assert not [path for path in written if "driver" in path.parts and path.name[:4] not in ("spec", "said")]
    assert "perform_group" in keys or "diffuse-run-" in keys
    for secret in SECRETS.values():
        assert secret not in keys
        assert not [name for name, data in {**written, **kept}.items() if secret.encode() in data]
