"""Driver, scheduler and workers on three hosts: the bytes of threads, also where one of them is cut off."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipelines.record.journal import FileJournal, Finished
from pipelines.run.run import run
from tests.pipelines.dask_processes import wait_until
from tests.pipelines.network import DRIVER, WORKER, Hosts
from tests.pipelines.runs import contents_of, ragged_image, small_spec

STEPS = [{"operator": "perona-malik", "contrast": 5000, "conductance": "rational", "steps": 240}]
HOW = {"tile": 64, "batch": 8}

pytestmark = [
    pytest.mark.thorough,
]


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, bytes]:
    """Return the bytes of a run with threads."""
    np.save(tmp_path / "source.npy", ragged_image())
    run(small_spec(str(tmp_path / "source.npy"), tmp_path / "threads.zarr", steps=STEPS, run=HOW))
    return contents_of(tmp_path / "threads.zarr")


def spec_of(hosts: Hosts) -> Path:
    data = {
        "source": {"uri": "source.npy"},
        "steps": STEPS,
        "sink": {"uri": "out.zarr", "chunk": 64},
        "run": {**HOW, "cluster": hosts.address, "memory": "2GiB"},
    }
    path = hosts.folder / "spec.json"
    path.write_text(json.dumps(data))
    return path


def tiles_done(folder: Path) -> int:
    path = folder / "out.zarr.run" / "journal.jsonl"
    events = FileJournal(path).events(repair=False) if path.exists() else ()
    return sum(isinstance(event, Finished) for event in events)


@pytest.mark.parametrize("seconds", [5, None], ids=["for a while", "for good"])
def test_a_worker_that_is_cut_off_changes_no_bit(hosts, wanted, seconds):
    process = hosts.driver(spec_of(hosts))
    wait_until(lambda: tiles_done(hosts.folder) > 100, "a tenth of the run")
    hosts.net.cut(WORKER)
    before = tiles_done(hosts.folder)
    if seconds is not None:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(seconds)
        hosts.net.mend(WORKER)
    assert process.wait(240) == 0
    assert tiles_done(hosts.folder) > before
    assert contents_of(hosts.folder / "out.zarr") == wanted


def test_a_driver_that_is_cut_off_says_so_and_goes_on(hosts, wanted):
    process = hosts.driver(spec_of(hosts))
    wait_until(lambda: tiles_done(hosts.folder) > 100, "a tenth of the run")
    hosts.net.cut(DRIVER)
    assert process.wait(240) == 3
    assert tiles_done(hosts.folder) > 100
    hosts.net.mend(DRIVER)
    assert hosts.driver(spec_of(hosts)).wait(240) == 0
    assert contents_of(hosts.folder / "out.zarr") == wanted
