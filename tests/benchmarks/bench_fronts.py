"""Compare fronts with scikit-fmm and scikit-image's watershed, by ratios; nothing here passes or fails.

    python -m tests.benchmarks.bench_fronts [--side 2048] [--repeats 3]

Everything is measured in turn, again and again, in CPU time of one thread, and the fastest repeat counts. scikit-fmm is
left out where it is not installed; it computes in float64 alone. Memory is what a process of its own takes at its peak
beyond what it holds before: the image and the markers.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import sobel
from skimage.segmentation import watershed

import diffusion_ops as do
from tests.benchmarks.bench_kernels import fastest, void

PEAK = """
import re, sys
from pathlib import Path
from tests.benchmarks.bench_fronts import run_of
run_of(sys.argv[1], sys.argv[2], 64)()
run = run_of(sys.argv[1], sys.argv[2], int(sys.argv[3]))
def status(word):
    return int(re.search(rf"{word}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
run()
print((status("VmHWM") - before) * 1024)
"""
"""A program that prints the memory of a run, on Linux."""


def fast_marching() -> Any:
    """Return scikit-fmm, None where it is not installed."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("skfmm")
    return None


def speeds(name: str, side: int) -> NDArray[np.float64]:
    """Return an image of speeds."""
    if name == "constant":
        return np.ones((side, side))
    if name == "smooth":
        rows = np.arange(side)
        return np.asarray(1 / (2 + np.sin(rows / 50)[:, None] * np.cos(rows / 70)))
    random = np.random.default_rng(0)
    return np.exp(random.normal(size=(side, side)))


def centre(side: int) -> NDArray[np.int32]:
    """Return one marker in the middle."""
    markers = np.zeros((side, side), np.int32)
    markers[side // 2, side // 2] = 1
    return markers


def cells(side: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return an image with round cells and noise, and a marker in each cell and between them."""
    rows = np.arange(side) % 64 - 32
    near = np.hypot(rows[:, None], rows) < 20
    image = (100 * near + np.random.default_rng(0).normal(0, 5, near.shape)).astype(np.float32)
    markers = np.zeros((side, side), np.int32)
    places = np.arange(32, side, 64)
    markers[np.ix_(places, places)] = np.arange(1, len(places) ** 2 + 1).reshape(len(places), -1)
    markers[np.ix_(places - 32, places - 32)] = len(places) ** 2 + 1
    return image, markers


def run_of(who: str, case: str, side: int) -> Callable[[], None]:
    """Return a run: "float32", "float64" or "scikit-fmm" over speeds; "ours" or "scikit-image" for labels."""
    if case == "labels":
        image, markers = cells(side)
        if who == "ours":
            return lambda: void(do.solve(image, do.GeodesicLabels(sigma=0.0), markers=markers))
        return lambda: void(watershed(sobel(image), markers))
    speed, markers = speeds(case, side), centre(side)
    if who == "scikit-fmm":
        phi = np.where(markers > 0, -1.0, 1.0)
        return functools.partial(lambda f: void(f.travel_time(phi, speed, order=1)), fast_marching())
    image = speed.astype(who)
    return lambda: void(do.solve(image, do.Eikonal(), markers=markers))


def peak(who: str, case: str, side: int) -> int:
    """Return the memory of a run in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, who, case, str(side)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def main() -> None:
    """Measure, then print rates, bytes and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    others = ["scikit-fmm"] if fast_marching() is not None else []
    pairs = [
        (who, case) for case in ("constant", "smooth", "noise") for who in ("float32", "float64", *others)
    ]
    pairs += [("ours", "labels"), ("scikit-image", "labels")]
    runs: dict[str, Callable[[], None] | None] = {f"{w} {c}": run_of(w, c, given.side) for w, c in pairs}
    seconds = fastest(runs, given.repeats)
    print(f"{'one thread, ' + str(given.side) + ' squared':32}{'Mpx/s':>8}{'bytes/px':>10}")
    for who, case in pairs:
        rate, memory = given.side**2 / seconds[f"{who} {case}"] / 1e6, peak(who, case, given.side)
        print(f"  {case + ', ' + who:30}{rate:8.1f}{memory / given.side**2:10.1f}")


if __name__ == "__main__":
    main()
