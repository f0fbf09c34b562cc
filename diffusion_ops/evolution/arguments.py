"""Resolve the arguments of an evolution before any pixel is read: operators, times, spacing, batches."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from diffusion_ops.evolution.adaptive import Adaptive, adaptive_from
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import OPERATORS, Iteration, Operator
from diffusion_ops.evolution.schedule import Cycle, Schedule, resolve_schedule

OperatorLike: TypeAlias = Operator | str
"""One operator, or the name of one with its default parameters."""

TimeLike: TypeAlias = float | Literal["auto"]
ScheduleLike: TypeAlias = Schedule | Adaptive | str | Mapping[str, object]
SpacingLike: TypeAlias = float | str | Sequence[float] | Mapping[Hashable, float]

V = TypeVar("V")
OneOrEach: TypeAlias = V | Sequence[V | None] | None
"""One value for all operators of a chain, or one for each."""


class Container(TypedDict, total=False):
    """What `evolve`, `tune` and `ensemble` have to know of an image."""

    spacing: SpacingLike | None
    channel_axis: Hashable | None
    mask: Any
    nodata: float | None
    guide: Any


ALIASES: Mapping[str, str] = {
    "niter": "steps",
    "n_iter": "steps",
    "iterations": "steps",
    "nbiter": "steps",
    "NumberOfIterations": "steps",
    "gamma": "dt",
    "timestep": "dt",
    "time_step": "dt",
    "TimeStep": "dt",
    "voxelspacing": "spacing",
    "DiffusionTime": "time",
}
"""Names that other libraries give to arguments of `evolve` with the same meaning."""


def resolve_aliases(function: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments `fixed`, with the values of `given` under the names that the aliases stand for.

    Raises
    ------
    TypeError
        For an unknown name, or one of an argument that is already given.
    """
    arguments = dict(fixed)
    for word, value in given.items():
        name = ALIASES.get(word, "")
        if name not in fixed:
            also = ", ".join(other for other, meant in ALIASES.items() if meant in fixed)
            raise TypeError(f"{function} has no argument {word!r}. Allowed: {', '.join(fixed)}; also {also}.")
        if arguments[name] is not None:
            raise TypeError(
                f"{function}: {name!r} is given twice, the second time as {word!r}. Give it once."
            )
        arguments[name] = value
    return arguments


def make_legs(
    operator: Any,
    spacing: tuple[float, ...],
    *,
    time: Any = None,
    steps: Any = None,
    dt: Any = None,
    schedule: Any = None,
) -> tuple[Leg, ...]:
    """Return one leg for each operator of a chain.

    Parameters
    ----------
    operator : Operator, str, or a sequence of them
        A name stands for the operator with its default parameters.
    spacing : tuple of float
        Grid spacing per spatial axis.
    time, steps, dt, schedule : value or sequence of values, one per operator
        See `evolve`.

    Raises
    ------
    ValueError
        Where time, steps and dt are missing, contradict each other or leave the stable range.
    """
    operators = as_operators(operator)
    columns = [
        _one_each(name, value, len(operators))
        for name, value in zip(_NAMES, (time, steps, dt, schedule), strict=True)
    ]
    return tuple(_make_leg(op, spacing, *row) for op, *row in zip(operators, *columns, strict=True))


def as_operators(operator: Any) -> list[Operator]:
    """Return the operators of a chain; a name stands for one with its default parameters.

    Raises
    ------
    ValueError
        For an empty chain.
    """
    chain = [operator] if isinstance(operator, str | Operator) else list(operator)
    if not chain:
        raise ValueError("The chain of operators is empty. Give at least one operator.")
    return [OPERATORS[one]() if isinstance(one, str) else one for one in chain]


_NAMES = ("time", "steps", "dt", "schedule")


