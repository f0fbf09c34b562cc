"""Compare steady states with scikit-image and a direct solver, in one run; nothing passes or fails.

    python tests/benchmarks/bench_steady.py [--side 512] [--repeats 3] [--beta 130] [--direct]

The random walker of three labels is compared with scikit-image's ways at their default tolerances, by time of the
processor and by labels that differ from a direct solution; inpainting with scikit-image's biharmonic equation. cg_mg
needs pyamg. Memory is what NumPy and SciPy have taken at the peak beside the image, as Python counts it; a direct
solver's own memory is not counted, so that ratio is a lower bound.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.restoration import inpaint_biharmonic
from skimage.segmentation import random_walker

import diffusion_ops as do


def scene(side: int) -> tuple[Any, Any]:
    """Return an image of values from 0 to 1, mirrored to the size, and markers of three labels at 1 % of the pixels."""
    image = np.pad(data.camera(), ((0, max(0, side - 512)),) * 2, mode="symmetric")[:side, :side] / 255
    smooth = gaussian_filter(image, 4)
    labels = 1 + np.digitize(smooth, np.quantile(smooth, [1 / 3, 2 / 3]))
    return image, np.where(np.random.default_rng(0).random(image.shape) < 0.01, labels, 0).astype(np.int32)


def fastest(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least time of the processor, and the result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    return min(times), result


def peak(run: Callable[[], Any]) -> float:
    """Return the peak of the counted memory in MiB."""
    tracemalloc.start()
    run()
    top = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return top


def walkers(side: int, beta: float, direct: bool) -> dict[str, Callable[[], Any]]:
    """Return the ways to run a random walker, ours first."""
    image, markers = scene(side)
    walker = do.RandomWalker(beta=beta, full_scale=1.0)

    def theirs(mode: str) -> Callable[[], Any]:
        return lambda: random_walker(image, markers.copy(), beta=beta, mode=mode)

    ways = {"ours": lambda: do.solve(image, walker, markers=markers), "cg_j": theirs("cg_j")}
    with contextlib.suppress(ImportError):
        importlib.import_module("pyamg")
        ways["cg_mg"] = theirs("cg_mg")
    return {**ways, "direct": theirs("bf")} if direct else ways


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--beta", type=float, default=130.0)
    parser.add_argument(
        "--direct", action="store_true", help="compare with a direct solution: slow beyond 1024"
    )
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    ways = walkers(chosen.side, chosen.beta, chosen.direct)
    ways["ours"]()
    found = {name: fastest(run, chosen.repeats) for name, run in ways.items()}
    truth = found.get("direct", found["ours"])[1]
    for name, (seconds, labels) in found.items():
        wrong = int(np.count_nonzero(labels != truth))
        print(
            f"random walker, {name:7} {seconds:8.2f} s, {seconds / found['ours'][0]:6.1f} times ours, "
            f"{peak(ways[name]):7.0f} MiB, {wrong:6} labels differ from {'direct' if chosen.direct else 'ours'}",
            flush=True,
        )
    image, _ = scene(chosen.side)
    known = np.random.default_rng(1).random(image.shape) < 0.1
    theirs, _ = fastest(lambda: inpaint_biharmonic(image, ~known), 1)
    for by in ("edge-enhancing", "harmonic", "biharmonic", "total-variation"):
        way = do.Inpainting(by=by)
        do.solve(image, way, known=known)
        seconds, filled = fastest(lambda way=way: do.solve(image, way, known=known), 1)
        error = -10 * np.log10(np.square(filled - image).mean())
        print(
            f"inpainting, {by:16} {seconds:8.2f} s, scikit-image's biharmonic {theirs / seconds:6.1f} times, "
            f"{error:.2f} dB",
            flush=True,
        )


if __name__ == "__main__":
    main()
