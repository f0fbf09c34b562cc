"""Small file systems, for tests of what happens when they are full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Callable[[str], None]]:
    """Mount a real file system in memory, and yield a function that changes its options; skip where none can be."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place.mkdir()
    words = [mount, "-t", "tmpfs", "-o", options, "none", str(place)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")

    def change(options: str) -> None:
        subprocess.run([mount, "-o", f"remount,{options}", str(place)], check=True)

    try:
        yield change
    finally:
        subprocess.run([umount, "-l", str(place)], check=False)
