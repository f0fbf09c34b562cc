"""Compare a run from Zarr to Zarr with its floor: the kernel alone on all cores plus a plain copy of the store.

    python tests/benchmarks/bench_run.py [--side 16384] [--steps 64] [--memory 1GiB] [--folder DIR] [--repeats 2]

Everything is measured in one go, in turn; ratios count, seconds drift. Memory is the peak resident memory of the whole
process tree of the run, sampled from outside.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from diffusion_ops import Block, Explicit, Leg, PeronaMalik, advance
from pipelines.image.window import Grid
from pipelines.store.arrays import Chunking, create_array, use_fast_codecs
from pipelines.tasks.memory import tree_memory
from pipelines.tasks.pixels import ZarrPixels

TILE = 4096


def make_source(path: Path, side: int) -> None:
    """Write noisy rings, one tile at a time."""
    if (path / "zarr.json").exists():
        return
    create_array(
        str(path), "", (side, side), np.dtype("f4"), Chunking((512, 512)), axes="yx", compression="lz4"
    )
    pixels, grid = ZarrPixels(str(path), "", "yx", "yx"), Grid((side, side), (2048, 2048))
    random = np.random.default_rng(0)
    rings = np.hypot(*np.mgrid[-1024:1024, -1024:1024]) % 200
    noisy = (random.random(rings.shape) * 40 + rings).astype(np.float32)
    for tile in range(len(grid)):
        region = grid.region(tile)
        pixels.write(region, noisy[: region[0].stop - region[0].start, : region[1].stop - region[1].start])


def copy_seconds(source: Path, target: Path, side: int, threads: int) -> float:
    """Return the time of reading and writing every tile once, without a halo."""
    shutil.rmtree(target, ignore_errors=True)
    create_array(
        str(target), "", (side, side), np.dtype("f4"), Chunking((512, 512)), axes="yx", compression="lz4"
    )
    reads, writes = (ZarrPixels(str(path), "", "yx", "yx") for path in (source, target))
    grid = Grid((side, side), (TILE, TILE))
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: writes.write(grid.region(i), reads.read(grid.region(i))), range(len(grid))))
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def kernel_seconds(source: Path, side: int, steps: int, threads: int) -> float:
    """Return the time of the steps alone, on blocks that are in memory already, for as many cells as the image has."""
    tile = min(TILE, side)
    image = ZarrPixels(str(source), "", "yx", "yx").read((slice(0, tile), slice(0, tile)))
    operator = PeronaMalik(contrast=40, conductance="rational")
    leg = Leg(operator, Explicit().cycles(operator.stable_dt((1.0, 1.0)), None, steps, None))
    blocks = [Block.from_image(image[None], (1.0, 1.0)) for _ in range(threads)]
    rounds = max(1, (side // tile) ** 2 // threads)
    advance(Block.from_image(image[None, :64, :64], (1.0, 1.0)), [leg])

    def work(block: Block) -> None:
        for _ in range(rounds):
            advance(block, [leg])

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks))
    return (time.perf_counter() - start) * (side / tile) ** 2 / (rounds * threads)


def run_seconds(folder: Path, source: Path, steps: int, memory: str, threads: int) -> tuple[float, int, dict]:
    """Return wall time, peak memory of the process tree, and the report of a run in a process of its own."""
    target = folder / "result.zarr"
    for path in (target, Path(f"{target}.run")):
        shutil.rmtree(path, ignore_errors=True)
    spec = folder / "spec.yaml"
    spec.write_text(
        f"source: {{uri: {source}}}\n"
        f"steps: [{{operator: perona-malik, contrast: 40, conductance: rational, steps: {steps}}}]\n"
        f"sink: {{uri: {target}, compression: lz4}}\n"
        f"run: {{memory: {memory}, threads: {threads}}}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli.command", "run", str(spec), "--json"], stdout=subprocess.DEVNULL
    )
    peak, ended = [0], threading.Event()

    def watch() -> None:
        # Looking at all processes of a machine 50 times a second would take a tenth of a core from the run.
        while not ended.wait(0.04):
            peak[0] = max(peak[0], tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    if code:
        raise SystemExit(f"the run ended with {code}")
    report = json.loads(Path(f"{target}.run", "report.json").read_text())
    for path in (target, Path(f"{target}.run")):
        shutil.rmtree(path)
    return report["seconds"], peak[0], report


def main() -> None:
    """Measure in turn and print ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    use_fast_codecs(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        source = folder / f"source-{options.side}.zarr"
        make_source(source, options.side)
        for _ in range(options.repeats):
            copy = copy_seconds(source, folder / "copy.zarr", options.side, options.threads)
            kernel = kernel_seconds(source, options.side, options.steps, options.threads)
            seconds, peak, report = run_seconds(
                folder, source, options.steps, options.memory, options.threads
            )
            predicted = report["memory"]["predicted"]
            print(
                f"kernel alone {kernel:6.2f} s, plain copy {copy:6.2f} s, run {seconds:6.2f} s: "
                f"{seconds / (kernel + copy):.2f} times their sum; "
                f"peak {peak / 2**20:.0f} MiB, predicted {predicted / 2**20:.0f} MiB "
                f"({predicted / peak:.2f} of measured), "
                f"tile {report['plan']['tile']}, passes {report['plan']['passes']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
