"""Compare anisotropic diffusion with DIPlib's and with itself, in one run; nothing here passes or fails.

    python tests/benchmarks/bench_tensor.py [--side 1024] [--steps 8] [--repeats 3]

Seconds are those that the processor spent on the thread (DIPlib is told to take one), so that other work on the machine
counts less; the fastest repeat counts. A rate is image values times steps per second. Where DIPlib is not installed its
rows are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import diffusion_ops as do
from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.schedule import Cycle

PEER_STEPS = 2


def texture(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Return lines and noise, of shape (channels, *spatial)."""
    y, x = np.indices(shape[-2:]) / 7
    lines = 100 + 40 * np.sin(x + 0.6 * y) + 30 * np.sin(0.3 * x * np.sin(y / 9))
    return (lines + 20 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def ours(
    operator: do.Operator, shape: tuple[int, ...], steps: int, inertial: bool = False, dtype: Any = np.float32
) -> Callable[[], None]:
    """Return explicit steps, each with a tensor of its own, or one FSI cycle with a single one."""
    block = Block.from_image(texture(shape, dtype), (1.0,) * (len(shape) - 1))
    tau = 0.8 * operator.stable_dt(block.spacing)
    cycles = (Cycle(tau, steps, True),) if inertial else (Cycle(tau),) * steps
    return lambda: void(advance(block, [Leg(operator, cycles)]))


def diplib_run(side: int, flags: set[str]) -> Callable[[], None] | None:
    """Return DIPlib's coherence-enhancing diffusion on one thread, or None where it is not installed."""
    try:
        import diplib
    except ImportError:
        return None
    diplib.SetNumberOfThreads(1)
    image = diplib.Image(texture((1, side, side))[0])
    return lambda: void(diplib.CoherenceEnhancingDiffusion(image, 1.0, 3.0, PEER_STEPS, flags))


def void(result: Any) -> None:
    """Drop a result."""


def fastest(runs: dict[str, Callable[[], None] | None], repeats: int) -> dict[str, float]:
    """Return the processor's seconds of the fastest repeat of each run; they take turns, after one that compiles."""
    seconds: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            if run is not None and (repeat < 2 or "DIPlib" not in name):
                start = time.thread_time()
                run()
                if repeat:
                    seconds[name] = min(seconds.get(name, np.inf), time.thread_time() - start)
    return seconds


def main() -> None:
    """Measure, then print rates and ratios as two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    side, steps = given.side, given.steps
    edges, lines = do.EdgeEnhancing(20.0), do.CoherenceEnhancing(10.0, sigma=1.0, rho=3.0)
    plane, volume, colour = (1, side, side), (1, 64, 128, 256), (3, side // 2, side)
    runs: dict[str, tuple[Callable[[], None] | None, tuple[int, ...], int]] = {
        "edges, tensor per step": (ours(edges, plane, steps), plane, steps),
        "edges, rho 1, tensor per step": (ours(do.EdgeEnhancing(20.0, rho=1.0), plane, steps), plane, steps),
        "lines, tensor per step": (ours(lines, plane, steps), plane, steps),
        "edges, tensor per cycle": (ours(edges, plane, steps, True), plane, steps),
        "lines, tensor per cycle": (ours(lines, plane, steps, True), plane, steps),
        "edges, 3 channels": (ours(edges, colour, steps), colour, steps),
        "edges, float64": (ours(edges, plane, steps, dtype=np.float64), plane, steps),
        "edges, 3-D": (ours(edges, volume, 2), volume, 2),
        "edges, 3-D, per cycle": (ours(edges, volume, steps, True), volume, steps),
        "edges, lattice": (ours(do.EdgeEnhancing(20.0, discretisation="lattice"), plane, 2), plane, 2),
        "lines, DIPlib": (diplib_run(side, {"variable"}), plane, PEER_STEPS),
        "heat": (ours(do.Heat(), plane, 16), plane, 16),
    }
    seconds = fastest({name: run for name, (run, _, _) in runs.items()}, given.repeats)
    if "lines, DIPlib" not in seconds:
        print("DIPlib is not installed: its rows are left out.")
    rates = {name: np.prod(runs[name][1]) * runs[name][2] / s / 1e6 for name, s in seconds.items()}
    print(f"\n{'million values x steps per second':36}")
    for name, rate in rates.items():
        print(f"  {name:34}{rate:10.1f}")
    print(f"\n{'ratio':58}{'measured':>10}{'wanted':>8}")
    for name, other, wanted in (
        ("edges, tensor per step", "lines, DIPlib", ">= 100"),
        ("lines, tensor per step", "lines, DIPlib", ">= 100"),
        ("edges, tensor per cycle", "lines, DIPlib", ">= 100"),
        ("lines, tensor per cycle", "lines, DIPlib", ">= 100"),
        ("edges, 3 channels", "edges, tensor per step", ">= 0.5"),
    ):
        if name in rates and other in rates:
            print(f"  {name + ' / ' + other:54}{rates[name] / rates[other]:10.2f}{wanted:>10}")


if __name__ == "__main__":
    main()
