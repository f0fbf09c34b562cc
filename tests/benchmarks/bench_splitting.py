"""Compare additive splitting and finite elements with their NumPy and SciPy forms, in one run; nothing passes or fails.

    python tests/benchmarks/bench_splitting.py [--side 1024] [--repeats 7]

Everything is measured in turn, again and again, and the fastest repeat counts; seconds drift with the machine, so only
ratios are worth quoting. A rate is image values times steps per second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import solve_banded

from diffusion_ops import (
    AdditiveSplitting,
    Block,
    Cycle,
    FiniteElementHeat,
    FiniteElementPeronaMalik,
    Heat,
    Leg,
    Operator,
    PeronaMalik,
    advance,
)

CONTRAST, TAU = 20.0, 5.0


def noise(shape: tuple[int, ...]) -> Any:
    """Return an image in float32."""
    return (np.random.default_rng(0).random(shape) * 255).astype(np.float32)


def ours(
    operator: Operator, shape: tuple[int, ...], steps: int, tau: float | None = None
) -> Callable[[], None]:
    """Return a run of explicit steps on a block that stays in the kernels' layout."""
    block = Block.from_image(noise((1, *shape)), (1.0,) * len(shape))
    tau = tau or 0.8 * operator.stable_dt(block.spacing)
    legs = [Leg(operator, (Cycle(tau),) * steps)]

    def run() -> None:
        advance(block, legs)

    return run


def splitting_scipy(side: int) -> Callable[[], None]:
    """Return a step of additive splitting with g = 1, where one banded matrix serves all lines of an axis."""
    u = noise((side, side))
    bands = np.zeros((3, side), np.float32)
    bands[0, 1:] = bands[2, :-1] = -2 * TAU
    bands[1] = 1 + 4 * TAU
    bands[1, [0, -1]] = 1 + 2 * TAU

    def run() -> None:
        _ = (solve_banded((1, 1), bands, u) + solve_banded((1, 1), bands, u.T).T) / 2

    return run


def splitting_numpy(side: int) -> Callable[[], None]:
    """Return a nonlinear step, eliminated row by row over all columns at once."""
    u = noise((side, side))

    def lines(f: Any) -> Any:
        c = 2 * TAU / (1 + (np.diff(f, axis=0) / CONTRAST) ** 2)
        excess, total, x = np.ones_like(f), f.copy(), np.empty_like(f)
        for i in range(len(f) - 1):
            ratio = c[i] / (excess[i] + c[i])
            excess[i + 1] += ratio * excess[i]
            total[i + 1] += ratio * total[i]
        x[-1] = total[-1] / excess[-1]
        for i in range(len(f) - 2, -1, -1):
            x[i] = (total[i] + c[i] * x[i + 1]) / (excess[i] + c[i])
        return x

    def run() -> None:
        _ = (lines(u) + lines(np.ascontiguousarray(u.T)).T) / 2

    return run


def elements_numpy(side: int) -> Callable[[], None]:
    """Return a step of bilinear elements with one rational conductance each."""
    u = noise((side, side))

    def run() -> None:
        v = np.pad(u, 1, mode="edge")
        x, y = np.diff(v, axis=1), np.diff(v, axis=0)
        dx, ex, dy, ey = (
            (x[1:] + x[:-1]) / 2,
            np.diff(x, axis=0),
            (y[:, 1:] + y[:, :-1]) / 2,
            np.diff(y, axis=1),
        )
        g = 0.25 / (1 + (dx**2 + ex**2 / 12 + dy**2 + ey**2 / 12) / CONTRAST**2)
        top, bottom = g * (dx / 2 - ex / 12), g * (dx / 2 + ex / 12)
        left, right = g * (dy / 2 - ey / 12), g * (dy / 2 + ey / 12)
        along, down = top[1:] + bottom[:-1], left[:, 1:] + right[:, :-1]
        _ = u + np.diff(along, axis=1) + np.diff(down, axis=0)

    return run


def fastest(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the seconds of the fastest repeat of each run; all of them take turns, after one that compiles."""
    seconds: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name] = min(seconds.get(name, np.inf), time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure, then print rates and ratios as two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    plane, volume = (given.side,) * 2, (64, 128, 128)
    split, nonlinear = AdditiveSplitting(), AdditiveSplitting(CONTRAST, "rational")
    elements = FiniteElementPeronaMalik(CONTRAST, "rational")
    table: dict[str, tuple[Callable[[], None], int, tuple[int, ...]]] = {
        "splitting": (ours(split, plane, 2, TAU), 2, plane),
        "splitting, exact": (ours(AdditiveSplitting(form="exact"), plane, 2, TAU), 2, plane),
        "splitting, rational": (ours(nonlinear, plane, 2, TAU), 2, plane),
        "splitting, rational, 3-D": (ours(nonlinear, volume, 1, TAU), 1, volume),
        "SciPy, banded": (splitting_scipy(given.side), 1, plane),
        "NumPy, row by row, rational": (splitting_numpy(given.side), 1, plane),
        "elements": (ours(FiniteElementHeat(), plane, 16), 16, plane),
        "elements, consistent": (ours(FiniteElementHeat("consistent"), plane, 1), 1, plane),
        "elements, rational": (ours(elements, plane, 16), 16, plane),
        "elements, rational, 3-D": (ours(elements, volume, 4), 4, volume),
        "NumPy, elements, rational": (elements_numpy(given.side), 1, plane),
        "differences": (ours(Heat(), plane, 16), 16, plane),
        "differences, rational": (ours(PeronaMalik(CONTRAST, "rational"), plane, 16), 16, plane),
    }
    seconds = fastest({name: run for name, (run, _, _) in table.items()}, given.repeats)
    rates = {name: steps * np.prod(shape) / seconds[name] / 1e6 for name, (_, steps, shape) in table.items()}
    print(f"\n{'million values x steps per second':36}")
    for name, rate in rates.items():
        print(f"  {name:32}{rate:10.1f}")
    print(f"\n{'ratio':36}{'measured':>10}")
    for name, other in (
        ("splitting", "SciPy, banded"),
        ("splitting, rational", "NumPy, row by row, rational"),
        ("splitting, exact", "splitting"),
        ("elements, rational", "NumPy, elements, rational"),
        ("elements", "differences"),
        ("elements, rational", "differences, rational"),
        ("elements, consistent", "elements"),
    ):
        print(f"  {name + ' / ' + other:52}{rates[name] / rates[other]:8.2f}")


if __name__ == "__main__":
    main()
