"""Link the steps of a spec: their names, what each reads, and which of them a result needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.spec.errors import no_such, refusal
from pipelines.spec.paths import is_path
from pipelines.spec.step import StepSpec

SOURCE = "source"
"""Name of the image itself as the `input` of a step."""


def named_steps(steps: Sequence[StepSpec]) -> list[StepSpec]:
    """Return steps that all have names of their own."""
    taken: set[str] = set()
    for i, step in enumerate(steps):
        if step.name in taken or step.name == SOURCE:
            reason = "the image itself is called that" if step.name == SOURCE else "an earlier step has it"
            raise refusal(f"the name {step.name!r} cannot be used: {reason}. Choose another name.", i, "name")
        taken |= {step.name} - {""}
    named = []
    for step in steps:
        name = step.name or next(name for name in _names(step.operator) if name not in taken)
        taken.add(name)
        named.append(step.model_copy(update={"name": name}))
    return named


def _names(operator: str) -> Iterator[str]:
    yield operator
    yield from (f"{operator}-{i}" for i in itertools.count(2))


def linked(step: StepSpec, index: int, steps: Sequence[StepSpec]) -> StepSpec:
    """Return a step with its input, which is the step before it where none is said; refuse names that lead nowhere."""
    earlier = [s.name for s in steps[:index]]
    for key, name in {"input": step.input, **step.beside}.items():
        if name and name not in (SOURCE, *earlier) and not is_path(name):
            comes_later = name in [s.name for s in steps]
            hint = " It comes later; a step reads what stands before it." if comes_later else ""
            raise refusal(no_such("earlier step", name, [SOURCE, *earlier]) + hint, index, key)
    if step.guide and not OPERATORS[step.operator].reads_guide:
        able = ", ".join(name for name, operator in OPERATORS.items() if operator.reads_guide)
        raise refusal(f"{step.operator} does not read a guide. Allowed with a guide: {able}.", index, "guide")
    if step.input:
        return step
    return step.model_copy(update={"input": earlier[-1] if earlier else SOURCE})


def used_steps(steps: Sequence[StepSpec], wanted: Iterable[str]) -> set[str]:
    """Return the steps that the last one, or another that is wanted, depends on."""
    by_name = {step.name: step for step in steps}
    used: set[str] = set()
    open_ends = [steps[-1].name, *wanted]
    while open_ends:
        name = open_ends.pop()
        if name in by_name and name not in used:
            used.add(name)
            open_ends += [by_name[name].input, *by_name[name].beside.values()]
    return used


def links_of(step: StepSpec, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Return what a step reads and when it stops, by numbers instead of names."""
    # What lies at an address is digested by its identity, beside the spec.
    read = {"input": step.input, **step.beside}
    reads = {key: numbers.get(name, -2) for key, name in read.items()}
    until = None if step.until is None else step.until.model_dump()
    # `energy` is left out: it cuts batches, which changes no bit of the result, but the report.
    return {**reads, "octave": step.octave, "until": until}
