"""Define the spec and its schema, and refuse what is impossible before anything is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from dask.system import cpu_count
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipelines.image.sink import PATH, SinkSpec
from pipelines.image.source import SourceSpec
from pipelines.refusal import RefusedError
from pipelines.spec.cluster import ClusterField, cluster_options, usual_memory
from pipelines.spec.errors import explain, no_such, refusal, shortened
from pipelines.spec.links import SOURCE, linked, links_of, named_steps, used_steps
from pipelines.spec.paths import with_paths
from pipelines.spec.step import StepSpec, UntilSpec
from pipelines.spec.yaml_lines import BadYamlError, Location, YamlText, read_yaml
from pipelines.store.addresses import beside_target, is_remote, local_path, shown
from pipelines.tasks.amounts import Memory, Seconds


class SpecError(RefusedError):
    """A spec that asks for something impossible; the message says where, what, and what is allowed."""


MOST_THREADS, MOST_CELLS, MOST_RETRIES = 1 << 16, 1 << 62, 1_000_000
"""Largest amounts that a spec can say; larger ones are mistakes."""

Positive = Annotated[int, Field(gt=0, le=MOST_CELLS)]


class ImageSpec(BaseModel):
    """Which axes and channels of the image diffuse together: the `image` of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ndim: Literal[2, 3, "auto"] = Field(
        default="auto",
        description="Spatial axes that diffuse together: 2 (each plane alone), 3, or auto: 3 where z > 1.",
    )
    channels: Literal["joint", "separate"] = Field(
        default="joint", description="joint: all channels share one conductance; separate: each has its own."
    )
    spacing: Literal["pixel", "units"] = Field(
        default="pixel",
        description="Unit of time, contrast and sigma. pixel: the finest axis has spacing 1 and the others "
        "keep their ratio to it; units: the image's physical spacing.",
    )


