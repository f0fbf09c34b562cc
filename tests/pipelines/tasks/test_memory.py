"""The memory of a run is that of its process and of all that it has started."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from pipelines.tasks.memory import tree_memory

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
