"""Measure what a tile costs the driver and Dask's scheduler: processor time of each, and memory that stays.

    python tests/benchmarks/bench_dask.py [--tiles 50000] [--tile 8] [--workers 2] [--ahead 4] [--folder DIR]

The command runs in a process of its own, and so do scheduler and workers. More tiles are more batches of 10,000 each:
an array of more chunks would be stored in shards, which are larger. A first run, which is not counted, loads libraries
and kernels. In a folder in memory (/dev/shm) workers take the least time of a tile, so that driver and scheduler have
the most to do. Small tiles go in groups, unless there are as many tasks ahead as tiles, as with a thousand workers.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import ruamel.yaml

from pipelines.store.arrays import FILES_BEFORE_SHARDS
from tests.pipelines.dask_processes import DaskProcesses, dask_processes

EVERY = 0.2
"""Seconds between two looks at the processes."""

WARM = 0.5
"""Part of the tiles after which memory may not grow any more: what is kept of the last 500 tasks is there."""

SHORT_LOGS = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "100"}
"""Dask keeps the last 1,000 of everything that has happened, 12 MB in all: with fewer it is warm sooner."""


@dataclass
class Watched:
    """A process, with its processor time and its memory while tiles were done."""

    process: psutil.Process
    tiles: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    began: float = math.inf
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """Processor time between the first look and the last one."""
        return self.ended - self.began

    def look(self, tiles: int) -> None:
        """Note how much memory and time it has taken when so many tiles are done."""
        with self.process.oneshot():
            seconds, resident = processor_seconds(self.process), self.process.memory_info().rss
        # One that has ended has none, and its time is that of the last look.
        if resident:
            self.tiles.append(tiles)
            self.resident.append(resident)
            self.began, self.ended = min(self.began, seconds), seconds

    def growth(self, tiles: int) -> float:
        """Return the bytes per tile by which memory has grown since it was warm, as a line through what was seen."""
        done, resident = np.array(self.tiles), np.array(self.resident)
        warm = done >= WARM * tiles
        return float(np.polyfit(done[warm], resident[warm], 1)[0])


@dataclass(frozen=True)
class Found:
    """What a run of many tiles has taken.

    Attributes
    ----------
    tiles : int
    seconds : float
        From the first tile to the last one.
    driver, scheduler : Watched
    workers : float
        Processor time of all workers.
    """

    tiles: int
    seconds: float
    driver: Watched
    scheduler: Watched
    workers: float

    def text(self) -> str:
        """Return it for people."""
        each = (
            f"{name} {one.seconds / self.tiles * 1e3:.3f} ms and {one.growth(self.tiles):.1f} bytes, "
            f"at most {max(one.resident) / 2**20:.0f} MiB"
            for name, one in (("driver", self.driver), ("scheduler", self.scheduler))
        )
        rate = f"{self.tiles:,} tiles in {self.seconds:.1f} s ({self.seconds / self.tiles * 1e3:.2f} ms each)"
        return f"{rate}; per tile: {'; '.join(each)}; workers {self.workers / self.tiles * 1e3:.3f} ms"


def write_spec(folder: Path, address: str, side: int, tile: int, batches: int, ahead: int) -> Path:
    """Write noise, and a spec of one step per batch over it; return the spec's path."""
    source = folder / f"in-{side}.npy"
    np.save(source, np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8))
    spec = {
        "source": {"uri": str(source)},
        "steps": [{"operator": "heat", "steps": batches}],
        "sink": {"uri": str(folder / f"out-{side}.zarr"), "chunk": tile, "compression": "none"},
        "run": {"tile": tile, "batch": 1, "threads": ahead, "memory": f"{ahead}GiB", "cluster": address},
    }
    path = folder / f"spec-{side}.yaml"
    ruamel.yaml.YAML(typ="safe").dump(spec, path)
    return path


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(
    folder: Path, cluster: DaskProcesses, workers: Sequence[psutil.Process], tiles: int, tile: int, ahead: int
) -> Found:
    """Run over noise in about so many tiles, and return what it took.

    Raises
    ------
    RuntimeError
        Where the run fails.
    """
    batches = max(2, math.ceil(tiles / FILES_BEFORE_SHARDS))
    across = math.isqrt(tiles // batches)
    spec, tiles = (
        write_spec(folder, cluster.address, across * tile, tile, batches, ahead),
        batches * across**2,
    )
    journal = folder / f"out-{across * tile}.zarr.run" / "journal.jsonl"
    scheduler = Watched(psutil.Process(cluster.scheduler.pid))
    before = sum(map(processor_seconds, workers))
    command = [sys.executable, "-m", "pipelines.cli.command", "run", str(spec)]
    with (folder / "driver.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as run:
        driver = Watched(psutil.Process(run.pid))
        at, done, began, ended = 0, 0, 0.0, 0.0
        while run.poll() is None:
            if journal.exists() and done < tiles:
                with journal.open("rb") as lines:
                    lines.seek(at)
                    new = lines.read()
                at, done = at + len(new), done + new.count(b"\n")
                ended = time.perf_counter()
                began = began or ended
                for one in (driver, scheduler):
                    one.look(min(done, tiles))
            time.sleep(EVERY)
    if run.returncode:
        raise RuntimeError((folder / "driver.log").read_text(encoding="utf-8"))
    taken = sum(map(processor_seconds, workers)) - before
    return Found(tiles, ended - began, driver, scheduler, taken)


def measure_many(folder: Path, tiles: int, tile: int = 8, workers: int = 2, ahead: int = 4) -> Found:
    """Start a scheduler and workers, let them load what they need, and return what so many tiles take."""
    with dask_processes(folder / "cluster", settings=SHORT_LOGS) as cluster:
        processes = [psutil.Process(cluster.worker().pid) for _ in range(workers)]
        measure(folder, cluster, processes, 200, tile, ahead)
        return measure(folder, cluster, processes, tiles, tile, ahead)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("tiles", 50_000), ("tile", 8), ("workers", 2), ("ahead", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        found = measure_many(Path(scratch), asked.tiles, asked.tile, asked.workers, asked.ahead)
        print(found.text())


if __name__ == "__main__":
    main()