class RunSpec(BaseModel):
    """How the work is carried out, without any influence on the result: the `run` of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: ClusterField = Field(
        default="threads",
        validate_default=True,
        description="Where tasks run: threads, local (processes), the address or the file of a scheduler, or a mapping "
        "with the kind of a cluster and its options.",
    )
    memory: Memory = Field(
        default_factory=usual_memory,
        description="Memory that all of the run may use, such as 2GiB or 500 MB; 2GiB by default, and as much for each "
        "worker as the options of a cluster give it.",
    )
    threads: int = Field(
        default_factory=cpu_count,
        gt=0,
        le=MOST_THREADS,
        description="Tasks at a time; the processors this process may use by default. The workers of a cluster count "
        "instead where its options say how many.",
    )
    dashboard: bool = Field(
        default=False,
        description="Whether threads and local serve Dask's dashboard; a running scheduler has its own.",
    )
    workdir: str | None = Field(
        default=None,
        pattern=PATH,
        description="Folder of state, journal and report, or its address in a store; TARGET.run by default, which is "
        "in a store only where workers are on other machines.",
    )
    tile: Positive | dict[Literal["z", "y", "x"], Positive] | None = Field(
        default=None,
        description="Pixels per side of a task's area, one number or one per axis; chosen by the plan.",
    )
    batch: Positive | None = Field(
        default=None, description="Steps per pass over the data; chosen by the plan."
    )
    walltime: Seconds | None = Field(
        default=None,
        description="Time after which no more tiles are begun, such as 50 min or 11:50:00: the run ends in order, with "
        "exit code 75, and the same command goes on.",
    )
    retries: int = Field(
        default=3, ge=0, le=MOST_RETRIES, description="Tries of a failing task after the first."
    )

    @property
    def tasks(self) -> int:
        """Tasks at a time: the workers of the cluster where its options say how many, else `threads`."""
        return self.cluster.most_tasks or self.threads


class OutputSpec(SinkSpec):
    """A further result: the result of a step, or its residual."""

    name: str = Field(description="Name of a step, or 'source'.")
    residual: bool = Field(
        default=False,
        description="Whether to write the step's result less the final one: what was removed on the way.",
    )


class Spec(BaseModel):
    """The description of a run: what to read, what to do, where to write, how to carry it out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: SourceSpec
    steps: tuple[StepSpec, ...] = Field(description="Operators, each on the result of the one before it.")
    sink: SinkSpec
    outputs: tuple[OutputSpec, ...] = Field(
        default=(),
        description="Further results, written in the same run: {name, uri} of a step, or its residual.",
    )
    image: ImageSpec = Field(default_factory=lambda: ImageSpec())
    run: RunSpec = Field(default_factory=lambda: RunSpec())

    @field_validator("steps", mode="after")
    @classmethod
    def _connect(cls, steps: tuple[StepSpec, ...]) -> tuple[StepSpec, ...]:
        """Give every step its name and input, and refuse names that lead nowhere."""
        if not steps:
            raise refusal("there are no steps. Give at least one, such as {operator: heat, time: 1}.")
        named = named_steps(steps)
        return tuple(linked(step, i, named) for i, step in enumerate(named))

    @model_validator(mode="after")
    def _uses_every_step(self) -> Spec:
        known = [SOURCE, *(step.name for step in self.steps)]
        if self.sink.of not in known:
            raise refusal(no_such("step", self.sink.of, known), "sink", "of")
        for i, output in enumerate(self.outputs):
            for key, name in (("name", output.name), ("of", output.of)):
                if name not in known:
                    raise refusal(no_such("step", name, known), "outputs", i, key)
            if output.residual and output.name == known[-1]:
                raise refusal(
                    f"{output.name!r} is the last step, so nothing was removed from it: its residual is 0. "
                    f"Allowed: {', '.join(known[:-1])}.",
                    "outputs",
                    i,
                    "residual",
                )
        for i, uri in enumerate(self.targets[1:]):
            if uri in self.targets[: i + 1]:
                raise refusal(f"{uri!r} is written twice. Choose another path.", "outputs", i, "uri")
        wanted = [name for output in self.outputs for name in (output.name, output.of)]
        used = used_steps(self.steps, [self.sink.of, *wanted])
        for i, step in enumerate(self.steps):
            if step.name not in used:
                raise refusal(
                    f"the result does not use the step {step.name!r}: nothing on the way to the last step "
                    f"({self.steps[-1].name!r}) has it as its input. Remove it, or name it as an input.",
                    "steps",
                    i,
                )
        if self.steps[-1].octave:
            raise refusal(
                "the last step makes the result, which has the image's own size: its octave is 0. "
                "Add a step, or choose a coarser level of the source with source.level.",
                "steps",
                len(self.steps) - 1,
                "octave",
            )
        return self

    @model_validator(mode="after")
    def _tells_no_secrets(self) -> Spec:
        for uri in (*self.targets, self.run.workdir or ""):
            if is_remote(uri) and shown(uri) != uri:
                raise refusal(
                    f"{shown(uri)!r} holds a user name, a password or a token, which would be written down with the "
                    "run. Give them by the environment, or by the usual profile, of your store."
                )
        return self

    @model_validator(mode="after")
    def _has_a_folder_for_its_state(self) -> Spec:
        if is_remote(self.sink.uri) and self.run.workdir is None and self.run.cluster.here:
            raise refusal(
                f"the state of a run lies in a folder that its workers see, and {shown(self.sink.uri)!r} is none. "
                "Say which folder with run.workdir: one of this machine is faster, an address such as "
                f"{shown(beside_target(self.sink.uri))} lets any machine go on."
            )
        return self

    @property
    def targets(self) -> list[str]:
        """Paths of all results."""
        return [self.sink.uri, *(output.uri for output in self.outputs)]

    @property
    def beside(self) -> list[str]:
        """Addresses of the images, and files of points, that steps read beside the source."""
        names = [SOURCE, *(step.name for step in self.steps)]
        read = (name for step in self.steps for name in step.beside.values())
        return list(dict.fromkeys(name for name in read if name not in names))

    @property
    def workdir(self) -> str:
        """Folder of state, journal and report data."""
        said = self.run.workdir or beside_target(self.sink.uri)
        path = local_path(said)
        return said.rstrip("/") if path is None else str(path)

    def science(self) -> dict[str, Any]:
        """Return all parts of the spec that decide the pixels of the result, as JSON values, for digests.

        Addresses, names of steps and the section `run` are not part of it; the image's identity and the code's
        version are digested beside it.
        """
        source = self.source.model_dump(mode="json", exclude={"uri"})
        sink = self.sink.model_dump(mode="json", exclude={"uri"})
        sink["format"] = self.sink.format or PurePath(self.sink.uri).suffix.lower()
        numbers = {SOURCE: -1, **{step.name: i for i, step in enumerate(self.steps)}}
        sink["of"] = numbers[self.sink.of]
        steps = [
            {**_canonical(step.make_operator()), **step.times(), **links_of(step, numbers)}
            for step in self.steps
        ]
        image = self.image.model_dump(mode="json")
        outputs = [
            {
                **output.model_dump(mode="json", exclude={"uri"}),
                "name": numbers[output.name],
                "of": numbers[output.of],
            }
            for output in self.outputs
        ]
        science = {"source": source, "image": image, "steps": steps, "sink": sink, "outputs": outputs}
        plain: dict[str, Any] = _whole(json.loads(json.dumps(science, default=_canonical)))
        return plain


