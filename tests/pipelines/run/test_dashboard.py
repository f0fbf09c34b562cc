"""A run says where Dask's dashboard is: its own where one is asked for, or that of the scheduler it runs on."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster

from pipelines.events import Connected, Event
from pipelines.image.open_source import open_source
from pipelines.plan.search import make_plan
from pipelines.run.run import run
from pipelines.run.status import status
from pipelines.tasks.workers import DASHBOARD_BYTES
from tests.base_install import environment
from tests.pipelines.runs import save_source, small_spec

pytest.importorskip("bokeh", reason="the extra dashboard is not installed")


class Visitor:
    """Opens the dashboard of a run as soon as its workers are there."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)
        self.address, self.page = "", ""
        self.standing: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Connected):
            self.address = event.dashboard
            self.standing = status(self.target)
            if self.address:
                with urllib.request.urlopen(self.address, timeout=20) as answer:
                    self.page = answer.read().decode()


def visited(target: Path, cluster: str, **how: Any) -> Visitor:
    """Return who visited a small run that is done now."""
    source = save_source(target.parent, np.random.default_rng(0).random((70, 80), np.float32))
    visitor = Visitor(target)
    spec = small_spec(source, target, run={"cluster": cluster, **how})
    report = run(spec, listeners=[visitor])
    assert report.exit_code == 0
    assert report.data["dashboard"] == visitor.address
    assert status(str(target))["dashboard"] == "", "nothing is shown of a run that is over"
    return visitor


@pytest.mark.thorough
@pytest.mark.parametrize("cluster", ["threads", "local"])
def test_a_run_serves_its_dashboard_where_one_is_asked_for(tmp_path: Path, cluster: str) -> None:
    visitor = visited(tmp_path / "out.zarr", cluster, dashboard=True)
    assert visitor.address.startswith("http://127.0.0.1:")
    assert "Dask" in visitor.page
    assert visitor.standing["dashboard"] == visitor.address
    assert visitor.standing["running"]


def test_a_run_serves_none_by_default(tmp_path: Path) -> None:
    visitor = visited(tmp_path / "out.zarr", "threads")
    assert visitor.address == visitor.standing["dashboard"] == ""


@pytest.mark.thorough
def test_a_run_says_the_dashboard_of_its_scheduler(tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster:
        visitor = visited(tmp_path / "out.zarr", cluster.scheduler_address)
        assert visitor.address == cluster.dashboard_link
        assert "Dask" in visitor.page


def test_the_plan_counts_the_memory_of_a_dashboard_of_its_own(tmp_path: Path) -> None:
    source = save_source(tmp_path, np.ones((70, 80), np.float32))

    def memory(cluster: str, dashboard: bool) -> int:
        spec = small_spec(source, tmp_path / "out.zarr", run={"cluster": cluster, "dashboard": dashboard})
        return make_plan(spec, open_source(spec.source).info).memory_total

    for own in ("threads", "local"):
        assert memory(own, True) - memory(own, False) == DASHBOARD_BYTES
    assert memory("tcp://127.0.0.1:8786", True) == memory("tcp://127.0.0.1:8786", False)


@pytest.mark.thorough
def test_a_dashboard_without_its_library_is_refused(tmp_path: Path) -> None:
    source = save_source(tmp_path, np.ones((70, 80), np.float32))
    verb = ["apply", "heat", source, "out.zarr", "--time", "1", "--dashboard"]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli.command", *verb],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'diffuse[dashboard]'" in done.stderr
    assert not (tmp_path / "out.zarr.run").exists()


@pytest.mark.thorough
def test_the_command_says_where_the_dashboard_is(tmp_path: Path) -> None:
    source = save_source(tmp_path, np.ones((70, 80), np.float32))
    verb = ["apply", "heat", source, "out.zarr", "--time", "1", "--dashboard", "--json"]
    command = [sys.executable, "-m", "pipelines.cli.command", *verb]
    lines = subprocess.check_output(command, cwd=tmp_path, text=True, timeout=120).splitlines()
    (connected,) = (event for event in map(json.loads, lines) if event["event"] == "connected")
    assert connected["cluster"] == "threads"
    assert connected["dashboard"].startswith("http://127.0.0.1:")
