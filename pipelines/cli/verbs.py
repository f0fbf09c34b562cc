"""Carry out each verb of the command: make the spec, call the engine, draw or print the outcome."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.cli import catalog, show, show_tuning
from pipelines.cli import demo as demonstration
from pipelines.cli.json_lines import json_line
from pipelines.cli.progress import Meter, progress
from pipelines.image.kept_sources import cached_source
from pipelines.image.open_source import open_source
from pipelines.plan.search import make_plan
from pipelines.record.workdir import RUN, Workdir
from pipelines.refusal import RefusedError, StoppedError
from pipelines.run.preview import preview as run_preview
from pipelines.run.publication import require_surroundings
from pipelines.run.repair import repair as run_repair
from pipelines.run.run import run as run_spec
from pipelines.run.status import cancel as cancel_run
from pipelines.run.status import reading
from pipelines.run.status import status as read_status
from pipelines.run.verify import verify as run_verify
from pipelines.run.warm import kept_kernels, plan_run
from pipelines.run.warm import warm as warm_kernels
from pipelines.schedule.template import require_one_source
from pipelines.spec.spec import Spec, SpecError, json_schema, load_spec, make_spec, override_run
from pipelines.spec.yaml_lines import BadYamlError, parse_yaml
from pipelines.stopping import Stopping
from pipelines.tasks.process import prepare_process
from pipelines.tuning.candidates import Question, tune_step
from pipelines.tuning.times import TuningError, settle_times

DONE, FAILED = 0, 3


def apply(
    step: Mapping[str, Any],
    parameters: Sequence[str],
    sections: Mapping[str, Mapping[str, Any]],
    overwrite: bool,
    json_output: bool,
) -> int:
    """Run one operator; options that the user did not give are None and left out."""
    rest = {name: section for name, section in sections.items() if name != "run"}
    try:
        spec = _carried_out(make_spec(_apply_spec(step, parameters, rest)), sections["run"])
    except SpecError as error:
        # There is one step and no file: its name says more than its location, and once is enough.
        name = str(step["operator"])
        raise SpecError(re.sub(rf"steps\[0\](: {re.escape(name)}\b)?", name, str(error))) from None
    return _carry_out(spec, overwrite, json_output)


def _apply_spec(
    step: Mapping[str, Any], parameters: Sequence[str], sections: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    said = _said(step)
    # There are no other steps that a name could mean.
    said |= {key: os.path.join(".", said[key]) for key in ("markers", "known") if key in said}
    for key in ("time", "schedule"):
        if key in said:
            said[key] = parse_value(key, said[key])
    for name, value in map(parse_parameter, parameters):
        if name in said:
            raise SpecError(f"{name!r} is given twice. Give it once.")
        said[name] = value
    data: dict[str, Any] = {name: _said(section) for name, section in sections.items()}
    if "pyramid" in data["sink"]:
        data["sink"]["pyramid"] = parse_value("pyramid", data["sink"]["pyramid"])
    return {**data, "steps": [said]}


def _carried_out(spec: Spec, how: Mapping[str, Any]) -> Spec:
    """Return a spec that is carried out as options say."""
    return override_run(spec, **with_parsed_options(how))


def with_parsed_options(how: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a run is carried out with the options of its cluster as values, no texts NAME=VALUE.

    Raises
    ------
    SpecError
        For a text that is no option, and one that is given twice.
    """
    options: dict[str, Any] = {}
    for text in how.get("options") or ():
        name, value = parse_parameter(text, "--cluster-option", "workers=8")
        if name in options:
            raise SpecError(f"--cluster-option {name} is given twice. Give it once.")
        options[name] = value
    return {**how, "options": options}


def _said(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}


