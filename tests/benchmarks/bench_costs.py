"""Measure what a run on many workers is made of, for simulate_cluster.py, and write it to costs.json beside this file.

    python tests/benchmarks/bench_costs.py [--side 4096] [--tasks 4000] [--tiles 50000] [--folder DIR] [--write]

All times but that of a round trip are processor time, which other programs hardly change. Of a worker: a kernel, and
reading and writing through the codecs, each the shortest of several tries. Of worker, driver and scheduler: what a task
of one small tile takes them, as where there are many workers, and how memory grows with small tiles in groups.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import distributed
import numpy as np

from diffusion_ops import Block, Explicit, Leg, PeronaMalik, advance
from pipelines.image.window import Grid
from pipelines.store.arrays import Chunking, create_array, use_fast_codecs
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import checksum
from tests.benchmarks.bench_dask import measure_many
from tests.benchmarks.bench_run import make_source
from tests.pipelines.dask_processes import dask_processes

FILE = Path(__file__).with_name("costs.json")
TILE, CHUNK, STEPS, TRIES = 2048, 512, 32, 5


@dataclass(frozen=True)
class Costs:
    """What was measured.

    Attributes
    ----------
    kernel_ns : float
        Nanoseconds per cell and step of Perona-Malik on one core, halo not counted.
    read_rate, write_rate : float
        Decoded float32 bytes per second of one worker through the codecs, from files that the system has in memory.
    tile_seconds : float
        What a worker takes for any tile beside these.
    driver_seconds, scheduler_seconds : float
        Processor time of a task of one tile.
    round_trip : float
        Time from the end of a task to the beginning of the worker's next one, where none waits at the worker.
    driver_bytes, scheduler_bytes : int
        Largest resident memory.
    driver_growth, scheduler_growth : float
        Bytes by which it grew per tile, once warm.
    packing : float
        Stored bytes per decoded byte of the test image, a photograph's worth of noise.
    """

    kernel_ns: float
    read_rate: float
    write_rate: float
    tile_seconds: float
    driver_seconds: float
    scheduler_seconds: float
    round_trip: float
    driver_bytes: int
    scheduler_bytes: int
    driver_growth: float
    scheduler_growth: float
    packing: float

    @classmethod
    def load(cls) -> Costs:
        """Return what was measured last."""
        return cls(**json.loads(FILE.read_text(encoding="utf-8")))


def shortest(work: Callable[[], object]) -> float:
    """Return the shortest processor time of several tries."""
    taken = []
    for _ in range(TRIES):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def measure_worker(folder: Path, side: int) -> dict[str, float]:
    """Return what one worker takes of a tile."""
    folder.mkdir(exist_ok=True)
    source, target = folder / f"source-{side}.zarr", folder / "target.zarr"
    shutil.rmtree(target, ignore_errors=True)
    make_source(source, side)
    create_array(
        str(target), "", (side, side), np.dtype("f4"), Chunking((CHUNK, CHUNK)), axes="yx", compression="lz4"
    )
    reads, writes = (ZarrPixels(str(path), "", "yx", "yx") for path in (source, target))
    region = Grid((side, side), (TILE, TILE)).region(0)
    values = reads.read(region)

    def write() -> None:
        writes.write(region, values)
        checksum(values)

    operator = PeronaMalik(contrast=40, conductance="rational")
    leg = Leg(operator, Explicit().cycles(operator.stable_dt((1.0, 1.0)), None, STEPS, None))
    block = Block.from_image(values[None], (1.0, 1.0))
    advance(Block.from_image(values[None, :64, :64], (1.0, 1.0)), [leg])
    stored = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    return {
        "kernel_ns": shortest(lambda: advance(block, [leg])) * 1e9 / (values.size * STEPS),
        "read_rate": values.nbytes / shortest(lambda: reads.read(region)),
        "write_rate": values.nbytes / shortest(write),
        "packing": stored / (side * side * values.itemsize),
    }


def measure_round_trip(folder: Path) -> float:
    """Return the median time of a task that does nothing, from the driver to a worker and back."""
    taken = []
    with dask_processes(folder / "cluster") as cluster, distributed.Client(cluster.address) as client:
        cluster.worker()
        for number in range(200):
            start = time.perf_counter()
            client.submit(int, number, pure=False).result()
            taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def main() -> None:
    """Measure, print, and write the file where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("side", 4096), ("tasks", 4000), ("tiles", 50_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    use_fast_codecs(1)
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        worker = measure_worker(Path(scratch), asked.side)
        worker["round_trip"] = measure_round_trip(Path(scratch))
    print(worker)
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        alone = measure_many(Path(scratch), asked.tasks, ahead=2 * asked.tasks)
    print(alone.text())
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        many = measure_many(Path(scratch), asked.tiles)
    print(many.text())
    driver, scheduler = many.driver, many.scheduler
    costs = Costs(
        **worker,
        tile_seconds=alone.workers / alone.tiles,
        driver_seconds=alone.driver.seconds / alone.tiles,
        scheduler_seconds=alone.scheduler.seconds / alone.tiles,
        driver_bytes=max(driver.resident),
        scheduler_bytes=max(scheduler.resident),
        driver_growth=driver.growth(many.tiles),
        scheduler_growth=scheduler.growth(many.tiles),
    )
    text = json.dumps(asdict(costs), indent=1)
    print(text)
    if asked.write:
        FILE.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
