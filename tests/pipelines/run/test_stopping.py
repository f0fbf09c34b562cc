"""A run that is asked to stop, or has taken as long as it may, ends in order, and the same command goes on."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import diffusion_ops as do
from pipelines.cli.command import app
from pipelines.events import TileDone
from pipelines.refusal import TerminatedError
from pipelines.run.run import run
from pipelines.spec.spec import Spec, load_spec
from pipelines.stopping import Stopping
from tests.pipelines.run.test_never_lost import events_of, start, wait_for_tiles
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec

SPEC = """
source: {uri: source.npy}
steps: [{operator: perona-malik, contrast: 5000, conductance: rational, steps: 12}]
sink: {uri: out.zarr, chunk: 128}
run: {tile: 128, batch: 4, threads: 2, memory: 3GiB}
"""


@pytest.fixture(scope="module")
def expected() -> bytes:
    operator = do.PeronaMalik(contrast=5000, conductance="rational")
    return do.evolve(ragged_image((900, 1000)), operator, steps=12).tobytes()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    save_source(tmp_path, ragged_image((900, 1000)))
    path = tmp_path / "out.yaml"
    path.write_text(SPEC)
    return path


def finish(spec: Path, expected: bytes) -> dict:
    """Run a spec to its end, and return the report."""
    report = run(load_spec(spec)).data
    assert report["complete"]
    assert read_result(spec.with_suffix(".zarr")).tobytes() == expected
    return report


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("cluster", ["threads", pytest.param("local", marks=pytest.mark.thorough)])
def test_sigterm_lets_tiles_end_and_the_same_command_goes_on(spec, expected, cluster):
    process = start(spec, "--cluster", cluster)
    wait_for_tiles(spec.parent, "out", 20, process)
    process.terminate()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    report = events_of(output)[-1]["report"]
    assert (report["complete"], report["ended_by"], report["failed"]) == (False, "terminated", [])
    assert report["problem"] == (
        "The run was asked to stop (SIGTERM). Finished tiles are kept: the same command goes on."
    )
    assert finish(spec, expected)["tiles_resumed"] == report["tiles_done"] >= 20


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.thorough
def test_a_run_that_waits_for_workers_ends_at_once(spec):
    from tests.pipelines.dask_processes import dask_processes

    with dask_processes(spec.parent / "cluster") as processes:
        process = start(spec, "--cluster", processes.address)
        assert process.stdout is not None
        while '"waiting"' not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert events_of(output)[-1]["event"] == "terminated"
    assert "Terminated. Finished tiles are kept. Go on with:" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.thorough
def test_a_process_that_was_stopped_for_long_goes_on(spec, expected, monkeypatch):
    """Such as by a laptop that was shut: Dask's scheduler would give up a worker that has said nothing meanwhile."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "1s")
    process = start(spec)
    wait_for_tiles(spec.parent, "out", 20, process)
    process.send_signal(signal.SIGSTOP)
    time.sleep(8)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert read_result(spec.with_suffix(".zarr")).tobytes() == expected


def test_a_second_request_does_not_wait():
    stopping = Stopping()
    with pytest.raises(TerminatedError):
        stopping.ask()
    with stopping.gently():
        stopping.ask()
        assert (stopping.reason, stopping.is_over) == ("terminated", False)
        with pytest.raises(TerminatedError):
            stopping.ask()


def test_whether_a_run_is_cancelled_is_asked_seldom():
    stopping, asked = Stopping(), []
    for _ in range(1000):
        assert stopping.heed(lambda: asked.append(None) is not None) == ""
    assert len(asked) < 10
    assert Stopping().heed(lambda: True) == "cancelled"
    assert Stopping(walltime=0).heed(lambda: True) == "walltime"


def limited(folder: Path, walltime: str) -> Spec:
    return small_spec(str(folder / "source.npy"), folder / "out.zarr", run={"walltime": walltime})


def test_a_run_takes_no_tiles_after_its_walltime(tmp_path):
    image = ragged_image()
    save_source(tmp_path, image)

    def take_time(event: object) -> None:
        if isinstance(event, TileDone):
            time.sleep(0.01)

    codes = []
    while 0 not in codes:
        began = time.monotonic()
        report = run(limited(tmp_path, "1 s"), listeners=[take_time])
        assert time.monotonic() - began < 10
        codes.append(report.exit_code)
        assert len(codes) < 20
    assert codes[0] == 75
    assert set(codes) == {75, 0}
    operator = do.PeronaMalik(contrast=5000, conductance="rational")
    assert np.array_equal(
        read_result(tmp_path / "out.zarr"), do.evolve(image, operator, steps=9), equal_nan=True
    )


def test_the_command_ends_with_75_at_its_walltime(spec):
    done = CliRunner().invoke(app, ["run", str(spec), "--walltime", "1 ms"])
    assert done.exit_code == 75, done.stderr
    assert "as long as it may (run.walltime). Finished tiles are kept" in done.stdout
