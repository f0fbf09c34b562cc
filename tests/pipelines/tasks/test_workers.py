"""Workers on this machine."""

from __future__ import annotations

import os

import psutil
import pytest

from pipelines.tasks.workers import own_workers
from tests.pipelines.chaos import workers_of
from tests.pipelines.dask_processes import wait_until


@pytest.mark.slow
def test_a_worker_that_takes_long_to_come_back_comes_back(tmp_path, monkeypatch):
    with own_workers(1, 1, processes=True, dashboard=False) as workers:
        (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(20)\n", encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        (first,) = workers.client.scheduler_info()["workers"]
        workers_of(psutil.Process())[0].kill()
        wait_until(
            lambda: set(workers.client.scheduler_info()["workers"]) not in ({first}, set()), "another worker"
        )
        assert workers.client.submit(abs, -1).result() == 1
