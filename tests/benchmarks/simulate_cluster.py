"""Say what a run would do on many workers: the real plan and the real order of tiles, with tasks that only take time.

    python tests/benchmarks/simulate_cluster.py [--side 1000000] [--steps 64] [--workers 1 10 100 1000]

A driver hands out tiles one after another (DRIVER_SECONDS each: scheduler and journal, measured), workers take the time
that the plan expects, spread by a third. Printed: makespan, how busy the workers are, and the driver's memory.
"""

from __future__ import annotations

import argparse
import heapq
import time

import numpy as np
import psutil

from pipelines.image.info import ImageInfo
from pipelines.plan.plan import Plan
from pipelines.plan.prediction import DRIVER_SECONDS
from pipelines.plan.search import make_plan
from pipelines.record.ready_tiles import ReadyTiles
from pipelines.spec.spec import make_spec


def plan_for(side: int, steps: int, batch: int | None, gigabytes: int, workers: int) -> Plan:
    """Return the plan of a uint16 image of side x side for workers of so much memory each."""
    image = ImageInfo((side, side), np.dtype("u2"), "yx", (512, 512), identity="simulated")
    spec = make_spec(
        {
            "source": {"uri": "simulated.zarr"},
            "steps": [
                {"operator": "perona-malik", "contrast": 40, "conductance": "rational", "steps": steps}
            ],
            "sink": {"uri": "simulated.ome.zarr"},
            "run": {
                "memory": f"{gigabytes * workers}GiB",
                "threads": workers,
                "cluster": "tcp://scheduler:8786",
                "batch": batch,
            },
        }
    )
    return make_plan(spec, image)


def simulate(plan: Plan, workers: int, random: np.random.Generator) -> tuple[float, float]:
    """Return (makespan in seconds, share of the workers' time that was work)."""
    ready = ReadyTiles(plan.stages)
    expected = [stage.seconds / len(stage.grid) for stage in plan.stages]
    in_flight: list[tuple[float, int, int]] = []
    now = driver_free = busy = 0.0
    while ready.left:
        while len(in_flight) < workers:
            tile_id = ready.next()
            if tile_id is None:
                break
            driver_free = max(now, driver_free) + DRIVER_SECONDS
            seconds = expected[tile_id[0]] * random.uniform(0.67, 1.33)
            busy += seconds
            heapq.heappush(in_flight, (driver_free + seconds, *tile_id))
        now, stage, tile = heapq.heappop(in_flight)
        ready.finish(stage, tile, {})
    return now, busy / (now * workers)


def main() -> None:
    """Print a row per number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--gigabytes", type=int, default=2, help="memory per worker")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    options = parser.parse_args()
    for workers in options.workers:
        start = time.perf_counter()
        plan = plan_for(options.side, options.steps, options.batch, options.gigabytes, workers)
        seconds, summary = time.perf_counter() - start, plan.summary()
        makespan, share = simulate(plan, workers, np.random.default_rng(workers))
        print(
            f"{workers:5d} workers: {makespan / 3600:8.2f} h, {share:6.1%} busy; planned in {seconds:.2f} s: "
            f"tile {summary['tile']}, {summary['passes']} passes, {summary['tiles']:,} tiles, "
            f"{summary['bytes_read'] / 1e12:.2f} TB read, {summary['bytes_written'] / 1e12:.2f} TB written, "
            f"redundancy {summary['redundancy']:.3f}, {summary['memory_per_task'] / 2**20:.0f} MiB per task; "
            f"driver {psutil.Process().memory_info().rss / 2**20:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
