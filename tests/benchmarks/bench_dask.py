"""Measure what Dask takes per tile: processor time of driver and scheduler in a run at an address, over its tiles.

    python tests/benchmarks/bench_dask.py [--side 4096] [--tile 64] [--workers 2] [--steps 4]

Scheduler and workers are processes of their own. A first run, which is not counted, loads libraries and kernels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from pipelines.run.run import run
from pipelines.spec.spec import make_spec
from tests.pipelines.dask_processes import DaskProcesses, dask_processes


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(folder: Path, cluster: DaskProcesses, side: int, tile: int, steps: int) -> str:
    """Run over noise, and return a line of figures."""
    np.save(folder / "in.npy", (np.random.default_rng(0).random((side, side)) * 255).astype(np.uint8))
    spec = make_spec(
        {
            "source": {"uri": str(folder / "in.npy")},
            "steps": [{"operator": "heat", "steps": steps}],
            "sink": {"uri": str(folder / f"out-{side}.zarr"), "chunk": tile},
            "run": {"tile": tile, "threads": 4, "memory": "4GiB", "cluster": cluster.address},
        }
    )
    processes = {"driver": psutil.Process(), "scheduler": psutil.Process(cluster.scheduler.pid)}
    before = {name: cpu_seconds(process) for name, process in processes.items()}
    start = time.perf_counter()
    report = run(spec)
    seconds, tiles = time.perf_counter() - start, report.data["tiles"]
    each = (
        f"{name} {(cpu_seconds(process) - before[name]) / tiles * 1e3:.2f} ms"
        for name, process in processes.items()
    )
    return f"{tiles} tiles in {seconds:.1f} s; per tile: {', '.join(each)}"


def main() -> None:
    """Start the processes, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("side", 4096), ("tile", 64), ("workers", 2), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, dask_processes(Path(scratch) / "cluster") as cluster:
        for _ in range(asked.workers):
            cluster.worker()
        measure(Path(scratch), cluster, 2 * asked.tile, asked.tile, asked.steps)
        print(measure(Path(scratch), cluster, asked.side, asked.tile, asked.steps))


if __name__ == "__main__":
    main()
