"""Compare the kernels with MedPy, ITK, each other and the memory, in one run; nothing here passes or fails.

    python tests/benchmarks/bench_kernels.py [--side 2048] [--steps 64] [--repeats 5]

Everything is measured in turn, again and again, and the fastest repeat counts; seconds drift with the machine, so only
ratios are worth quoting. A rate is image values times steps per second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from diffusion_ops import Block, Explicit, Heat, Leg, Operator, PeronaMalik, advance

CONTRAST, DT = 20.0, 0.2
PEER_STEPS = 2


def noise(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Return an image of shape (channels, *spatial)."""
    return (np.random.default_rng(0).random(shape) * 255).astype(dtype)


def ours(
    operator: Operator, shape: tuple[int, ...], steps: int, dtype: Any = np.float32
) -> Callable[[], None]:
    """Return a run of explicit steps on a block that stays in the kernels' layout."""
    block = Block.from_image(noise(shape, dtype), (1.0,) * (len(shape) - 1))
    legs = [Leg(operator, Explicit().cycles(operator.stable_dt(block.spacing), None, steps, None))]
    return lambda: void(advance(block, legs))


def two_threads(operator: Operator, side: int, steps: int, pool: ThreadPoolExecutor) -> Callable[[], None]:
    """Return the same run as two bands with a halo, one thread each, as two tasks of a Dask graph would be."""
    image, half = noise((1, side, side)), side // 2
    upper = Block.from_image(image[:, : half + steps], (1.0, 1.0), open_sides=((False, True), (False, False)))
    lower = Block.from_image(image[:, half - steps :], (1.0, 1.0), open_sides=((True, False), (False, False)))
    legs = [Leg(operator, Explicit().cycles(operator.stable_dt((1.0, 1.0)), None, steps, None))]

    def run() -> None:
        for block in (upper, lower):
            block.spoilt = (0, 0)
        list(pool.map(lambda block: advance(block, legs), (upper, lower)))

    return run


def medpy_run(option: int, side: int) -> Callable[[], None] | None:
    """Return MedPy's anisotropic diffusion, or None where it is not installed."""
    try:
        from medpy.filter.smoothing import anisotropic_diffusion
    except ImportError:
        return None
    image = noise((side, side))
    return lambda: void(
        anisotropic_diffusion(image, niter=PEER_STEPS, kappa=CONTRAST, gamma=DT, option=option)
    )


def itk_run(side: int) -> Callable[[], None] | None:
    """Return ITK's gradient anisotropic diffusion on one thread, or None where it is not installed."""
    try:
        import itk
    except ImportError:
        return None
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    image = itk.image_from_array(noise((side, side)))
    return lambda: void(
        itk.gradient_anisotropic_diffusion_image_filter(
            image, number_of_iterations=PEER_STEPS, time_step=0.125, conductance_parameter=1.0
        )
    )


def void(result: Any) -> None:
    """Drop a result."""


def fastest(runs: dict[str, Callable[[], None] | None], repeats: int) -> dict[str, float]:
    """Return the seconds of the fastest repeat of each run; all of them take turns, after one that compiles."""
    seconds: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            if run is not None:
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
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    side, steps, few = given.side, given.steps, 16
    rational, exponential = PeronaMalik(CONTRAST, "rational"), PeronaMalik(CONTRAST, "exponential")
    source, target = noise((1, 4096, 4096)), noise((1, 4096, 4096))
    plane, volume, colour = (1, side, side), (1, 128, 256, 256), (3, 1024, 1024)
    with ThreadPoolExecutor(2) as pool:
        runs: dict[str, Callable[[], None] | None] = {
            "rational": ours(rational, plane, steps),
            "exponential": ours(exponential, plane, steps),
            "heat": ours(Heat(), plane, steps),
            **{
                name: ours(PeronaMalik(CONTRAST, name), plane, few)
                for name in ("charbonnier", "tukey", "weickert")
            },
            "rational, two threads": two_threads(rational, side, steps, pool),
            "exponential, two threads": two_threads(exponential, side, steps, pool),
            "rational, 8 neighbours": ours(PeronaMalik(CONTRAST, "rational", neighbours=8), plane, few),
            "rational, float64": ours(rational, plane, few, np.float64),
            "exponential, float64": ours(exponential, plane, few, np.float64),
            "rational, 3 channels": ours(rational, colour, few),
            "exponential, 3 channels": ours(exponential, colour, few),
            "rational, 3-D": ours(rational, volume, few),
            "exponential, 3-D": ours(exponential, volume, few),
            "MedPy, rational": medpy_run(2, side),
            "MedPy, exponential": medpy_run(1, side),
            "ITK, exponential": itk_run(side),
            "plain copy": lambda: np.copyto(target, source),
        }
        seconds = fastest(runs, given.repeats)
    for peer in (name for name, run in runs.items() if run is None):
        print(f"{peer.split(',')[0]} is not installed: {peer} is left out.")

    values = {name: side * side * steps for name in ("rational", "exponential", "heat")}
    values |= {name: side * side * steps for name in runs if "two threads" in name}
    values |= {name: side * side * PEER_STEPS for name in runs if name.startswith(("MedPy", "ITK"))}
    values |= {name: int(np.prod(volume)) * few for name in runs if "3-D" in name}
    values |= {name: int(np.prod(colour)) * few for name in runs if "channels" in name}
    rates = {name: values.get(name, side * side * few) / s / 1e6 for name, s in seconds.items()}
    rates["plain copy"] = source.size / seconds["plain copy"] / 1e6
    print(f"\n{'million values x steps per second':36}")
    for name, rate in rates.items():
        print(f"  {name:32}{rate:10.0f}")

    print(f"\n{'ratio':36}{'measured':>10}{'wanted':>10}")
    for name, other, wanted in (
        ("rational", "MedPy, rational", ">= 15"),
        ("rational", "ITK, exponential", ">= 100"),
        ("exponential", "MedPy, exponential", ">= 5"),
        ("rational, two threads", "rational", ">= 1.8"),
        ("exponential, two threads", "exponential", ">= 1.8"),
        ("rational, 3-D", "rational", ">= 0.5"),
        ("exponential, 3-D", "exponential", ">= 0.5"),
        ("rational, 3 channels", "rational", ">= 0.5"),
        ("exponential, 3 channels", "exponential", ">= 0.5"),
        ("rational, float64", "rational", "0.5"),
        # A copy reads and writes each value once; a step that kept nothing in cache could be no faster.
        ("heat", "plain copy", "> 1"),
        ("rational", "plain copy", "> 1"),
    ):
        if name in rates and other in rates:
            print(f"  {name + ' / ' + other:44}{rates[name] / rates[other]:8.2f}{wanted:>10}")


if __name__ == "__main__":
    main()