def parse_parameter(text: str, option: str = "-p", example: str = "contrast=0.05") -> tuple[str, Any]:
    """Return name and value of "contrast=0.05" or "contrast={quantile: 0.9}".

    Raises
    ------
    SpecError
        For a text that is not NAME=VALUE with a value in YAML.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise SpecError(
            f"{option} {text!r} is not a parameter. Allowed: NAME=VALUE, such as {option} {example}."
        )
    return name.strip(), parse_value(name.strip(), value)


def parse_value(name: str, text: str) -> Any:
    """Return a value written in YAML, such as 0.05, exponential or {quantile: 0.9}.

    Raises
    ------
    SpecError
        For a text that is not YAML.
    """
    try:
        value = parse_yaml(text, name).value
    except BadYamlError as error:
        raise SpecError(f"{error} Got {text!r}. Allowed: a number, a word, or {{name: number}}.") from None
    if isinstance(value, dict) and None in value.values():
        raise SpecError(f"{name}: {text!r} lacks a value. A space follows the colon: {{quantile: 0.9}}.")
    return value


def plan(path: str, how: Mapping[str, Any], json_output: bool) -> int:
    """Print the plan of a spec."""
    spec = _carried_out(load_spec(path), how)
    prepare_process(spec.run.threads)
    source = open_source(spec.source)
    # Progress goes to the standard error, because the output is one JSON object.
    with progress(False, sys.stdout, Console(stderr=True)) as listener:
        settled = settle_times(spec, source, [listener], Workdir(spec.workdir).begun)
    made = plan_run(settled.spec, source.info, tuned=bool(settled.tuning))
    require_surroundings(made)
    summary = made.summary()
    if json_output:
        _print_json({**summary, "tuning": settled.tuning})
    else:
        picture = show.plan(summary, spec.source.uri, spec.sink.uri)
        show.draw(Console(), picture, *show_tuning.chosen(settled.tuning))
    return DONE


def warm(path: str, json_output: bool) -> int:
    """Compile the kernels of a spec."""
    spec = load_spec(path)
    prepare_process(spec.run.threads)
    source = open_source(spec.source)
    _, before = kept_kernels()
    with progress(json_output, sys.stdout, Console(stderr=True)) as listener:
        settled = settle_times(spec, source, [listener], Workdir(spec.workdir).begun)
        wrong = warm_kernels(make_plan(settled.spec, source.info, loaded=True), [listener])
    folder, kept = kept_kernels()
    made = {"folder": folder, "compiled": kept - before, "kept": kept, "failed": wrong}
    if json_output:
        print(json_line("warm_finished", **made))
    else:
        show.draw(Console(), show.warmed(made))
    return FAILED if wrong else DONE


def tune(
    path: str,
    asked: Mapping[str, Any],
    times: str | None,
    parameters: Sequence[str],
    memory: str | None,
    json_output: bool,
) -> int:
    """Print what is best for a step of a spec."""
    spec = override_run(load_spec(path), memory=memory)
    values: dict[str, list[Any]] = {}
    for text in parameters:
        name, row = parse_candidates(text)
        if name in values:
            raise SpecError(f"-p {name} is given twice. Give all its values at once: -p {name}=1,2.")
        values[name] = row
    question = Question(times=_parse_times(times), parameters=values, **asked)
    prepare_process(spec.run.threads)
    with progress(False, sys.stdout, Console(stderr=True)) as listener:
        found = tune_step(spec, cached_source(spec.source), question, [listener])
    if json_output:
        _print_json(found)
    else:
        show.draw(Console(), show_tuning.tuned(found))
    return DONE


def parse_candidates(text: str) -> tuple[str, list[Any]]:
    """Return name and values of "contrast=4,8,{quantile: 0.9}".

    Raises
    ------
    SpecError
        For a text that is not NAME=V1,V2,... with values in YAML.
    """
    name, equals, row = text.partition("=")
    parsed = parse_parameter(f"{name}{equals}[{row}]") if row.strip() else parse_parameter(text)
    return parsed[0], list(parsed[1])


def _parse_times(text: str | None) -> tuple[float, ...] | None:
    """Return the times of "0.5,1,2"."""
    if text is None:
        return None
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise TuningError(
            f"--times {text!r} are not times. Allowed: numbers, such as --times 0.5,1,2."
        ) from None


def run(path: str, how: Mapping[str, Any], overwrite: bool, json_output: bool) -> int:
    """Carry out a spec for one source."""
    spec = _carried_out(load_spec(path), how)
    # `plan` and `preview` take its source as an example.
    require_one_source(spec)
    return _carry_out(spec, overwrite, json_output)


def _carry_out(spec: Spec, overwrite: bool, json_output: bool) -> int:
    meter = Meter()
    stopping = Stopping(spec.run.walltime)
    with (
        at_sigterm(stopping.ask),
        _stopping(meter, spec),
        progress(json_output, sys.stdout, Console(stderr=True)) as listener,
    ):
        report = run_spec(spec, overwrite=overwrite, listeners=[listener, meter], stopping=stopping)
    if not json_output:
        picture = show.report(report.data, spec.workdir, already=not meter.target)
        show.draw(Console(), picture, *show_tuning.chosen(report.data.get("tuning", ())))
    return report.exit_code


@contextlib.contextmanager
def at_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Act at SIGTERM for the time of the context; only the main thread hears signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def _stopping(meter: Meter, spec: Spec | None = None) -> Iterator[None]:
    """Tell errors after a run has begun from those before.

    Raises
    ------
    StoppedError
        From any error after the begin, but a refusal that left nothing of the run.
    """
    try:
        yield
    except Exception as error:
        left = spec is None or Workdir(spec.workdir).changed(RUN) is not None
        if not meter.target or (isinstance(error, RefusedError) and not left):
            raise
        raise StoppedError from error


def demo(folder: str, how: Mapping[str, Any], overwrite: bool, json_output: bool) -> int:
    """Run the main job on an image that comes along."""
    spec = _carried_out(demonstration.prepare(Path(folder)), how)
    if not json_output:
        Console(stderr=True).print(demonstration.INTRODUCTION, highlight=False, soft_wrap=True)
    code = _carry_out(spec, overwrite, json_output)
    if code == DONE:
        made = demonstration.finish(Path(folder), spec)
        if json_output:
            print(json_line("demo_finished", **made))
        else:
            show.draw(Console(), show.demo(made))
    return code


def status(target: str, workdir: str | None, json_output: bool) -> int:
    """Print where a run stands."""
    standing = read_status(target, workdir)
    if json_output:
        _print_json(standing)
    else:
        with reading(standing["workdir"]):
            picture = show.status(standing)
        show.draw(Console(), picture)
    return DONE


def cancel(target: str, workdir: str | None, json_output: bool) -> int:
    """Ask a run to stop, and say what comes of it."""
    asked = cancel_run(target, workdir)
    if json_output:
        _print_json(asked)
    else:
        show.draw(Console(), show.cancelled(asked))
    return DONE


def preview(path: str, roi: str, output: str | None, how: Mapping[str, Any], json_output: bool) -> int:
    """Compute a region alone."""
    spec = _carried_out(load_spec(path), how)
    target = output or preview_target(spec.sink.uri, roi)
    meter = Meter()
    with _stopping(meter), progress(json_output, sys.stdout, Console(stderr=True)) as listener:
        data = run_preview(spec, roi, target, listeners=[listener, meter])
    if not json_output:
        show.draw(Console(), show.preview(data, roi), *show_tuning.chosen(data["tuning"]))
    return DONE if data["complete"] else FAILED


def preview_target(target: str, roi: str) -> str:
    """Return a name beside the result's for a region of it: out.ome.zarr -> out_0-64_32-96.ome.zarr."""
    folder, name = os.path.split(target.rstrip("/"))
    stem, dot, ending = name.partition(".")
    region = "_".join(part.strip().replace(":", "-") for part in roi.split(","))
    return os.path.join(folder, f"{stem}_{region}{dot}{ending}")


