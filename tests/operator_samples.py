"""Parameters that operators are tested with, and how far each is made to go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_ops.evolution.operator import OPERATORS, Operator

NEAR_LINEAR = 1e4
"""For required numbers: conductance near 1, so that errors travel far; near 0 a short halo hides."""

SAMPLES: dict[str, list[dict[str, Any]]] = {
    "edge-enhancing": [
        {"contrast": 1e4},
        {"contrast": 60.0, "sigma": 0.0},
        {"contrast": 40.0, "rho": 0.75, "conductance": "weickert"},
        {"contrast": 40.0, "sigma": 0.0, "discretisation": "lattice", "condition": 3.0},
    ],
    "coherence-enhancing": [
        {"contrast": 40.0, "rho": 1.0},
        {"contrast": 40.0, "rho": 0.75, "enhancement": "cced"},
    ],
    "additive-splitting": [
        {"contrast": 1e4, "partition": 16},
        {"contrast": 60.0, "sigma": 0.75, "partition": 16},
    ],
    "finite-element-heat": [{}],
    "finite-element-perona-malik": [
        {"contrast": 1e4},
        {"contrast": 60.0, "sigma": 0.75},
        {"contrast": 20.0, "conductance": "rational"},
    ],
    "perona-malik": [
        {"contrast": 1e4},
        {"contrast": 60.0, "sigma": 0.75},
        {"contrast": 20.0, "conductance": "rational"},
    ],
    "total-variation": [{"weight": 50.0}, {"weight": 10.0}],
    "total-variation-flow": [
        {"tolerance": 10.0, "inner_iterations": 3},
        {"tolerance": 5.0, "inner_iterations": 2},
    ],
    "salt-and-pepper": [
        {"pepper": 97.0, "salt": 103.0, "contrast": 30.0, "sigma": 0.0, "rho": 0.75},
        {
            "pepper": 98.0,
            "salt": 102.0,
            "contrast": 50.0,
            "sigma": 0.75,
            "rho": 0.0,
            "conductance": "rational",
        },
    ],
    "speckle-reducing": [{"level": 0.3, "decay": 0.0}, {"level": 0.3, "conductance": "exponential"}],
    "gradient-magnitude": [{"sigma": 0.0}, {"sigma": 0.75}],
    "edge-stopping": [{"contrast": 60.0, "sigma": 0.75}, {"contrast": 20.0, "conductance": "rational"}],
    "zero-crossings": [{"sigma": 0.0}, {"sigma": 0.0, "contrast": 20.0}],
    "canny": [{"low": 0.1, "high": 30.0, "sigma": 0.0, "joined": False}],
    "orientation": [{"sigma": 0.0, "rho": 0.75}, {"sigma": 0.75, "rho": 0.75}],
    "coherence": [{"sigma": 0.75, "rho": 0.75}, {"rho": 1.0, "normalised": False}],
    "random-noise": [
        {"level": 5.0},
        {"level": 0.2, "law": "impulse"},
        {"level": 2.0, "law": "poisson"},
    ],
    "stochastic-heat": [{"level": 5.0}],
    "gray-scott": [{"white": 200.0}],
    "fitzhugh-nagumo": [{"white": 200.0}],
    "schnakenberg": [{"white": 100.0}],
    "mean-curvature": [{}, {"epsilon": 50.0}],
    "affine-curvature": [{}],
    "min-max-curvature": [{}, {"stencil_radius": 1}, {"stencil_radius": 3}],
    "curvature-diffusion": [{"contrast": 1e4}, {"contrast": 60.0, "conductance": "rational"}],
    "shock": [
        {"kind": "osher-rudin", "ramp": 20.0},
        {"kind": "alvarez-mazorra", "sigma": 0.75, "ramp": 20.0, "diffusion": 0.3},
        {"kind": "weickert", "sigma": 0.75, "rho": 0.75, "ramp": 20.0},
        {"kind": "weickert", "sigma": 0.75, "rho": 0.75, "ramp": 20.0, "refresh": 2},
    ],
    "forward-backward": [
        {"contrast": 5e3, "extent": 2.1e4},
        {"contrast": 5e3, "extent": 2.1e4, "diffusivity": "rational"},
    ],
    "inverse-diffusion": [{}],
}
"""Parameters per operator; influence travels as far as its halo says for each. Images are of 0 to 200."""

LOPSIDED: Mapping[str, str] = {
    "random-noise": "every cell draws its own numbers",
    "stochastic-heat": "as random noise",
    "orientation": "an angle turns and flips with the image",
    "total-variation": "one norm of the differences to the next cell of each axis: a flip puts it in other cells",
    "total-variation-flow": "as total variation",
}
"""Operators that are not alike along all axes and in both directions, each with the reason."""

PLACED: Mapping[str, str] = {
    "additive-splitting": "lines are cut on a grid that begins at the image's first cell",
    "random-noise": "every cell draws its own numbers",
    "stochastic-heat": "as random noise",
}
"""Operators whose result depends on the place in the image, its frame or channel, each with the reason."""


FAINT: Mapping[str, str] = {
    "inverse-diffusion": "limiters pass the farthest cells over, again and again",
    "min-max-curvature": "as inverse diffusion",
    "salt-and-pepper": "impulses are filled from near by; the farthest ones weigh nothing after a step",
}
"""Operators whose farthest cells show after one step only, each with the reason."""


def sample_arguments(name: str) -> list[dict[str, Any]]:
    """Return the samples of an operator; by default without and with smoothing before its gradient."""
    if name in SAMPLES:
        return SAMPLES[name]
    fields = dataclasses.fields(OPERATORS[name])  # type: ignore[arg-type]
    needed = {f.name: NEAR_LINEAR for f in fields if f.init and f.default is dataclasses.MISSING}
    smooth = [{**needed, "sigma": 0.8}] if any(f.name == "sigma" for f in fields) else []
    return [needed, *smooth]


def samples(name: str) -> list[Operator]:
    """Return the operators to test under a name."""
    return [OPERATORS[name](**arguments) for arguments in sample_arguments(name)]


each_operator = pytest.mark.parametrize("name", OPERATORS.names())


def each_sample_where(applies: Callable[[Operator], bool]) -> pytest.MarkDecorator:
    """Return the parameters "name" and "sample" of all samples that a test applies to."""
    found = [(name, i) for name in OPERATORS.names() for i, o in enumerate(samples(name)) if applies(o)]
    return pytest.mark.parametrize(
        ("name", "sample"), [pytest.param(name, i, id=f"{name}-{i}") for name, i in found]
    )


each_sample = each_sample_where(lambda operator: True)


def each_sample_and(
    key: str, cases: Iterable[Any], applies: Callable[[Operator, Any], bool]
) -> pytest.MarkDecorator:
    """Return the parameters "name", "sample" and one more of all samples and cases that a test applies to."""
    every = [(name, i, o) for name in OPERATORS.names() for i, o in enumerate(samples(name))]
    return pytest.mark.parametrize(
        ("name", "sample", key),
        [
            pytest.param(name, i, case, id=f"{name}-{i}-{case}")
            for case in cases
            for name, i, operator in every
            if applies(operator, case)
        ],
    )


def picture(*shape: int, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    """Return noise between 0 and 200."""
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def flat_shape(operator: Operator, rows: int, columns: int) -> tuple[int, ...]:
    """Return a shape of two axes, or of three with a few planes where it is not defined on two."""
    return (rows, columns) if 2 in operator.dimensions else (5, rows, columns)


def ways(operator: Operator) -> list[dict[str, Any]]:
    """Return how far it goes: explicit steps, and cycles where they make sense; iterations; or once."""
    if operator.marches == "once":
        return [{}]
    explicit: dict[str, Any] = {"steps": 3}
    return [explicit, _cycles(operator, 10.0, 2)] if operator.inertial_cycles else [explicit]


def short_ways(operator: Operator) -> list[dict[str, Any]]:
    """Return ways on which the farthest cell of the halo shows in the last bits of float64.

    What is frozen reads far through taps and conductances that are small; a second cycle would hide them.
    """
    spacing = (1.0,) * operator.dimensions[0]
    far = operator.name not in FAINT and not any(operator.reach(spacing).setup)
    if operator.marches == "once" or far:
        return ways(operator)
    return [{"steps": 1}, _cycles(operator, 1.6, 1)] if operator.inertial_cycles else [{"steps": 1}]


def _cycles(operator: Operator, stable_steps: float, count: int) -> dict[str, Any]:
    spacing = (1.0,) * operator.dimensions[0]
    return {"time": stable_steps * operator.stable_dt(spacing), "schedule": {"cycles": count}}
