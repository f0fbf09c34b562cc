"""One step of a spec: an operator, its parameters in the user's words, and its extent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from diffusion_ops.evolution.adaptive import adaptive_from
from diffusion_ops.evolution.arguments import ALIASES, make_legs
from diffusion_ops.evolution.operator import OPERATORS, Operator
from diffusion_ops.evolution.parameters import Parameter
from diffusion_ops.evolution.problems.problem import Problem
from diffusion_ops.evolution.problems.solve_request import check_tolerance
from diffusion_ops.evolution.schedule import MOST_STEPS, Explicit, count_words, resolve_schedule
from pipelines.spec.describe import describe_parameters, first_sentence
from pipelines.spec.errors import no_such, refusal, unknown_key

TIME_ALIASES = {word: name for word, name in ALIASES.items() if name in ("time", "steps", "dt")}
"""Words of other systems for how far a step goes."""


BESIDE = ("guide", "mask", "markers", "known")
"""Keys of a step for what it reads beside its input."""

VALID = "valid"
"""What `known` may say instead of a name: known are the pixels that have a value."""


class UntilSpec(BaseModel):
    """When a step may stop early: its `until`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    energy: float = Field(
        gt=0,
        strict=True,
        allow_inf_nan=False,
        description="Stop once the energy falls by less than this part of it from one look to the next.",
    )
    every: int | None = Field(
        default=None,
        gt=0,
        strict=True,
        description="Steps between two looks; a twentieth of the steps by default.",
    )


class StepSpec(BaseModel):
    """One operator and its extent: an item of the `steps` of a spec.

    Keys that are not fields here are parameters of the operator, in its own words or its aliases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operator: str = Field(description="Name of the operator, as in `diffuse list operators`.")
    name: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$",
        description="Name of the step; the operator's by default.",
    )
    input: str = Field(
        default="", description="Name of an earlier step, or 'source'; the previous step by default."
    )
    guide: str = Field(
        default="",
        description="Name of an earlier step, or 'source', whose edges and structure are followed.",
    )
    mask: str = Field(
        default="",
        description="Name of an earlier step, or 'source': where it is 0 or has no value is a wall.",
    )
    markers: str = Field(
        default="",
        description="Where a front starts, or labels: whole numbers, 0 for none. Name of an earlier step, or path or "
        "address of an image, or of a table or GeoJSON file of points.",
    )
    known: str = Field(
        default="",
        description="Where the image is known, not 0: name of an earlier step, or path or address of an image; or "
        "'valid', as without it: pixels that are nodata, NaN or infinite are unknown.",
    )
    tolerance: float | None = Field(
        default=None,
        gt=0,
        strict=True,
        allow_inf_nan=False,
        description="How near the answer has to be to the exact one, for problems that are solved by iterations.",
    )
    octave: int = Field(
        default=0,
        ge=0,
        le=16,
        strict=True,
        description="How many times the image is halved for this step; the next finer step gets it enlarged.",
    )
    until: UntilSpec | None = Field(
        default=None, description="When to stop early: {energy: part, every: steps}."
    )
    energy: bool = Field(default=False, description="Measure the energy on the way, for the report.")
    time: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] | Literal["auto"] | None = Field(
        default=None,
        description="Diffusion time, in squared units of the spacing; auto: what `diffuse tune` finds.",
    )
    steps: int | None = Field(default=None, ge=0, strict=True, description="Number of explicit steps.")
    dt: float | None = Field(
        default=None,
        gt=0,
        strict=True,
        allow_inf_nan=False,
        description="Size of an explicit step, in the unit of time.",
    )
    schedule: str | dict[str, Any] | None = Field(
        default=None,
        description="explicit, cycles (FSI), {cycles: count}, or {adaptive: tolerance in image units}; cycles "
        "for time alone by default.",
    )
    parameters: Mapping[str, Any] = Field(default_factory=dict)

    def make_operator(self) -> Operator:
        """Return the operator; what it needs of the whole image is still a `Statistic`."""
        return OPERATORS[self.operator](**self.parameters)

    @property
    def beside(self) -> dict[str, str]:
        """What it reads beside its input: names of steps, or addresses, by what they are read as."""
        read = {key: getattr(self, key) for key in BESIDE if getattr(self, key)}
        return {key: name for key, name in read.items() if (key, name) != ("known", VALID)}

    def times(self) -> dict[str, Any]:
        """Return time, steps, dt and schedule, for `make_legs`."""
        return {"time": self.time, "steps": self.steps, "dt": self.dt, "schedule": self.schedule}

    @model_validator(mode="before")
    @classmethod
    def _sort_keys(cls, data: Any) -> Any:
        """File each key of the user's under a field or under the operator's parameters."""
        if not isinstance(data, Mapping):
            return data
        if not isinstance(data.get("operator"), str):
            # Only an operator says which other keys are known.
            return {key: value for key, value in data.items() if key == "operator"}
        if data["operator"] not in OPERATORS:
            raise refusal(no_such("operator", data["operator"], OPERATORS), "operator")
        operator = OPERATORS[data["operator"]]
        kept: dict[str, Any] = {}
        parameters: dict[str, Any] = {}
        said: dict[str, str] = {}
        for key, value in data.items():
            home, word = _place(operator, key)
            meant = operator.aliases().get(word, word)
            if meant in said:
                raise refusal(
                    f"{meant!r} is given twice, as {said[meant]!r} and as {key!r}. Give it once.", key
                )
            said[meant] = key
            (parameters if home == "parameters" else kept)[word] = value
        return {**kept, "parameters": parameters}

    @model_validator(mode="after")
    def _possible(self) -> StepSpec:
        operator = OPERATORS[self.operator]
        given = _named(operator, self.parameters)
        missing = [name for name, one in operator.parameters().items() if one.required and name not in given]
        if missing:
            raise refusal(
                f"{self.operator} needs {missing[0]!r}. {_help(self.operator, missing[0])}".rstrip()
            )
        try:
            self.make_operator()
        except (ValueError, TypeError, ArithmeticError) as error:
            at = _key_named_by(str(error), OPERATORS[self.operator], self.parameters)
            raise refusal(str(error), *at) from None
        _check_beside(self)
        _check_tolerance(self)
        _check_times(self)
        if (self.energy or self.until) and self.make_operator().energy() is None:
            key = "until" if self.until else "energy"
            raise refusal(f"{self.operator} has no energy to look at. Remove {key!r}.", key)
        if (self.energy or self.until) and adaptive_from(self.schedule) is not None:
            key = "until" if self.until else "energy"
            raise refusal(
                "the energy is looked at after steps that are known before, which adaptive ones are not. "
                f"Remove {key!r}, or give schedule: explicit.",
                key,
            )
        return self

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        parameters = values.pop("parameters", {})
        plain = {key: value for key, value in values.items() if value != StepSpec.model_fields[key].default}
        return {**plain, **parameters}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return one alternative per operator, so that editors offer and check its parameters."""
        own = handler.resolve_ref_schema(handler(core))["properties"]
        own = {key: value for key, value in own.items() if key not in ("operator", "parameters")}
        return {"title": "Step", "oneOf": [_operator_schema(name, own) for name in OPERATORS]}


