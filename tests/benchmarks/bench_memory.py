"""Measure the memory of whole runs of every operator, from outside, beside the limit and the prediction.

    python tests/benchmarks/bench_memory.py
    python tests/benchmarks/bench_memory.py --jobs heat canny --limits 400MiB --clusters threads --side 16384

A job is an operator, a problem, or a chain of CHAINS, which has a kind of work that no operator has alone. The image is
uint8 with holes, or float32 without (--floats); for some chains it is noise, nuclei, or a chessboard.

Memory is the resident set of `diffuse run` and all its child processes, added up, 50 times a second, or the peak that
the system has noted of the first of them where that is larger; pages that processes share count once for each of them.
Each row is one run:

    predicted       memory_total of the plan
    peak            largest resident set of the process tree
    peak/limit      at most 1
    predicted/peak  between 1 and 1.25

A run that is refused because it does not fit is a row too, with what it would need. With --cold every run begins
without compiled kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.image.window import Grid
from pipelines.store.arrays import Chunking, create_array, use_fast_codecs
from pipelines.tasks.memory import high_water_mark
from pipelines.tasks.pixels import ZarrPixels
from tests.operator_samples import sample_arguments

PERIOD = 0.02
"""Seconds between two measurements."""

MOST = 1.25
"""Largest prediction as a multiple of the peak."""

STEP_SECONDS = 1.5
"""Time on one core that the steps of a run may take, as far as that allows for two steps at least."""


@dataclass(frozen=True)
class Measurement:
    """The memory of one run in bytes; `peak` is 0 where it was refused.

    Attributes
    ----------
    limit, predicted, peak : int
    told : str
        What the run wrote to its standard error.
    """

    limit: int
    predicted: int
    peak: int
    told: str = ""

    @property
    def holds(self) -> bool:
        """Whether the limit and the prediction were bounds, and the prediction was near."""
        return (
            not self.peak
            or self.peak <= min(self.limit, self.predicted) <= self.predicted <= MOST * self.peak
        )


@dataclass(frozen=True)
class Job:
    """What a run does.

    Attributes
    ----------
    steps : list of dict
        The steps of the spec.
    parts : dict
        Further parts of the spec.
    image : str
        "rings", "noise", "nuclei", dark discs of as many cells each as a plan of a table counts on, or "chessboard", of
        which each field is a cell: no mask has more objects.
    """

    steps: list[dict[str, Any]]
    parts: dict[str, Any] = field(default_factory=dict)
    image: str = "rings"


DARK = {"operator": "thresholding", "thresholds": [60]}
OBJECTS = {"operator": "components"}
NUMBERED = {"sink": {"dtype": "uint32"}}
TABLE = {**NUMBERED, "outputs": [{"name": "objects", "uri": "objects.csv"}]}
SMOOTH = {"operator": "heat", "time": 64, "schedule": "explicit"}

CHAINS = {
    "objects": Job([SMOOTH, DARK, OBJECTS], NUMBERED),
    "objects with a table": Job([DARK, {"name": "objects", **OBJECTS}], TABLE, "nuclei"),
    "objects of noise": Job([DARK, OBJECTS], NUMBERED, "noise"),
    # Of grey values every cell would be an object of its own, and the run stop for want of memory.
    "components": Job([DARK, OBJECTS], NUMBERED),
    "objects of a chessboard": Job([DARK, {**OBJECTS, "connectivity": 1}], NUMBERED, "chessboard"),
    "contrast measured": Job([{"operator": "perona-malik", "contrast": {"quantile": 0.9}, "steps": 8}]),
    "adaptive steps": Job([{"operator": "heat", "time": 4, "schedule": {"adaptive": 2.0}}]),
    "until the energy falls no more": Job(
        [{"operator": "total-variation", "weight": 6, "steps": 8, "until": {"energy": 1e-3}}]
    ),
    **{
        f"filled by {by}": Job([{"operator": "inpainting", "by": by, "rounds": 4, "known": "valid"}])
        for by in ("edge-enhancing", "total-variation", "biharmonic", "telea")
    },
    "under a mask": Job([{"name": "dark", **DARK}, {**SMOOTH, "input": "source", "mask": "dark"}]),
    "along a guide of half the size": Job(
        [
            {"name": "outline", "operator": "heat", "octave": 1, "time": 8},
            {
                "operator": "coherence-enhancing",
                "contrast": 8,
                "input": "source",
                "guide": "outline",
                "steps": 4,
            },
        ]
    ),
}
"""Jobs whose kinds of work no operator has alone, or in place of an operator's."""

