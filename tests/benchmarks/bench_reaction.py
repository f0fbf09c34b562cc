"""Compare reaction-diffusion and random numbers with their NumPy forms on one thread; nothing here passes or fails.

    python tests/benchmarks/bench_reaction.py [--side 2048] [--steps 64] [--repeats 3]

Rows are measured in turn, again and again, and the fastest counts. A rate is cells times steps per second; a step
moves both fields.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_ops import Block, Cycle
from diffusion_ops.evolution.operator import OPERATORS
from diffusion_ops.kernels.pixels.noise import LAWS, put_noise

NUMPY_STEPS = 2


def laplacian(u: Any) -> Any:
    """Return the sum of the differences to four neighbours; edges are walls."""
    wide = np.pad(u, 1, mode="edge")
    return wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * u


def numpy_gray_scott(side: int, dtype: Any) -> tuple[Callable[[], None], int]:
    """Return steps of the equation as it is written, and how many."""
    u, v = np.random.default_rng(0).random((2, side, side)).astype(dtype)
    f, k, tau, dv, du = map(dtype, (0.035, 0.065, 0.4, 0.1, 0.2))

    def run() -> None:
        a, b = v, u
        for _ in range(NUMPY_STEPS):
            made = b * a * a
            a, b = (
                a + tau * (dv * laplacian(a) + made - (f + k) * a),
                b + tau * (du * laplacian(b) - made + f * (dtype(1) - b)),
            )

    return run, NUMPY_STEPS


def ours(name: str, side: int, steps: int, dtype: Any, **arguments: Any) -> tuple[Callable[[], None], int]:
    """Return steps of an operator on a block that has started, and how many."""
    operator = OPERATORS[name](**arguments)
    block = Block.from_image(np.random.default_rng(0).random((1, side, side)).astype(dtype), (1.0, 1.0))
    operator.start(block)
    return lambda: operator.run(block, Cycle(0.5 * operator.stable_dt((1.0, 1.0))), steps), steps


def numpy_noise(side: int, dtype: Any) -> tuple[Callable[[], None], int]:
    """Return NumPy's own Gaussian numbers, which depend on the order in which they are drawn."""
    generator, image = np.random.Generator(np.random.Philox(0)), np.zeros((side, side), dtype)

    def run() -> None:
        np.add(image, generator.standard_normal(image.shape, dtype=dtype), out=image)

    return run, 1


def noise(law: str, side: int, dtype: Any) -> tuple[Callable[[], None], int]:
    """Return noise on a block."""
    block = Block.from_image(np.full((1, side, side), 100.0, dtype), (1.0, 1.0))
    return lambda: put_noise(block, law, (1.0, 0.0, 1.0), 0), 1


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("side", 2048), ("steps", 64), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    rows: dict[str, tuple[Callable[[], None], int]] = {}
    for dtype in (np.float32, np.float64):
        kind = dtype.__name__
        rows[f"NumPy gray-scott {kind}"] = numpy_gray_scott(given.side, dtype)
        for name in ("gray-scott", "fitzhugh-nagumo", "schnakenberg"):
            rows[f"{name} {kind}"] = ours(name, given.side, given.steps, dtype)
        rows[f"gray-scott aligned {kind}"] = ours(
            "gray-scott", given.side, max(1, given.steps // 8), dtype, anisotropy=0.9
        )
        rows[f"stochastic-heat {kind}"] = ours("stochastic-heat", given.side, max(1, given.steps // 8), dtype)
        rows[f"NumPy gaussian {kind}"] = numpy_noise(given.side, dtype)
        for law in LAWS:
            rows[f"{law} {kind}"] = noise(law, given.side, dtype)
    best = dict.fromkeys(rows, float("inf"))
    for _ in range(given.repeats + 1):
        for name, (run, _) in rows.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    for name, (_, steps) in rows.items():
        print(f"{name:32s} {given.side**2 * steps / best[name] / 1e6:8.0f} M cells x steps / s")


if __name__ == "__main__":
    main()
