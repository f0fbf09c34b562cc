"""A worker gets tasks when it has proved that it computes the driver's bits, whenever it joins; others are named."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import diffusion_ops as do
from pipelines.events import Event, TileDone, Waiting, WorkerLeftOut
from pipelines.run.run import Report, run
from pipelines.spec.spec import Spec
from pipelines.tasks.admission import admission, heartbeats
from pipelines.tasks.memory import total_memory
from pipelines.tasks.workers import ClusterError
from tests.pipelines.dask_processes import HIDING, DaskProcesses, dask_processes, wait_until
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec
from tests.plugin_examples import ROOT

OPERATOR = do.PeronaMalik(contrast=5000, conductance="rational")


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return do.evolve(ragged_image(), OPERATOR, steps=12)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that hides our packages from a Python that starts with it."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "sitecustomize.py").write_text(HIDING, encoding="utf-8")
    return folder


def long_spec(folder: Path, **how: str) -> Spec:
    """Return a spec of some seconds, so that something may happen meanwhile."""
    step = {"operator": "perona-malik", "contrast": 5000, "conductance": "rational", "steps": 12}
    source = folder / "source.npy"
    if not source.exists():
        save_source(folder, ragged_image())
    return small_spec(str(source), folder / "out.zarr", steps=[step], run={"batch": 1, **how})


class Run:
    """A run in a thread, and what it has told."""

    def __init__(self, folder: Path, cluster: DaskProcesses) -> None:
        self.target, self.events = folder / "out.zarr", list[Event]()
        self._spec = long_spec(folder, cluster=cluster.address)
        self.report: Report | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._go)
        self._thread.start()

    def _go(self) -> None:
        try:
            self.report = run(self._spec, listeners=[self.events.append])
        except BaseException as error:
            self.error = error

    def until(self, kind: type, count: int = 1) -> None:
        """Return when so many events of a kind were told."""
        self._until(lambda: sum(isinstance(event, kind) for event in self.events) >= count, kind.__name__)

    def until_waiting_for(self, reason: re.Pattern[str]) -> None:
        """Return when the run has said that it waits for a reason."""

        def told() -> bool:
            return any(reason.search(event.reason) for event in self.events if isinstance(event, Waiting))

        self._until(told, reason.pattern)

    def _until(self, told: Callable[[], bool], what: str) -> None:
        wait_until(lambda: told() or not self._thread.is_alive(), what)
        assert self._thread.is_alive(), (self.error, self.events)

    def end(self) -> Report:
        """Return the report at the end."""
        self._thread.join()
        if self.error is not None:
            raise self.error
        assert self.report is not None
        return self.report

    def left_out(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, WorkerLeftOut)]


def require_that_it_goes_on(folder: Path, report: Report, problem: str, expected: np.ndarray) -> None:
    """Fail unless a run has ended for a reason, and the same spec comes to the right bits without the cluster."""
    assert report.exit_code == 3
    assert problem in report.data["problem"]
    assert run(long_spec(folder)).exit_code == 0
    assert read_result(folder / "out.zarr").tobytes() == expected.tobytes()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes a run less patient."""

    def hasten(wait: float = 3.0, differ: float = 1.0) -> None:
        monkeypatch.setattr(admission, "WAIT_SECONDS", wait)
        monkeypatch.setattr(admission, "DIFFER_SECONDS", differ)
        monkeypatch.setattr(admission, "SAY_SECONDS", 0.5)
        monkeypatch.setattr(admission, "LOOK_SECONDS", 0.2)
        monkeypatch.setattr(admission, "REPLY_SECONDS", 1.0)

    return hasten


@pytest.mark.thorough
def test_workers_with_other_code_or_none_are_named_and_get_nothing(tmp_path, expected, edited, empty):
    with dask_processes(tmp_path / "cluster") as cluster:
        others = [cluster.worker(path=[edited]), cluster.worker(path=[empty])]
        job = Run(tmp_path, cluster)
        job.until(WorkerLeftOut, 2)
        cluster.worker()
        report = job.end()
        assert [process.poll() for process in others] == [None, None]
    assert report.exit_code == 0
    assert read_result(job.target).tobytes() == expected.tobytes()
    code, package = sorted(job.left_out())
    assert code.startswith("code is 0.")
    assert ", wanted 0." in code
    assert package == "this program: ModuleNotFoundError: No module named 'pipelines'"
    assert sorted(report.data["workers_left_out"].values()) == [code, package]


