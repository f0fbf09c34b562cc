"""Memory is known before and measured after: under the limit, near the prediction, and the same for larger images."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipelines.run.status import status
from pipelines.store.arrays import Chunking, create_array
from tests.pipelines.run.test_never_lost import linux


def measure(
    folder: Path, side: int, memory: str, cluster: str = "threads", **step: object
) -> tuple[int, int]:
    """Return (measured peak of the process tree, predicted) of a run in a process of its own."""
    source = create_array(
        str(folder / f"{side}.zarr"),
        "",
        (side, side),
        np.dtype("f4"),
        Chunking((512, 512)),
        axes="yx",
        compression="lz4",
    )
    random = np.random.default_rng(0)
    rows = random.random((512, side)).astype(np.float32)
    for start in range(0, side, 512):
        source[start : start + 512] = rows[: min(512, side - start)]
    words = ", ".join(
        f"{key}: {value}" for key, value in {"operator": "perona-malik", "contrast": 1, **step}.items()
    )
    spec = folder / f"{side}.yaml"
    spec.write_text(
        f"source: {{uri: {side}.zarr}}\nsteps: [{{{words}}}]\nsink: {{uri: {side}-out.zarr}}\n"
        f"run: {{memory: {memory}, threads: 2, cluster: {cluster}}}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli.command", "run", str(spec), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    peak, ended = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, peak, ended))
    watcher.start()
    process.communicate()
    ended.set()
    watcher.join()
    assert process.returncode == 0
    return peak[0], status(str(folder / f"{side}-out.zarr"))["report"]["memory"]["predicted"]


def watch(pid: int, peak: list[int], ended: threading.Event) -> None:
    """Note the largest resident memory of a process and its children."""
    while not ended.wait(0.01):
        try:
            root = psutil.Process(pid)
            peak[0] = max(peak[0], sum(p.memory_info().rss for p in [root, *root.children(recursive=True)]))
        except psutil.Error:
            continue


@linux
@pytest.mark.parametrize(
    ("memory", "step"),
    [
        ("1GiB", {"conductance": "rational", "steps": 16}),
        ("1GiB", {"sigma": 1, "time": 8}),
        ("600MiB", {"conductance": "rational", "steps": 64}),
    ],
)
def test_memory_is_under_the_limit_and_near_the_prediction(tmp_path, memory, step):
    measured, predicted = measure(tmp_path, 6144, memory, **step)
    limit = {"1GiB": 1 << 30, "600MiB": 600 << 20}[memory]
    assert predicted <= limit
    assert measured < limit
    assert measured == pytest.approx(predicted, rel=0.25)


@linux
@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(tmp_path):
    small, _ = measure(tmp_path, 8192, "700MiB", conductance="rational", steps=64)
    large, _ = measure(tmp_path, 16384, "700MiB", conductance="rational", steps=64)
    assert large == pytest.approx(small, rel=0.05)
