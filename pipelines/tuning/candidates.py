"""Try times and parameters for one step of a spec on samples of its source, and rank them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffusion_ops.ensemble import Ensemble, weigh_samples
from diffusion_ops.evolution.operator import OPERATORS, Operator
from diffusion_ops.evolution.parameters import AUTO
from diffusion_ops.tuning.criterion import CRITERIA
from diffusion_ops.tuning.tune import Curve, Tuning, tune_samples
from pipelines.events import Listener
from pipelines.image.source import Source
from pipelines.refusal import refusing
from pipelines.spec.links import SOURCE
from pipelines.spec.spec import Spec, make_spec
from pipelines.spec.step import TIME_ALIASES, StepSpec
from pipelines.spec.yaml_lines import flow_text
from pipelines.tuning.times import (
    SAMPLES,
    Trials,
    TuningError,
    choose_times,
    facts,
    watching,
    way_to,
    with_times,
)

EXTENT_KEYS = ("time", "steps", "dt", "until", "energy")
"""Keys of a step that control its extent; a tuned time replaces them."""


@dataclass(frozen=True)
class Question:
    """A request to tune a step.

    Attributes
    ----------
    step : str
        Name of the step, "" for the last.
    criterion : str
    times : tuple of float or None
        Times to choose from; None for those of `diffusion_ops.tune`.
    parameters : dict
        Values to choose from, per name of a parameter.
    noise : float or None
        Standard deviation of the noise; estimated by default.
    samples : int
    ensemble : bool
        True where weights of all candidates together are wanted too.
    """

    step: str = ""
    criterion: str = "sure"
    times: tuple[float, ...] | None = None
    parameters: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    noise: float | None = None
    samples: int = SAMPLES
    ensemble: bool = False


@dataclass(frozen=True)
class _Candidate:
    """A step with other values of some parameters; `parameters` holds them under the user's names."""

    step: StepSpec
    parameters: dict[str, Any]
    operator: Operator


@refusing()
def tune_step(
    spec: Spec, source: Source, asked: Question, listeners: Sequence[Listener] = ()
) -> dict[str, Any]:
    """Return the ranked candidates for a step, applied after the steps before it, as JSON values.

    Raises
    ------
    ValueError
        For a step that does not exist or cannot be tuned, for impossible values, and as `diffusion_ops.tune`.
    """
    CRITERIA[asked.criterion]  # refused before anything is read
    position = _position(spec, asked.step)
    *before, step = way_to(spec, position)
    candidates = list(_candidates(spec, position, asked.parameters))
    trials = Trials.read(spec, source, asked.samples)
    early = [i for i, one in enumerate(spec.steps) if one in before and one.time == AUTO]
    settled = with_times(spec, choose_times(spec, early, trials, listeners))
    *before, _ = way_to(settled, position)
    operators = [candidate.operator for candidate in candidates]
    how: dict[str, Any] = {
        "before": trials.legs(before),
        "times": asked.times or _own_steps(step),
        "noise": asked.noise,
        "schedule": step.schedule,
    }
    watch = watching(f"tune {step.name}", listeners)
    found = tune_samples(
        trials.positions, trials.blocks, operators, criterion=asked.criterion, watch=watch, **how
    )
    data = {
        "step": step.name,
        "position": position,
        "before": [{"step": one.name, "time": one.time} for one in before],
        **facts(found),
        "estimates_error": CRITERIA[asked.criterion].estimates_error,
        "candidates": [_ranked(curve, found, candidates) for curve in found.curves],
        "best": _to_paste(settled, position, _of(found.operator, candidates).step, found.time),
    }
    if asked.ensemble:
        together = weigh_samples(trials.positions, trials.blocks, operators, **how)
        data["ensemble"] = _weighed(together, candidates)
    return data


def _position(spec: Spec, name: str) -> int:
    names = [step.name for step in spec.steps]
    if name and name not in names:
        raise TuningError(f"--step {name!r} is not a step of the spec. Allowed: {', '.join(names)}.")
    return names.index(name) if name else len(names) - 1


def _own_steps(step: StepSpec) -> tuple[float, ...] | None:
    """Return the number of iterations that the user gave a step without time."""
    iterates = OPERATORS[step.operator].controlled_by == "iterations"
    return (step.steps,) if iterates and step.steps else None


def _candidates(spec: Spec, position: int, values: Mapping[str, Sequence[Any]]) -> Iterator[_Candidate]:
    """Yield the step with every combination of values; impossible ones raise the spec's own errors."""
    cls = OPERATORS[spec.steps[position].operator]
    aliases = cls.aliases()
    parameters = {*cls.parameters(), *aliases}
    for word in values:
        if word not in parameters and TIME_ALIASES.get(word, word) in StepSpec.model_fields:
            raise TuningError(
                f"-p {word} is not a parameter of an operator. Times to choose from are --times 0.5,1,2; "
                "anything else stands in the spec."
            )
    data = spec.model_dump(mode="json")
    own = data["steps"][position]
    meant = {aliases.get(word, word) for word in values}
    kept = {
        key: value
        for key, value in own.items()
        if aliases.get(key, key) not in meant and (key not in EXTENT_KEYS or cls.controlled_by != "time")
    }
    if cls.controlled_by == "time":
        kept["time"] = AUTO
    for row in itertools.product(*values.values()):
        point = dict(zip(values, row, strict=True))
        data["steps"][position] = {**kept, **point}
        step = make_spec(data).steps[position]
        yield _Candidate(step, point, step.make_operator())


def _of(operator: Operator, candidates: Sequence[_Candidate]) -> _Candidate:
    return next(candidate for candidate in candidates if candidate.operator is operator)


def _ranked(curve: Curve, found: Tuning, candidates: Sequence[_Candidate]) -> dict[str, Any]:
    """Return one candidate with its curve."""
    return {
        "parameters": _of(curve.operator, candidates).parameters,
        "time": curve.time,
        "score": curve.score,
        "gain": _gain(curve.score, found),
        "times": curve.times,
        "scores": curve.scores,
        "best": curve.best,
    }


def _gain(score: float, found: Tuning) -> float | None:
    """Return the expected rise of the PSNR in dB, where the score estimates the error and the noise is known."""
    if not CRITERIA[found.criterion].estimates_error or not found.noise or score <= 0:
        return None
    return 10 * math.log10(found.noise**2 / score)


def _to_paste(spec: Spec, position: int, step: StepSpec, time: Any) -> dict[str, Any]:
    """Return the step for the spec, and its line of YAML."""
    values = step.model_dump(mode="json")
    before = spec.steps[position - 1].name if position else SOURCE
    for key, usual in (("name", step.operator), ("input", before)):
        if values.get(key) == usual:
            del values[key]
    if time is not None:
        values["time" if step.time == AUTO else "steps"] = time
    return {"step": values, "yaml": f"- {flow_text(values)}"}


def _weighed(together: Ensemble, candidates: Sequence[_Candidate]) -> dict[str, Any]:
    rows = zip(together.members, together.weights, together.scores, strict=True)
    return {
        "members": [
            {"parameters": _of(m.operator, candidates).parameters, "time": m.time, "weight": w, "score": s}
            for m, w, s in rows
        ],
        "score": together.score,
        "gain": None if math.isnan(together.gain) else together.gain,
    }