JOBS = tuple(dict.fromkeys((*OPERATORS.names(), *CHAINS)))


def job_of(name: str, side: int) -> Job:
    """Return a chain, or an operator's first sample with as many time steps as take a few seconds."""
    if name in CHAINS:
        return CHAINS[name]
    operator = OPERATORS[name](**sample_arguments(name)[0])
    step: dict[str, Any] = {"operator": name, **sample_arguments(name)[0]}
    if operator.controlled_by not in ("once", "convergence"):
        pace = operator.pace(operator.dimensions[0], 1)
        step["steps"] = int(min(32, max(2, STEP_SECONDS * pace / side**2)))
    if "markers" in operator.reads:
        step["markers"] = "marks.csv"
    if name == "shortest-path":
        return Job([{"operator": "eikonal", "markers": "marks.csv"}, {**step, "markers": "ends.csv"}])
    return Job([step], NUMBERED if operator.gives_labels else {})


def make_source(
    path: Path, side: int, depth: int = 0, dtype: str = "u1", holes: bool = True, image: str = "rings"
) -> None:
    """Write a picture with round holes of nodata, a square at a time; a volume where `depth` is given."""
    if (path / "zarr.json").exists():
        return
    use_fast_codecs()
    axes, shape = ("zyx", (depth, side, side)) if depth else ("yx", (side, side))
    chunks = (min(depth, 64), 64, 64) if depth else (512, 512)
    array = create_array(
        str(path), "", shape, np.dtype(dtype), Chunking(chunks), axes=axes, compression="none"
    )
    if holes:
        array.attrs["_FillValue"] = 0
    pixels, grid = ZarrPixels(str(path), "", axes, axes), Grid((side, side), (1024, 1024))
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[-512:512, -512:512]
    rings = np.hypot(rows, columns)
    noise = 20 * random.standard_normal(rings.shape)
    pictures = {
        "rings": rings % 100 + 40 + noise,
        "noise": 60 + noise,
        "nuclei": np.where(np.hypot(rows % 45 - 22, columns % 45 - 22) < 12, 20, 180) + noise / 4,
        "chessboard": np.where((rows + columns) % 2, 20, 200),
    }
    noisy = np.clip(pictures[image], 1, 255).astype(dtype)
    if holes:
        noisy[np.hypot(rows - 200, columns + 100) < 90] = 0
    for tile in range(len(grid)):
        region = grid.region(tile)
        part = noisy[tuple(slice(0, s.stop - s.start) for s in region)]
        if depth:
            region, part = (slice(0, depth), *region), np.broadcast_to(part, (depth, *part.shape))
        pixels.write(region, np.ascontiguousarray(part))


def parts_of(folder: Path, source: Path, job: Job) -> dict[str, Any]:
    """Return a spec without its part `run`, and write the markers beside it; the result is result.zarr."""
    side = zarr.open_array(source, mode="r").shape[-1]
    for name, places in {"marks": (2, 3, 4), "ends": (5, 6)}.items():
        rows = "".join(f"{side // n},{side // 3},{label}\n" for label, n in enumerate(places, 1))
        (folder / f"{name}.csv").write_text(f"row,column,label\n{rows}")
    sink = {"uri": str(folder / "result.zarr"), **job.parts.get("sink", {})}
    return {"source": {"uri": str(source)}, "steps": job.steps, **job.parts, "sink": sink}