def verify(target: str, samples: int, workdir: str | None, json_output: bool) -> int:
    """Compute random windows again and compare."""
    with progress(json_output, sys.stdout, Console(stderr=True)) as listener:
        result = run_verify(target, samples=samples, listeners=[listener], workdir=workdir)
    if json_output:
        print(json_line("verify_finished", **result))
    else:
        show.draw(Console(), show.verified(result))
    return DONE if result["ok"] else FAILED


def repair(target: str, workdir: str | None, json_output: bool) -> int:
    """Compute what is damaged again."""
    meter = Meter()
    with _stopping(meter), progress(json_output, sys.stdout, Console(stderr=True)) as listener:
        result = run_repair(target, listeners=[listener, meter], workdir=workdir)
    if json_output:
        print(json_line("repair_finished", **result))
    else:
        show.draw(Console(), show.repaired(result))
    return DONE if result["ok"] else FAILED


def list_plugins(kind: str, name: str | None, json_output: bool) -> int:
    """Print what is registered."""
    groups = catalog.find_plugins(kind, name)
    if json_output:
        _print_json(next(iter(groups.values())) if len(groups) == 1 else groups)
    elif kind == "operators":
        show.draw(Console(), show.operators(groups["operators"]))
    else:
        pictures = (show.plugins(entries, title) for title, entries in groups.items() if entries)
        show.draw(Console(), *pictures)
    return DONE


def schema() -> int:
    """Print the JSON schema of specs."""
    _print_json(json_schema())
    return DONE


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))
