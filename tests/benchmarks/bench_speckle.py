"""Compare speckle reduction with its formula in NumPy, and edge maps and impulses with peers, in one run on one thread.

    python tests/benchmarks/bench_speckle.py [--side 1024] [--repeats 3]

Rates are image values (times steps) per second; only ratios of one run are worth quoting.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from skimage import feature

import diffusion_ops as do
from diffusion_ops.blocks.block import Block
from diffusion_ops.kernels.pixels.speckle import EXPONENTIAL, RATIONAL, reduce_speckle

STEPS, TAU, LEVEL = 8, np.float32(0.2), np.float32(0.5)
LEVELS = [float(LEVEL)] * STEPS


def numpy_step(u: Any, kind: int) -> Any:
    """Return a step of the same scheme in NumPy, with as few arrays as it needs."""
    down, right = np.zeros_like(u), np.zeros_like(u)
    np.subtract(u[1:], u[:-1], out=down[:-1])
    np.subtract(u[:, 1:], u[:, :-1], out=right[:, :-1])
    mean, square = down + right, down * down + right * right
    mean[1:] -= down[:-1]
    mean[:, 1:] -= right[:, :-1]
    square[1:] += down[:-1] ** 2
    square[:, 1:] += right[:, :-1] ** 2
    mean *= np.float32(0.25)
    variation = (square * np.float32(0.25) - mean * mean) / (u + mean) ** 2
    x = (variation - LEVEL**2) / (LEVEL**2 * (1 + LEVEL**2))
    c = np.minimum(1, 1 / (1 + x) if kind == RATIONAL else np.exp(-x))
    down[:-1] *= (c[1:] + c[:-1]) * (TAU / 2)
    right[:, :-1] *= (c[:, 1:] + c[:, :-1]) * (TAU / 2)
    u = u + down + right
    u[1:] -= down[:-1]
    u[:, 1:] -= right[:, :-1]
    return u


def fastest(run: Callable[[], Any], repeats: int) -> float:
    """Return the seconds of the fastest repeat, after one that compiles."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    side = given.side
    image = np.random.default_rng(0).gamma(4, 25, (side, side)).astype(np.float32)
    volume = Block.from_image(image.reshape(1, side // 16, 16 * 4, side // 4), (1.0,) * 3)
    block = Block.from_image(image[None], (1.0, 1.0))
    for name, kind in (("rational", RATIONAL), ("exponential", EXPONENTIAL)):
        plain = side * side / fastest(lambda k=kind: numpy_step(image, k), given.repeats)
        compiled = [
            STEPS
            * side
            * side
            / fastest(lambda b=b, k=kind: reduce_speckle(b, k, 0.15, LEVELS), given.repeats)
            for b in (block, volume)
        ]
        print(
            f"speckle, {name:12} {compiled[0] / 1e6:7.0f} Mpx/s, in a volume {compiled[1] / 1e6:.0f}; "
            f"NumPy {plain / 1e6:.0f}, ratio {compiled[0] / plain:.0f} (wanted >= 10)"
        )
    runs: dict[str, Callable[[], Any]] = {
        "gradient magnitude": lambda: do.evolve(image, do.GradientMagnitude()),
        "orientation": lambda: do.evolve(image, do.Orientation()),
        "coherence": lambda: do.evolve(image, do.Coherence()),
        "zero crossings": lambda: do.evolve(image, do.ZeroCrossings()),
        "canny": lambda: do.evolve(image, do.Canny(3.0, 6.0, 2.0)),
        "canny, scikit-image": lambda: feature.canny(image, 2.0, 24.0, 48.0),
    }
    for name, run in runs.items():
        print(f"{name:22}{side * side / fastest(run, given.repeats) / 1e6:7.1f} Mpx/s")
    draw = np.random.default_rng(1).random(image.shape)
    for share in (0.3, 0.9):
        noisy = np.where(draw < share, 1e3, np.clip(image, 1, 999))
        noisy = np.where(draw < share / 2, 0, noisy).astype(np.float32)
        for detection in ("extremes", "median"):
            seconds = fastest(lambda n=noisy, d=detection: do.evolve(n, do.SaltAndPepper(detection=d)), 1)
            print(f"salt and pepper, {share:.0%}, {detection:9}{side * side / seconds / 1e6:7.2f} Mpx/s")


if __name__ == "__main__":
    main()
