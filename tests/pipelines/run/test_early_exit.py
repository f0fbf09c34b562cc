"""A process that is refused or interrupted while its kernels are still compiled ends with its own exit code."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

STARTED = "run_started"
COMMAND = [sys.executable, "-m", "pipelines.cli.command", "apply", "perona-malik"]


def command(folder: Path, target: str) -> list[str]:
    parameters = ["-p", "contrast=50", "--steps", "4000", "--json"]
    return [*COMMAND, str(folder / "source.npy"), str(folder / target), *parameters]


def start(folder: Path, target: str) -> subprocess.Popen[str]:
    """Start a run that finds no compiled kernels."""
    cold = os.environ | {"NUMBA_CACHE_DIR": str(folder / f"{target}.kernels")}
    return subprocess.Popen(
        command(folder, target), env=cold, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def refused(folder: Path, number: int) -> int:
    """Return the exit code of a run whose target exists; that is found out after the warm-up began."""
    (folder / f"taken-{number}.zarr").mkdir()
    process = start(folder, f"taken-{number}.zarr")
    process.communicate()
    return process.returncode


def interrupted(folder: Path, number: int) -> int:
    """Return the exit code of a run that gets Ctrl-C at a random moment of its first second."""
    process = start(folder, f"stopped-{number}.zarr")
    assert process.stdout is not None
    assert STARTED in process.stdout.readline()
    time.sleep(random.Random(number).random())
    process.send_signal(signal.SIGINT)
    process.communicate()
    return process.returncode


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("count", [1, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("end", "code"), [(refused, 2), (interrupted, 130)])
def test_ends_with_its_exit_code(end, code, count, tmp_path):
    np.save(tmp_path / "source.npy", np.random.default_rng(0).random((700, 600), np.float32))
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda number: end(tmp_path, number), range(count)))
    # A run that was quicker than the signal is done.
    assert set(codes) - {0} == {code} if end is interrupted else set(codes) == {code}