def _one_each(name: str, value: Any, count: int) -> list[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != count:
            raise ValueError(
                f"{name} has {len(value)} values for {count} operators. Give one for each, or one for all."
            )
        return list(value)
    return [value] * count


def _make_leg(
    operator: Any, spacing: tuple[float, ...], time: Any, steps: Any, dt: Any, schedule: Any
) -> Leg:
    if not isinstance(operator, Operator):
        raise TypeError(
            f"{operator!r} is not an operator. Give one such as Heat() or a name: {', '.join(OPERATORS)}."
        )
    if len(spacing) not in operator.dimensions:
        allowed = " or ".join(f"{n}-D" for n in operator.dimensions)
        raise ValueError(
            f"{operator.name} does not work on {len(spacing)} spatial axes. Allowed: {allowed}. "
            "Take one plane at a time (image.ndim: 2 in a spec), or say channel_axis if one of the axes holds channels."
        )
    if operator.controlled_by != "time":
        return _make_timeless_leg(operator, time, steps, dt, schedule)
    if time is None and steps is None and dt is None:
        raise ValueError(
            f"{operator.name} needs to know how far to diffuse. Give time (in squared units of the spacing), or steps."
        )
    _check_number("time", time, "in squared units of the spacing")
    _check_number("dt", dt, "in squared units of the spacing")
    if dt == 0:
        raise ValueError(f"dt=0 never arrives. Allowed: 0 < dt <= {operator.stable_dt(spacing):g}.")
    count = _count(steps)
    if (adaptive := adaptive_from(schedule)) is not None:
        return _make_adaptive_leg(operator, adaptive, spacing, time, count, dt)
    rule = resolve_schedule(schedule, count, dt, operator.inertial_cycles)
    if rule.inertial and not operator.inertial_cycles:
        raise ValueError(
            f"{operator.name} does not go in cycles, which are for ∂u/∂t = div(D ∇u) alone. "
            "Allowed: schedule='explicit'."
        )
    return Leg(operator, rule.cycles(operator.stable_dt(spacing), time, count, dt))


def _make_adaptive_leg(
    operator: Operator, adaptive: Adaptive, spacing: tuple[float, ...], time: Any, steps: Any, dt: Any
) -> Leg:
    if time is None or steps is not None or dt is not None:
        raise ValueError("Adaptive steps choose themselves: give time alone, without steps and dt.")
    if operator.carried_arrays(len(spacing), 1):
        raise ValueError(
            f"{operator.name} does not take adaptive steps, as it carries further fields. Allowed: schedule='explicit'."
        )
    return Leg(operator, (), adaptive=adaptive.start(time, operator.stable_dt(spacing)))


def _make_timeless_leg(operator: Operator, time: Any, steps: Any, dt: Any, schedule: Any) -> Leg:
    """Return the leg of an operator that takes a number of iterations, or is applied once."""
    given = {"time": time, "dt": dt, "schedule": schedule}
    if operator.controlled_by != "iterations":
        given["steps"] = steps
    wrong = [word for word, value in given.items() if value is not None]
    if wrong:
        remove = f"Remove {wrong[0]}"
        how = {
            "once": f"is applied once. {remove}",
            "convergence": f"is solved for the whole image. {remove}",
            "iterations": "goes by iterations. Give steps, or nothing",
        }[operator.controlled_by]
        raise ValueError(f"{wrong[0]}={given[wrong[0]]!r} is not possible: {operator.name} {how}.")
    if isinstance(operator, Iteration):
        count = _count(steps)
        return Leg(operator, (Cycle(0.0),) * (operator.usual_steps if count is None else count))
    return Leg(operator, (Cycle(0.0),))


def _count(steps: Any) -> int | None:
    if steps is not None and (not isinstance(steps, Integral) or isinstance(steps, bool) or steps < 0):
        raise ValueError(f"steps={steps!r} is not possible. Allowed: a whole number >= 0.")
    return None if steps is None else int(steps)


def _check_number(name: str, value: Any, unit: str) -> None:
    if value is None:
        return
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}={value!r} is not possible. Allowed: a number >= 0, {unit}.")