SECTIONS: dict[Location, type[BaseModel]] = {
    (): Spec,
    ("source",): SourceSpec,
    ("sink",): SinkSpec,
    ("image",): ImageSpec,
    ("run",): RunSpec,
    ("outputs",): OutputSpec,
    ("steps", "until"): UntilSpec,
}


def load_spec(path: str | Path) -> Spec:
    """Return the spec in a YAML file; relative paths in it start at the file's folder.

    Raises
    ------
    SpecError
        For anything that is wrong with the spec, with file, line, and what is allowed.
    """
    try:
        text = read_yaml(path)
    except BadYamlError as error:
        raise SpecError(str(error)) from None
    if text.value is None:
        raise SpecError(f"{text.name} is empty. Give source, steps and sink.")
    return spec_of_text(text, Path(path).parent)


def make_spec(data: Any, folder: str | Path = ".") -> Spec:
    """Return the spec of plain values, such as parsed YAML; relative paths in it start at `folder`.

    Raises
    ------
    SpecError
        For anything that is wrong with the spec, with its location and what is allowed.
    """
    return spec_of_text(YamlText("", data, {}), Path(folder))


def override_run(spec: Spec, options: Mapping[str, Any] | None = None, **changes: Any) -> Spec:
    """Return the spec with changes to its section `run`; changes that are None are left out.

    Parameters
    ----------
    spec : Spec
    options : mapping, optional
        Options of the cluster, beside those that the spec says unless another cluster is among the changes.
    changes : dict

    Raises
    ------
    SpecError
        For a value that is not possible.
    """
    said = {key: value for key, value in changes.items() if value is not None}
    if options:
        said["cluster"] = {**cluster_options(said.get("cluster", spec.run.cluster)), **options}
    # What follows from something that was not said, such as the memory from the workers, may follow anew.
    before = spec.run.model_dump(mode="json", exclude_unset=True)
    return make_spec({**spec.model_dump(mode="json"), "run": {**before, **said}}) if said else spec


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of spec files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}


def _canonical(value: Any) -> dict[str, Any]:
    """Return an operator or a statistic as its name and values, whichever aliases the user gave."""
    name = getattr(value, "name", type(value).__name__)
    return {"is": name, "with": dict(vars(value))}


def _whole(value: Any) -> Any:
    """Return JSON values with 10.0 as 10: both mean the same."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def spec_of_text(text: YamlText, folder: Path) -> Spec:
    """Return the spec of a YAML text that was read; a `SpecError` names its lines."""
    if not isinstance(text.value, dict):
        what = f"{text.name}: a spec" if text.name else "A spec"
        raise SpecError(
            f"{what} is keys and values with source, steps and sink, got {shortened(text.value)}."
        )
    try:
        return Spec.model_validate(with_paths(text.value, folder))
    except ValidationError as error:
        raise SpecError("\n".join(explain(error, text, SECTIONS))) from None