def _place(operator: type[Operator], key: str) -> tuple[str, str]:
    """Return where a key of a step belongs, "fields" or "parameters", and its word there."""
    own = {*operator.parameters(), *operator.aliases()}
    # lambda is a keyword in Python, so that operators call it lambda_; YAML has no such need.
    for word in (key, f"{key}_"):
        if word in own:
            return "parameters", word
    if key in StepSpec.model_fields and key != "parameters":
        return "fields", key
    if key in TIME_ALIASES:
        return "fields", TIME_ALIASES[key]
    raise refusal(unknown_key(key, _step_keys(operator)), key)


def _step_keys(operator: type[Operator]) -> list[str]:
    own = [key for key in StepSpec.model_fields if key != "parameters"]
    return [*operator.parameters(), *own]


def _named(operator: type[Operator], parameters: Iterable[str]) -> dict[str, str]:
    """Return the parameters that words stand for, each with the user's word."""
    aliases = operator.aliases()
    return {aliases.get(word, word): word for word in parameters}


def _key_named_by(message: str, operator: type[Operator], parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the user's key for the parameter that an error message begins with, if it does."""
    word = re.match(r"(\w+)\b", message)
    named = {**{word: word for word in parameters}, **_named(operator, parameters)}
    return (named[word[0]],) if word and word[0] in named else ()


def _help(operator: str, parameter: str) -> str:
    for described in describe_parameters(OPERATORS[operator]):
        if described["name"] == parameter:
            return f"It is: {described['about'] or described['unit'] or described['type']}"
    return ""


def _check_beside(step: StepSpec) -> None:
    """Refuse images beside the input that the operator does not read, and the lack of one that it needs."""
    operator = step.make_operator()
    for key in ("markers", "known"):
        if getattr(step, key) and key not in operator.reads:
            able = ", ".join(name for name, one in OPERATORS.items() if key in one.reads)
            raise refusal(f"{step.operator} does not read {key}. Allowed with {key}: {able}.", key)
        if not getattr(step, key) and key in operator.requires:
            raise refusal(
                f"{step.operator} needs {key}: the name of an earlier step, or the path of an image or of a file of "
                "points."
            )


def _check_tolerance(step: StepSpec) -> None:
    """Refuse a tolerance of an operator that has none, and one that is impossible."""
    if step.tolerance is None:
        return
    problem = step.make_operator()
    if not isinstance(problem, Problem):
        raise refusal(f"{step.operator} is not solved up to a tolerance. Remove it.", "tolerance")
    try:
        check_tolerance(problem, step.tolerance)
    except ValueError as error:
        raise refusal(str(error), "tolerance") from None


def _check_times(step: StepSpec) -> None:
    """Refuse what contradicts itself; how large a stable step may be is known with the spacing."""
    operator = OPERATORS[step.operator]
    if operator.controlled_by != "time":
        _check_timeless(step)
        return
    time, steps, dt = step.time, step.steps, step.dt
    if time is None and steps is None:
        alone = "" if dt is None else f"dt={dt:g} alone does not say when to stop: "
        raise refusal(f"{alone}give 'time' (in squared units of the spacing), or 'steps'.")
    if isinstance(time, str):
        wrong = "steps" if steps is not None else "dt" if dt is not None else ""
        if wrong:
            raise refusal(
                f"time: auto chooses how far to go by itself. Remove {wrong!r}, or give a time.", wrong
            )
        time = 1.0
    count = steps if steps is not None else time / dt if time is not None and dt is not None else 0
    if count > MOST_STEPS:
        raise refusal(
            f"{count_words(count)} explicit steps are too many. Allowed: at most {MOST_STEPS:,}. "
            "Give time alone, so that cycles of longer steps cover it."
        )
    try:
        if adaptive_from(step.schedule) is not None:
            if time is None or steps is not None or dt is not None:
                raise refusal("adaptive steps choose themselves: give 'time' alone.", "schedule")
            return
        schedule = resolve_schedule(step.schedule, steps, dt, operator.inertial_cycles)
    except ValueError as error:
        raise refusal(str(error), "schedule") from None
    try:
        if not (isinstance(schedule, Explicit) and steps is None and dt is None):
            schedule.cycles(max(1.0, dt or 0.0, time or 0.0), time, steps, dt)
    except ValueError as error:
        raise refusal(str(error)) from None


def _check_timeless(step: StepSpec) -> None:
    """Refuse times of operators that have none."""
    try:
        make_legs(step.make_operator(), (1.0,) * OPERATORS[step.operator].dimensions[0], **step.times())
    except ValueError as error:
        raise refusal(str(error)) from None


def _operator_schema(name: str, own: dict[str, Any]) -> dict[str, Any]:
    operator = OPERATORS[name]
    about = {one["name"]: one["about"] for one in describe_parameters(operator)}
    described = operator.parameters()
    parameters = {name: _parameter_schema(one, about[name]) for name, one in described.items()}
    aliases = {
        word: {
            **_alias_schema(described[name], word, parameters[name]),
            "description": f"The same as {name}.",
        }
        for word, name in operator.aliases().items()
    }
    times = {
        word: {**own[meant], "description": f"The same as {meant}."} for word, meant in TIME_ALIASES.items()
    }
    return {
        "title": name,
        "description": f"{first_sentence(operator)} ({operator.reference}).",
        "type": "object",
        "properties": {"operator": {"const": name}, **times, **own, **aliases, **parameters},
        "required": ["operator"],
        "additionalProperties": False,
    }


def _alias_schema(parameter: Parameter, word: str, schema: dict[str, Any]) -> dict[str, Any]:
    values = parameter.alias_values.get(word)
    return schema if values is None else {"enum": list(values)}


def _parameter_schema(parameter: Parameter, about: str) -> dict[str, Any]:
    unit = f" Unit: {parameter.unit}." if parameter.unit else ""
    schema = {"description": f"{about}{unit}".strip(), **parameter.schema()}
    known = not parameter.required and parameter.default is not None
    return {**schema, "default": parameter.default} if known else schema