def makes_new_quantity(legs: Sequence[Leg]) -> bool:
    """Return True where the result of a chain is a new quantity, such as an angle."""
    return any(leg.operator.new_quantity for leg in legs)


def require_evolutions(operators: Sequence[Operator]) -> None:
    """Refuse problems, which are solved and do not evolve."""
    for operator in operators:
        if operator.controlled_by == "convergence":
            raise ValueError(
                f"{operator.name} is a problem of the whole image, which is solved and does not evolve. Call "
                f"solve(image, {type(operator).__name__}(...)); after other operators, solve their result."
            )


def require_guide_readers(legs: Sequence[Leg], guide: Any) -> None:
    """Refuse a guide that no operator reads."""
    if guide is not None and not any(leg.operator.reads_guide for leg in legs):
        names = ", ".join(leg.operator.name for leg in legs)
        able = ", ".join(name for name, operator in OPERATORS.items() if operator.reads_guide)
        raise ValueError(f"guide is given, but {names} does not read one. Allowed with a guide: {able}.")


def resolve_spacing(spacing: Any, ndim: int) -> tuple[float, ...]:
    """Return the spacing per spatial axis; one number stands for all, None for 1.

    Raises
    ------
    ValueError
        For another number of axes than the image's, or a spacing that is not positive.
    """
    values = (
        (1.0,) * ndim
        if spacing is None
        else (spacing,) * ndim
        if isinstance(spacing, Real)
        else tuple(spacing)
    )
    if len(values) != ndim:
        raise ValueError(
            f"spacing has {len(values)} values for {ndim} spatial axes. Give one per spatial axis (not "
            f"for channels), or one number."
        )
    for h in values:
        if not isinstance(h, Real) or not math.isfinite(h) or h <= 0:
            raise ValueError(f"spacing={tuple(values)!r} is not possible. Allowed: finite numbers > 0.")
    return tuple(float(h) for h in values)


def split_batches(legs: Sequence[Leg], batch: int | None) -> list[tuple[Leg, ...]]:
    """Return the legs cut into batches of at most `batch` steps.

    No cycle is cut, and an operator with statistics begins a batch. A leg that is cut keeps its operator object in
    every part, so that its statistics are measured once, at its start.

    Raises
    ------
    ValueError
        For a batch that is not a whole number of at least 1.
    """
    if batch is not None and (not isinstance(batch, Integral) or isinstance(batch, bool) or batch < 1):
        raise ValueError(f"batch={batch!r} is not possible. Allowed: a whole number of steps >= 1.")
    batches: list[list[Leg]] = [[]]
    taken = 0
    for leg in legs:
        if leg.begins and leg.operator.statistics() and batches[-1]:
            batches.append([])
            taken = 0
        for part in _cut(leg, batch, taken):
            if part is None:
                batches.append([])
                taken = 0
            else:
                batches[-1].append(part)
                taken += part.steps
    return [tuple(legs) for legs in batches if legs]


def _cut(leg: Leg, batch: int | None, taken: int) -> Iterator[Leg | None]:
    """Yield the parts of a leg, one per batch, and None where a new batch begins."""
    cycles, start, first, begins = leg.cycles, 0, leg.first, leg.begins
    for i, cycle in enumerate(cycles):
        if batch is not None and taken and taken + cycle.steps > batch:
            if i > start:
                part = replace(leg, cycles=cycles[start:i], first=first, last=False, begins=begins)
                yield part
                first, begins = first + part.steps, False
            yield None
            start, taken = i, 0
        taken += cycle.steps
    # A part may take no step and only begin, so that numbers can be measured before the first step.
    if cycles[start:] or (not cycles and (leg.has_steps or not leg.last)):
        yield replace(leg, cycles=cycles[start:], first=first, begins=begins)
