"""Compare total variation with scikit-image's, iteration by iteration and error by error; nothing here passes or fails.

    python -m tests.benchmarks.bench_total_variation [--side 1024] [--iterations 32] [--repeats 5]

Everything is measured in turn, again and again, and the fastest repeat counts; seconds drift with the machine, so only
ratios are worth quoting. A rate is image values times iterations per second, of one thread.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from skimage.restoration import denoise_tv_chambolle

import diffusion_ops as do
from diffusion_ops import Block
from tests.benchmarks.bench_kernels import fastest, noise, void

WEIGHT = 18.0
ERRORS = (1.0, 0.1, 0.01)


def ours(shape: tuple[int, ...], iterations: int, dtype: Any) -> Callable[[], None]:
    """Return a run of iterations on a block that stays in the kernels' layout."""
    operator = do.TotalVariation(WEIGHT)
    block = Block.from_image(noise(shape, dtype), (1.0,) * (len(shape) - 1))
    operator.start(block)
    return lambda: operator.run(block, do.Cycle(0.0), iterations)


def theirs(shape: tuple[int, ...], iterations: int, dtype: Any) -> Callable[[], None]:
    """Return scikit-image's iterations; it takes channels one after another, without coupling them."""
    image, axis = noise(shape, dtype), None if shape[0] == 1 else 0
    image = image[0] if axis is None else image
    run = functools.partial(denoise_tv_chambolle, weight=WEIGHT, eps=0, channel_axis=axis)
    return lambda: void(run(image, max_num_iter=iterations))


def iterations_needed(solve: Callable[[int], Any], least: Any, error: float) -> int:
    """Return the power of two of iterations after which the root mean square error is below `error`."""
    count = 1
    while np.sqrt(np.mean((solve(count) - least) ** 2)) > error and count < 1 << 15:
        count *= 2
    return count


def main() -> None:
    """Measure, then print rates, ratios and the iterations to an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--iterations", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    side, few = given.side, max(1, given.iterations // 8)
    cases = {
        "float32": ((1, side, side), np.float32),
        "float64": ((1, side, side), np.float64),
        "3 channels": ((3, side, side), np.float32),
        "3-D": ((1, 64, side // 4, side // 4), np.float32),
    }
    runs: dict[str, Callable[[], None] | None] = {}
    for name, (shape, dtype) in cases.items():
        runs[name] = ours(shape, given.iterations, dtype)
        runs[f"scikit-image, {name}"] = theirs(shape, few, dtype)
    seconds = fastest(runs, given.repeats)
    print(f"{'million values x iterations per second':40}{'ours':>8}{'theirs':>8}{'ratio':>8}{'wanted':>8}")
    for name, (shape, _) in cases.items():
        rate = np.prod(shape) * given.iterations / seconds[name] / 1e6
        other = np.prod(shape) * few / seconds[f"scikit-image, {name}"] / 1e6
        print(f"  {name:38}{rate:8.0f}{other:8.0f}{rate / other:8.1f}{'>= 10':>8}")

    rows = np.arange(200)[:, None] - 99.5
    image = 100 * (np.hypot(rows, rows.T) < 50) + np.random.default_rng(0).normal(0, 25, (200, 200))
    least = do.evolve(image, do.TotalVariation(WEIGHT), steps=20_000)
    print(f"\n{'iterations to an error of, grey levels':40}{'ours':>8}{'theirs':>8}")
    for error in ERRORS:
        mine = iterations_needed(lambda n: do.evolve(image, do.TotalVariation(WEIGHT), steps=n), least, error)
        other = iterations_needed(
            lambda n: denoise_tv_chambolle(image, weight=WEIGHT, eps=0, max_num_iter=n), least, error
        )
        print(f"  {error:<38}{mine:8}{other:8}")


if __name__ == "__main__":
    main()
