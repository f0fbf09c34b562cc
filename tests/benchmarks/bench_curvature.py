"""Compare curvature motions and sharpening with their plain NumPy forms and with ITK, in one run.

    python -m tests.benchmarks.bench_curvature [--side 1024] [--steps 16] [--repeats 3]

One thread, float32, explicit steps. Everything is measured in turn, again and again, by the time of the processor, and
the fastest repeat counts; seconds drift with the machine, so only ratios are worth quoting. A rate is image values
times steps per second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

import diffusion_ops as do
from diffusion_ops.evolution.schedule import Explicit
from tests import plain_motions as plain

Run = tuple[Callable[[], Any], int]
"""What to measure, and how many steps it takes."""

UNIT = (1.0, 1.0)


def noise(side: int) -> Any:
    """Return an image."""
    return (np.random.default_rng(0).random((side, side)) * 255).astype(np.float32)


def ours(operator: do.Operator, side: int, steps: int) -> Run:
    """Return explicit steps on a block that stays in the kernels' layout."""
    block = do.Block.from_image(noise(side)[None], UNIT)
    operator.start(block)
    legs = [do.Leg(operator, Explicit().cycles(operator.stable_dt(UNIT), None, steps, None))]
    return lambda: do.advance(block, legs), steps


def plain_forms(side: int) -> dict[str, Run]:
    """Return one step of every plain form, as a reader of the papers would write it."""
    u = noise(side)

    def shock() -> Any:
        g, h = plain.jet(u, UNIT)
        return plain.shock(u, UNIT, 0.4, np.sign(plain.second_along(g, h)))

    def guided() -> Any:
        g, h = plain.jet(gaussian_filter(u, 1.0), UNIT)
        new = plain.shock(u, UNIT, 0.4, np.sign(plain.second_along(g, h)))
        return plain.bounded(new + 0.08 * plain.tangential(u, UNIT, 1e-3), u)

    def coherent() -> Any:
        (y, x), h = plain.jet(gaussian_filter(u, 1.0), UNIT)
        yy, xx, xy = (gaussian_filter(part, 4.0) for part in (y * y, x * x, x * y))
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)
        return plain.shock(u, UNIT, 0.4, np.sign(plain.second_along([np.sin(angle), np.cos(angle)], h)))

    def diffusivity(q: Any) -> Any:
        return 2 * np.exp(-q / 300) - np.exp(-q / 1200)

    forms: dict[str, Callable[[], Any]] = {
        "mean-curvature": lambda: plain.mean_curvature(u, UNIT, 0.2),
        "affine-curvature": lambda: plain.affine_curvature(u, UNIT, 0.03),
        "min-max-curvature": lambda: plain.min_max_curvature(u, 0.2, 2),
        "curvature-diffusion": lambda: plain.curvature_diffusion(u[None], UNIT, 0.1, 30.0),
        "osher-rudin": shock,
        "alvarez-mazorra": guided,
        "weickert": coherent,
        "forward-backward": lambda: plain.forward_backward(u, UNIT, 1e-4, diffusivity),
        "inverse-diffusion": lambda: plain.inverse_diffusion(u, UNIT, 0.2),
    }
    return {name: (form, 1) for name, form in forms.items()}


def itk_filters(side: int) -> dict[str, Run]:
    """Return ITK's filters on one thread; none where it is not installed."""
    try:
        import itk
    except ImportError:
        return {}
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    image = itk.image_from_array(noise(side))
    flows = {
        "mean-curvature": lambda: itk.curvature_flow_image_filter(
            image, number_of_iterations=2, time_step=0.125
        ),
        "min-max-curvature": lambda: itk.min_max_curvature_flow_image_filter(
            image, number_of_iterations=2, time_step=0.125, stencil_radius=2
        ),
        "curvature-diffusion": lambda: itk.curvature_anisotropic_diffusion_image_filter(
            image, number_of_iterations=2, time_step=0.125, conductance_parameter=1.0
        ),
    }
    return {name: (flow, 2) for name, flow in flows.items()}


def rates(runs: dict[tuple[str, str], Run], values: int, repeats: int) -> dict[tuple[str, str], float]:
    """Return values times steps per second of the fastest repeat; all take turns, after one that compiles."""
    fastest: dict[tuple[str, str], float] = {}
    for repeat in range(repeats + 1):
        for key, (run, steps) in runs.items():
            start = time.process_time()
            run()
            if repeat:
                rate = values * steps / (time.process_time() - start)
                fastest[key] = max(fastest.get(key, 0.0), rate)
    return fastest


def main() -> None:
    """Measure, then print rates and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    side, steps = given.side, given.steps
    operators: dict[str, do.Operator] = {
        "mean-curvature": do.MeanCurvature(),
        "affine-curvature": do.AffineCurvature(),
        "min-max-curvature": do.MinMaxCurvature(2),
        "curvature-diffusion": do.CurvatureDiffusion(30.0),
        "osher-rudin": do.Shock("osher-rudin"),
        "alvarez-mazorra": do.Shock("alvarez-mazorra", diffusion=0.2),
        "weickert": do.Shock("weickert"),
        "weickert, refresh 10": do.Shock("weickert", refresh=10),
        "forward-backward": do.ForwardBackward(30.0, 255.0),
        "inverse-diffusion": do.InverseDiffusion(),
    }
    runs = {("ours", name): ours(operator, side, steps) for name, operator in operators.items()}
    runs |= {("plain", name): run for name, run in plain_forms(side).items()}
    runs |= {("itk", name): run for name, run in itk_filters(side).items()}
    found = rates(runs, side * side, given.repeats)
    print(f"{side} x {side} float32, one thread; million values x steps per second")
    print(f"{'':24}{'ours':>8}{'plain':>8}{'ratio':>8}{'ITK':>8}{'ratio':>8}")
    for name in operators:
        rate = found["ours", name]
        cells = [f"{rate / 1e6:8.0f}"]
        for other in ("plain", "itk"):
            slow = found.get((other, name))
            cells += [f"{slow / 1e6:8.1f}{rate / slow:8.0f}" if slow else " " * 16]
        print(f"{name:24}{''.join(cells)}")


if __name__ == "__main__":
    main()
