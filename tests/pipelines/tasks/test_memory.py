"""The memory of a run is that of its process and of all that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import psutil
import pytest

import diffusion_ops as do
from pipelines.tasks import memory
from pipelines.tasks.memory import give_back_compiler, tree_memory
from tests.pipelines.run.test_never_lost import linux

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "held = b'x' * (100 << 20); print('there', flush=True); input()"])
child.wait()
"""


@pytest.mark.parametrize("listed", [True, False], ids=["children are listed", "psutil looks for them"])
def test_processes_of_processes_count(monkeypatch, listed):
    if not listed:
        monkeypatch.setattr(os.path, "exists", lambda path: False)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"there\n"
        assert tree_memory(parent.pid) > psutil.Process(parent.pid).memory_info().rss + (100 << 20)
        assert tree_memory() > psutil.Process().memory_info().rss + (100 << 20)
        parent.communicate(b"\n")
    assert tree_memory(parent.pid) == 0


def resident_code(library: str) -> int:
    """Return the resident bytes of the code of a library in this process."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inside = words[1] == "r-xp" and Path(words[-1]).name.startswith(library)
        elif inside and words[0] == "Rss:":
            found += int(words[1]) * 1024
    return found


def test_what_cannot_be_given_back_counts_for_good(monkeypatch):
    given = memory.tasks_bytes()
    monkeypatch.setattr(memory, "_MAPS", "/no/such/file")
    give_back_compiler()
    assert not memory.gives_back_code()
    assert memory.tasks_bytes() == memory.total_memory([], 0) >= given


def test_each_process_holds_its_task_or_what_loading_kernels_takes():
    large, small, loading = 300 << 20, 1 << 20, memory.total_memory([], 0)
    assert memory.total_memory([large, small], 0) == memory.total_memory([large + small], 0)
    for tasks in ([large], [large, small]):
        assert memory.total_memory(tasks, 2) == memory.total_memory([large], 1) + loading
    assert memory.total_memory([large, large], 2) == 2 * memory.total_memory([large], 1) - memory.DRIVER_BYTES


@linux
def test_the_compilers_code_is_given_back_and_running_a_kernel_does_not_need_it():
    image = np.ones((20, 20), np.float32)
    before = do.evolve(image, do.Heat(), steps=2)
    # An earlier test may have given it back.
    numba.njit(lambda number: number + 1)(1)
    assert resident_code("libllvmlite") > 1 << 20
    give_back_compiler()
    assert not resident_code("libllvmlite")
    assert do.evolve(image, do.Heat(), steps=2).tobytes() == before.tobytes()
    assert not resident_code("libllvmlite")
