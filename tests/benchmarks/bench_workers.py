"""Compare two worker processes with one, and both with what simulate_cluster.py says, in pairs of one go.

    python tests/benchmarks/bench_workers.py [--side 8192] [--steps 100] [--pairs 3] [--folder DIR]

Scheduler and workers are processes of their own; a worker has one thread. Times are from the first tile to the last.
Two workers need two idle cores: the load of the machine is printed beside the figures, and where it is high, the
processor time of the workers says what they would have taken alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from pipelines.events import StageDone, StageStarted
from pipelines.image.kept_sources import fresh_source
from pipelines.plan.plan import Plan
from pipelines.plan.search import make_plan
from pipelines.run.run import run
from pipelines.spec.spec import Spec, make_spec
from pipelines.store.arrays import use_fast_codecs
from tests.benchmarks.bench_costs import Costs, measure_worker
from tests.benchmarks.bench_dask import processor_seconds
from tests.benchmarks.bench_run import make_source
from tests.benchmarks.simulate_cluster import LOCAL, Simulation
from tests.pipelines.dask_processes import dask_processes


class Clock:
    """A listener that notes when the first stage began and the last one was done."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def __call__(self, event: object) -> None:
        """Take an event."""
        if isinstance(event, StageStarted):
            self.began = self.began or time.perf_counter()
        if isinstance(event, StageDone):
            self.ended = time.perf_counter()


def spec_for(source: Path, target: Path, workers: int, steps: int, address: str) -> Spec:
    """Return the spec of a run at a scheduler."""
    return make_spec(
        {
            "source": {"uri": str(source)},
            "steps": [
                {"operator": "perona-malik", "contrast": 40, "conductance": "rational", "steps": steps}
            ],
            "sink": {"uri": str(target), "compression": "lz4"},
            "run": {"memory": "2GiB", "threads": workers, "tile": 1024, "cluster": address},
        }
    )


def measure(folder: Path, source: Path, workers: int, steps: int) -> tuple[float, float, Plan]:
    """Return the time of a run with so many workers, the processor time of these, and the plan."""
    target, clock = folder / f"out-{workers}.zarr", Clock()
    with dask_processes(folder / "cluster") as cluster:
        processes = [psutil.Process(cluster.worker().pid) for _ in range(workers)]
        # Loads libraries and kernels.
        run(spec_for(source, target, workers, 1, cluster.address))
        shutil.rmtree(target)
        shutil.rmtree(f"{target}.run")
        spec = spec_for(source, target, workers, steps, cluster.address)
        before = sum(map(processor_seconds, processes))
        report = run(spec, listeners=[clock])
        taken = sum(map(processor_seconds, processes)) - before
        if report.exit_code:
            raise SystemExit(report.data["problem"])
    shutil.rmtree(target)
    shutil.rmtree(f"{target}.run")
    return clock.ended - clock.began, taken, make_plan(spec, fresh_source(spec.source).info)


def main() -> None:
    """Measure in pairs and print ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("side", 8192), ("steps", 100), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    use_fast_codecs(1)
    ratios, errors = [], []
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch)
        source = folder / f"source-{asked.side}.zarr"
        make_source(source, asked.side)
        for pair in range(asked.pairs):
            costs = Costs(**{**vars(Costs.load()), **measure_worker(folder / "costs", 4096)})
            times = {}
            # In turn, so that what the machine does meanwhile meets both.
            for workers in (1, 2) if pair % 2 else (2, 1):
                times[workers], cores, plan = measure(folder, source, workers, asked.steps)
                predicted = Simulation(plan, workers, costs, LOCAL).run().seconds
                errors.append(predicted / times[workers] - 1)
                print(
                    f"{workers} workers: {times[workers]:.2f} s, predicted {predicted:.2f} s ({errors[-1]:+.0%}); "
                    f"processor time {cores:.2f} s; load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
            ratios.append(times[1] / times[2])
    print(
        f"two workers are {np.median(ratios):.2f} times one ({', '.join(f'{r:.2f}' for r in ratios)}); "
        f"the prediction is off by {np.median(np.abs(errors)):.0%}"
    )


if __name__ == "__main__":
    main()