@pytest.mark.slow
def test_a_worker_whose_files_changed_after_it_had_loaded_them_gets_nothing(tmp_path, quick):
    """Its files prove what is on the disk, and what it computes with is what it has loaded."""
    quick(wait=60)
    for package in ("diffusion_ops", "pipelines"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    loaded = tmp_path / "loaded"
    preload = tmp_path / "preload.py"
    preload.write_text(f"import diffusion_ops.evolve, pathlib; pathlib.Path({str(loaded)!r}).touch()\n")
    with dask_processes(tmp_path / "cluster") as cluster:
        cluster.worker("--preload", str(preload), path=[tmp_path])
        wait_until(loaded.exists, "a worker")
        os.utime(tmp_path / "diffusion_ops" / "evolve.py")
        job = Run(tmp_path, cluster)
        with pytest.raises(ClusterError, match=r"its files have changed since the process began to use them"):
            job.end()


@pytest.mark.slow
def test_a_run_without_a_right_worker_is_refused(tmp_path, edited, quick):
    quick(wait=60)
    with dask_processes(tmp_path / "cluster") as cluster:
        cluster.worker(path=[edited])
        job = Run(tmp_path, cluster)
        with pytest.raises(
            ClusterError, match=r"No worker at tcp://.* may have tasks.*code is .*restart the workers"
        ):
            job.end()
    assert not job.target.exists()


def test_a_scheduler_without_workers_is_said_and_given_up(tmp_path, quick):
    quick()
    with dask_processes(tmp_path / "cluster") as cluster:
        job = Run(tmp_path, cluster)
        with pytest.raises(
            ClusterError, match=r"has no workers. Start one with `dask worker tcp://.*gives up after"
        ):
            job.end()
    reasons = [event.reason for event in job.events if isinstance(event, Waiting)]
    assert reasons
    assert "has no workers" in reasons[0]


@pytest.mark.slow
def test_a_worker_that_replaces_the_only_one_gets_its_tasks(tmp_path, expected, quick):
    quick(wait=60)
    with dask_processes(tmp_path / "cluster") as cluster:
        only = cluster.worker()
        job = Run(tmp_path, cluster)
        job.until(TileDone)
        only.kill()
        job.until(Waiting)
        cluster.worker()
        assert job.end().exit_code == 0
    assert read_result(job.target).tobytes() == expected.tobytes()


@pytest.mark.slow
def test_all_workers_lost_for_good_end_a_run_that_can_go_on(tmp_path, expected, quick):
    with dask_processes(tmp_path / "cluster") as cluster:
        only = cluster.worker()
        job = Run(tmp_path, cluster)
        job.until(TileDone)
        quick()
        only.kill()
        report = job.end()
    require_that_it_goes_on(tmp_path, report, "has no workers", expected)


@pytest.mark.slow
def test_a_stopped_worker_that_comes_back_changes_nothing(tmp_path, expected, quick):
    quick(wait=60)
    with dask_processes(tmp_path / "cluster") as cluster:
        stopped = cluster.worker()
        cluster.worker()
        job = Run(tmp_path, cluster)
        job.until(TileDone)
        stopped.send_signal(signal.SIGSTOP)
        time.sleep(2)
        stopped.send_signal(signal.SIGCONT)
        assert job.end().exit_code == 0
    assert read_result(job.target).tobytes() == expected.tobytes()


@pytest.mark.slow
def test_workers_that_are_all_stopped_are_named_long_before_dask_gives_them_up(
    tmp_path, expected, quick, monkeypatch
):
    quick(wait=60)
    monkeypatch.setattr(heartbeats, "SILENT_SECONDS", 4.0)
    with dask_processes(tmp_path / "cluster") as cluster:
        workers = [cluster.worker(), cluster.worker()]
        job = Run(tmp_path, cluster)
        job.until(TileDone)
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        named = re.compile(r"2 of 2 workers give no sign of life: tcp://127\.0\.0\.1:\d+, tcp://")
        job.until_waiting_for(named)
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
        assert job.end().exit_code == 0
    assert read_result(job.target).tobytes() == expected.tobytes()


@pytest.mark.thorough
def test_a_scheduler_that_dies_ends_a_run_that_can_go_on(tmp_path, expected, quick):
    with dask_processes(tmp_path / "cluster") as cluster:
        cluster.worker()
        job = Run(tmp_path, cluster)
        job.until(TileDone)
        # A machine that is busy may be slow to say that it is gone.
        quick(wait=20)
        cluster.scheduler.kill()
        report = job.end()
    require_that_it_goes_on(tmp_path, report, "The scheduler is gone", expected)


@pytest.mark.slow
def test_a_scheduler_that_is_started_anew_ends_a_run_that_can_go_on(tmp_path, expected, quick):
    quick(wait=60)
    with dask_processes(tmp_path / "cluster") as cluster:
        cluster.worker()

        def restart(event: Event) -> None:
            # The driver is here meanwhile, and finds a connection that works, to another scheduler.
            if isinstance(event, TileDone) and cluster.scheduler.poll() is None and not restarted:
                restarted.append(event)
                time.sleep(3)
                cluster.scheduler.kill()
                cluster.start_scheduler()
                time.sleep(3)

        restarted: list[Event] = []
        report = run(long_spec(tmp_path, cluster=cluster.address), listeners=[restart])
    require_that_it_goes_on(tmp_path, report, "The scheduler is gone", expected)


@pytest.mark.slow
def test_a_stopped_scheduler_that_comes_back_is_waited_for(tmp_path, expected, quick):
    with dask_processes(tmp_path / "cluster") as cluster:
        cluster.worker()
        job = Run(tmp_path, cluster)
        job.until(TileDone)
        quick(wait=60)
        cluster.scheduler.send_signal(signal.SIGSTOP)
        # Under load it has waited for the worker before.
        job.until_waiting_for(re.compile("does not answer"))
        cluster.scheduler.send_signal(signal.SIGCONT)
        assert job.end().exit_code == 0
    assert read_result(job.target).tobytes() == expected.tobytes()


@pytest.mark.slow
def test_workers_that_die_for_want_of_memory_are_said(tmp_path):
    with dask_processes(tmp_path / "cluster") as cluster:
        cluster.worker("--memory-limit", "100MiB", nanny=True)
        job = Run(tmp_path, cluster)
        with pytest.raises(
            ClusterError,
            match=rf"ended before they could answer.*memory limit is below.* {total_memory([], 0) >> 20} MiB",
        ):
            job.end()
