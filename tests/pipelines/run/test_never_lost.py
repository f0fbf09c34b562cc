"""Kill anything at any time: the same command finishes, redoes only unfinished tiles, and the bytes are the same."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import diffusion_ops as do
from tests.pipelines.runs import ragged_image, read_result
from tests.pipelines.small_disks import small_disk

SPEC = """
source: {{uri: source.npy}}
steps: [{{operator: perona-malik, contrast: 5000, conductance: rational, steps: 12}}]
sink: {{uri: {target}, chunk: 128}}
run: {{tile: 128, batch: 4, threads: 2, cluster: {cluster}, memory: 3GiB}}
"""

linux = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    np.save(folder / "source.npy", ragged_image((900, 1000)))
    return folder


@pytest.fixture(scope="module")
def expected(folder) -> bytes:
    operator = do.PeronaMalik(contrast=5000, conductance="rational")
    return do.evolve(np.load(folder / "source.npy"), operator, steps=12).tobytes()


def write_spec(folder: Path, name: str, cluster: str = "threads") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SPEC.format(target=f"{name}.zarr", cluster=cluster))
    return path


def command(spec: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli.command", "run", str(spec), "--json", *options]


def start(spec: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(spec, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def events_of(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def tiles_in_journal(folder: Path, name: str, stage: int | None = None) -> int:
    """Return how many whole lines a journal has, of all stages or of one."""
    journal = folder / f"{name}.zarr.run" / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return sum(stage is None or line.split()[1:2] == [b"%d" % stage] for line in lines)


def wait_for_tiles(
    folder: Path, name: str, count: int, process: subprocess.Popen[str], stage: int | None = None
) -> None:
    """Wait until the journal holds `count` tiles, of all stages or of one, or the process has ended."""
    deadline = time.monotonic() + 120
    while tiles_in_journal(folder, name, stage) < count and process.poll() is None:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a process with SIGKILL, and its children, which would otherwise outlive it for a while."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.communicate()


@linux
@pytest.mark.parametrize("cluster", ["threads", pytest.param("local", marks=pytest.mark.slow)])
def test_killed_drivers_resume_with_the_same_bytes(folder, expected, cluster):
    name = f"driver-{cluster}"
    spec = write_spec(folder, name, cluster)
    chance = random.Random(cluster)
    done = 0
    for _ in range(2):
        process = start(spec)
        wait_for_tiles(folder, name, done + chance.randint(1, 60), process)
        time.sleep(chance.random() * 0.05)
        kill_all(process)
        done = tiles_in_journal(folder, name)
    assert not (folder / f"{name}.zarr").exists()
    last = subprocess.run(command(spec), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert read_result(folder / f"{name}.zarr").tobytes() == expected
    report = json.loads((folder / f"{name}.zarr.run" / "report.json").read_text())
    redone = tiles_in_journal(folder, name) - report["tiles"]
    # A line that the kill cut off, and tiles of an array that was about to be dropped, may be done twice.
    assert report["tiles_resumed"] >= done - 1
    assert redone <= 4


@linux
def test_killed_workers_are_replaced_and_the_bytes_are_the_same(folder, expected):
    spec = write_spec(folder, "workers", "local")
    process = start(spec)
    for round_ in range(2):
        wait_for_tiles(folder, "workers", 40 * (round_ + 1), process)
        workers = [
            p
            for p in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in str(p.cmdline())
        ]
        if workers:
            random.Random(round_).choice(workers).kill()
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert read_result(folder / "workers.zarr").tobytes() == expected
    assert events_of(output)


@linux
def test_ctrl_c_ends_cleanly_and_says_how_to_resume(folder, expected):
    spec = write_spec(folder, "interrupted")
    process = start(spec)
    wait_for_tiles(folder, "interrupted", 15, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Go on with" in errors
    assert "Traceback" not in errors
    assert subprocess.run(command(spec), capture_output=True, check=False).returncode == 0
    assert read_result(folder / "interrupted.zarr").tobytes() == expected


@pytest.mark.thorough
@linux
def test_a_second_process_on_the_same_target_is_refused(folder):
    spec = write_spec(folder, "busy")
    first = start(spec)
    wait_for_tiles(folder, "busy", 5, first)
    # It keeps its target, however long the second one takes to start.
    first.send_signal(signal.SIGSTOP)
    second = subprocess.run(command(spec), capture_output=True, text=True, check=False)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=300)
    assert first.returncode == 0
    assert second.returncode == 2
    assert "Another process" in second.stderr


@pytest.mark.thorough
def test_a_full_disk_is_said_and_can_be_resumed(tmp_path, folder, expected):
    shutil.copy(folder / "source.npy", tmp_path)
    disk, spec = tmp_path / "disk", tmp_path / "full.yaml"
    spec.write_text(SPEC.format(target="disk/out.zarr", cluster="threads"))
    with small_disk(disk, "size=6m") as change:
        (disk / "ballast").write_bytes(b"x" * (3 << 19))
        full = subprocess.run(command(spec), capture_output=True, text=True, check=False)
        assert full.returncode == 3, full.stderr
        assert re.search(r"[Nn]o space is left|disk is full", full.stdout + full.stderr)
        assert "Traceback" not in full.stderr
        done = (disk / "out.zarr.run" / "journal.jsonl").read_bytes().count(b"\n")
        assert done > 0
        (disk / "ballast").unlink()
        change("size=64m")
        again = subprocess.run(command(spec), capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert read_result(disk / "out.zarr").tobytes() == expected
