"""Operators as they say themselves that they are to be tested, and how far each is made to go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_ops.evolution.examples import Samples
from diffusion_ops.evolution.operator import OPERATORS, Operator

NEAR_LINEAR = 1e4
"""For required numbers: conductance near 1, so that errors travel far; near 0 a short halo hides."""


def _reasons(exempt: Callable[[Samples], str]) -> dict[str, str]:
    found = {name: exempt(operator.samples) for name, operator in OPERATORS.items()}
    return {name: reason for name, reason in found.items() if reason}


LOPSIDED = _reasons(lambda samples: samples.lopsided)
"""Operators that are not alike along all axes and in both directions, each with the reason."""

PLACED = _reasons(lambda samples: samples.placed)
"""Operators whose result depends on the position in the image, its frame or channel, each with the reason."""

FAINT = _reasons(lambda samples: samples.faint)
"""Operators whose farthest cells show after one step only, each with the reason."""


DECISIVE = _reasons(lambda samples: samples.decisive)
"""Operators whose farthest cells hardly ever sway the result, each with the reason."""


NUMBERED = _reasons(lambda samples: samples.numbered)
"""Operators that number things of the whole image, each with the reason."""


def sample_arguments(name: str) -> list[dict[str, Any]]:
    """Return the samples of an operator; by default without and with smoothing before its gradient."""
    operator = OPERATORS[name]
    if operator.samples.parameters:
        return [dict(sample) for sample in operator.samples.parameters]
    needed = {word: NEAR_LINEAR for word, one in operator.parameters().items() if one.required}
    smooth = [{**needed, "sigma": 0.8}] if "sigma" in operator.parameters() else []
    return [needed, *smooth]


def samples(name: str) -> list[Operator]:
    """Return the operators to test under a name."""
    return [OPERATORS[name](**arguments) for arguments in sample_arguments(name)]


EVOLUTIONS = tuple(name for name, one in OPERATORS.items() if one.controlled_by != "convergence")
"""Operators that `evolve` carries out; the others are problems, which `solve` does."""

PROBLEMS = tuple(name for name in OPERATORS if name not in EVOLUTIONS)

each_operator = pytest.mark.parametrize("name", OPERATORS.names())
each_evolution = pytest.mark.parametrize("name", EVOLUTIONS)
each_problem = pytest.mark.parametrize("name", PROBLEMS)


def takes(operator: Operator, channels: int) -> bool:
    """Return whether an operator takes images of so many channels."""
    return operator.channels in (None, channels)


def each_sample_where(applies: Callable[[Operator], bool]) -> pytest.MarkDecorator:
    """Return the parameters "name" and "sample" of all samples that evolve one channel and that a test applies to."""
    found = [
        (name, i) for name in EVOLUTIONS for i, o in enumerate(samples(name)) if takes(o, 1) and applies(o)
    ]
    return pytest.mark.parametrize(
        ("name", "sample"), [pytest.param(name, i, id=f"{name}-{i}") for name, i in found]
    )


each_sample = each_sample_where(lambda operator: True)


def each_sample_and(
    key: str, cases: Iterable[Any], applies: Callable[[Operator, Any], bool]
) -> pytest.MarkDecorator:
    """Return the parameters "name", "sample" and one more of all samples and cases that a test applies to."""
    every = [(name, i, o) for name in EVOLUTIONS for i, o in enumerate(samples(name))]
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


def problem_image(problem: Operator, *shape: int) -> NDArray[Any]:
    """Return an image that it has an answer for: noise above 0, or the times of fronts from two places."""
    if problem.samples.image == "noise":
        return picture(*shape) + 1
    y, x = np.indices(shape)
    (rows, columns), ways = shape, [(1, 1), (2, 2)]
    times = [abs(y - a * rows // 3) + abs(x - b * columns // 3) for a, b in ways]
    return np.minimum(*times).astype(np.float32)


def flat_shape(operator: Operator, rows: int, columns: int) -> tuple[int, ...]:
    """Return a shape of two axes, or of three with a few planes where it is not defined on two."""
    return (rows, columns) if 2 in operator.dimensions else (5, rows, columns)


def ways(operator: Operator) -> list[dict[str, Any]]:
    """Return how far it goes: explicit steps, and cycles where they make sense; iterations; or once."""
    if operator.controlled_by == "once":
        return [{}]
    explicit: dict[str, Any] = {"steps": 3}
    return [explicit, _cycles(operator, 10.0, 2)] if operator.inertial_cycles else [explicit]


def short_ways(operator: Operator) -> list[dict[str, Any]]:
    """Return ways on which the farthest cell of the halo shows in the last bits of float64.

    What is frozen reads far through taps and conductances that are small; a second cycle would hide them.
    """
    spacing = (1.0,) * operator.dimensions[0]
    far = operator.name not in FAINT and not any(operator.reach(spacing).setup)
    if operator.controlled_by == "once" or far:
        return ways(operator)
    return [{"steps": 1}, _cycles(operator, 1.6, 1)] if operator.inertial_cycles else [{"steps": 1}]


def _cycles(operator: Operator, stable_steps: float, count: int) -> dict[str, Any]:
    spacing = (1.0,) * operator.dimensions[0]
    return {"time": stable_steps * operator.stable_dt(spacing), "schedule": {"cycles": count}}