def measure(folder: Path, source: Path, job: Job, limit: str, cluster: str) -> Measurement:
    """Return the memory of a run in processes of its own."""
    target, spec = folder / "result.zarr", folder / "spec.json"
    for path in (target, Path(f"{target}.run")):
        shutil.rmtree(path, ignore_errors=True)
    parts = parts_of(folder, source, job)
    parts["run"] = {"memory": limit, "threads": 2, "cluster": cluster}
    spec.write_text(json.dumps(parts))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli.command", "run", str(spec), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    peak, ended = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, peak, ended))
    watcher.start()
    out, told = process.communicate()
    ended.set()
    watcher.join()
    allowed = bytes_of(limit)
    if process.returncode == 2:
        return Measurement(allowed, 0, 0, told + out)
    if process.returncode:
        raise RuntimeError(f"The run ended with {process.returncode}: {(told + out).strip()[-300:]}")
    report = json.loads(Path(f"{target}.run", "report.json").read_text())
    for path in (target, Path(f"{target}.run")):
        shutil.rmtree(path)
    (folder / "objects.csv").unlink(missing_ok=True)
    plan = report["plan"]
    told = f"tile {'x'.join(map(str, plan['tile']))}, {plan['passes']} passes, {plan['threads']} threads"
    return Measurement(allowed, report["memory"]["predicted"], peak[0], told)


def watch(pid: int, peak: list[int], ended: threading.Event) -> None:
    """Note the largest resident memory of a process and its children."""
    while not ended.wait(PERIOD):
        total = 0
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            continue
        for one in family:
            try:
                total += one.memory_info().rss
            except psutil.Error:
                continue
        # Two tasks at their largest together may last a few milliseconds.
        peak[0] = max(peak[0], total, high_water_mark(pid))


def bytes_of(limit: str) -> int:
    """Return a limit such as 400MiB in bytes."""
    number, unit = limit[:-3], limit[-3:]
    return int(float(number) * {"MiB": 1 << 20, "GiB": 1 << 30}[unit])


def row(name: str, limit: str, cluster: str, found: Measurement) -> str:
    """Return a row of the table."""
    begin = f"{name:31} {limit:>7} {cluster:7}"
    if not found.peak:
        return f"{begin} refused: {' '.join(found.told.split())[:160]}"
    mib = 1 << 20
    return (
        f"{begin} {found.predicted / mib:9.0f} {found.peak / mib:6.0f} {found.peak / found.limit:10.2f} "
        f"{found.predicted / found.peak:14.2f}  {'' if found.holds else 'NOT HELD '}{found.told}"
    )


def source_of(folder: Path, name: str, side: int, floats: bool = False) -> Path:
    """Return the image that a job reads, which is made where it is not there."""
    flat = name in CHAINS or 2 in OPERATORS[name].dimensions
    image = CHAINS[name].image if name in CHAINS else "rings"
    what = f"{image}-{'floats' if floats else 'holes'}-{side}{'' if flat else '-volume'}"
    make_source(folder / f"{what}.zarr", side, 0 if flat else 8, "f4" if floats else "u1", not floats, image)
    return folder / f"{what}.zarr"


def measure_all(options: argparse.Namespace, folder: Path) -> int:
    """Print the table and return the number of runs whose bounds did not hold."""
    failed = 0
    print(f"{'job':31} {'limit':>7} cluster predicted   peak peak/limit predicted/peak", flush=True)
    for name in options.jobs or JOBS:
        source = source_of(folder, name, options.side, options.floats)
        for cluster in options.clusters:
            for limit in options.limits:
                if options.cold:
                    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
                try:
                    found = measure(folder, source, job_of(name, options.side), limit, cluster)
                except RuntimeError as error:
                    failed += 1
                    print(f"{name:31} {limit:>7} {cluster:7} {error}", flush=True)
                    continue
                failed += not found.holds
                print(row(name, limit, cluster, found), flush=True)
    return failed


def main() -> int:
    """Measure and return an exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", nargs="*", default=[], metavar="JOB")
    parser.add_argument("--limits", nargs="*", default=["400MiB", "600MiB"])
    parser.add_argument("--clusters", nargs="*", default=["threads", "local"])
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--floats", action="store_true", help="an image of float32 without holes")
    parser.add_argument("--cold", action="store_true", help="begin every run without compiled kernels")
    parser.add_argument("--folder", type=Path, default=None, help="keeps the source for further measurements")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        return min(1, measure_all(options, options.folder))
    with tempfile.TemporaryDirectory() as temporary:
        return min(1, measure_all(options, Path(temporary)))


if __name__ == "__main__":
    sys.exit(main())
