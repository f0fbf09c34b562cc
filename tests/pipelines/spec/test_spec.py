"""Specs: what they mean, what they refuse and in which words, and what decides a result."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.spec.spec import (
    RunSpec,
    Spec,
    SpecError,
    json_schema,
    load_spec,
    make_spec,
    override_run,
)
from pipelines.store.addresses import absolute

HEAT = {"operator": "heat", "time": 1}
PERONA = {"operator": "perona-malik", "contrast": 3, "time": 1}


def spec_of(*steps: Any, **sections: Any) -> Spec:
    return make_spec(
        {"source": {"uri": "a.tif"}, "steps": list(steps or [HEAT]), "sink": {"uri": "b.zarr"}, **sections}
    )


def refusal_of(*steps: Any, **sections: Any) -> str:
    with pytest.raises(SpecError) as error:
        spec_of(*steps, **sections)
    return str(error.value)


def write(folder: Path, text: str) -> Path:
    path = folder / "scene.yaml"
    path.write_text(text)
    return path


# ---- what a spec means


def test_the_example_of_the_design_is_read(tmp_path):
    spec = load_spec(
        write(
            tmp_path,
            """
source: {uri: slide.svs, level: 0}
steps:
  - {name: calm, operator: perona-malik, contrast: {quantile: 0.9}, time: 4}
  - {name: crisp, operator: heat, time: 8, input: calm}
sink: {uri: out.ome.zarr, pyramid: auto, dtype: uint8}
run: {memory: 2GiB, cluster: local}
""",
        )
    )
    assert [step.name for step in spec.steps] == ["calm", "crisp"]
    assert spec.steps[0].make_operator().statistics()
    assert spec.run.memory == 2 << 30
    assert spec.source.uri == str(tmp_path / "slide.svs")
    assert spec.workdir == str(tmp_path / "out.ome.zarr.run")


def test_words_of_other_systems_mean_the_same():
    ours = spec_of(
        {"operator": "perona-malik", "contrast": 3, "conductance": "rational", "steps": 4, "dt": 0.1}
    )
    theirs = spec_of({"operator": "perona-malik", "kappa": 3, "option": 2, "niter": 4, "gamma": 0.1})
    yaml_lambda = spec_of({"operator": "perona-malik", "lambda": 3, "option": 2, "niter": 4, "gamma": 0.1})
    assert (
        ours.steps[0].make_operator()
        == theirs.steps[0].make_operator()
        == yaml_lambda.steps[0].make_operator()
    )
    assert ours.steps[0].times() == theirs.steps[0].times()
    assert ours.science() == theirs.science() == yaml_lambda.science()


def test_steps_get_names_and_inputs():
    spec = spec_of(HEAT, HEAT, {**HEAT, "name": "heat-2"})
    assert [(s.name, s.input) for s in spec.steps] == [
        ("heat", "source"),
        ("heat-3", "heat"),
        ("heat-2", "heat-3"),
    ]


def test_an_address_stays_and_a_path_becomes_absolute(tmp_path):
    assert absolute("s3://bucket/image.zarr", tmp_path) == "s3://bucket/image.zarr"
    assert absolute("../a.tif", tmp_path / "x") == str(tmp_path / "a.tif")
    assert absolute("/a.tif", tmp_path) == absolute("file:///a.tif", tmp_path) == "/a.tif"


def test_a_target_in_a_store_needs_a_folder_for_its_state(tmp_path):
    assert "Say which folder with run.workdir" in refusal_of(sink={"uri": "s3://bucket/out.ome.zarr"})
    spec = spec_of(sink={"uri": "s3://bucket/out.ome.zarr"}, run={"workdir": str(tmp_path)})
    assert spec.workdir == str(tmp_path)


def test_a_dump_makes_the_same_spec():
    spec = spec_of({**PERONA, "contrast": {"quantile": 0.5}}, HEAT, run={"memory": "1 GB", "tile": {"y": 5}})
    again = Spec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json"))))
    assert again == spec


@pytest.mark.parametrize(("text", "count"), [("2GiB", 2 << 30), ("500 MB", 500_000_000), (12345, 12345)])
def test_memory_has_units(text, count):
    assert RunSpec.model_validate({"memory": text}).memory == count


def test_the_command_line_overrides_the_run_section():
    spec = spec_of(run={"memory": "1GiB", "batch": 7})
    assert override_run(spec, memory=None, threads=None) is spec
    changed = override_run(spec, memory="3GiB", threads=2)
    assert (changed.run.memory, changed.run.threads, changed.run.batch) == (3 << 30, 2, 7)
    with pytest.raises(SpecError, match=r"run\.memory: 'much' is not an amount of memory"):
        override_run(spec, memory="much")


# ---- what decides a result


def test_how_and_where_do_not_decide_the_result():
    one = spec_of(PERONA)
    other = make_spec(
        {
            "source": {"uri": "elsewhere/a.tif"},
            "steps": [{**PERONA, "name": "calm", "time": 1.0, "contrast": 3.0}],
            "sink": {"uri": "elsewhere/c.zarr"},
            "run": {"memory": "1GiB", "tile": 64, "batch": 3},
        }
    )
    assert one.science() == other.science()
    json.dumps(one.science())


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": [{**PERONA, "time": 2}]},
        {"steps": [{**PERONA, "contrast": {"quantile": 0.9}}]},
        {"steps": [PERONA, HEAT]},
        {"image": {"ndim": 2}},
        {"image": {"spacing": "units"}},
        {"source": {"uri": "a.tif", "level": 1}},
        {"sink": {"uri": "b.zarr", "dtype": "uint8"}},
    ],
)
def test_what_decides_the_result_is_in_the_digest(changed):
    base: dict[str, Any] = {"source": {"uri": "a.tif"}, "steps": [PERONA], "sink": {"uri": "b.zarr"}}
    assert make_spec(base).science() != make_spec({**base, **changed}).science()


def test_statistics_differ_in_the_digest():
    first, second = (spec_of({**PERONA, "contrast": {"quantile": q}}).science() for q in (0.5, 0.6))
    assert first != second


# ---- refusals


def test_every_refusal_names_file_line_and_what_is_allowed(tmp_path):
    path = write(
        tmp_path,
        """\
source: {uri: a.tif, levl: 2}
steps:
  - operator: perona-malik
    contrst: 3
    time: 4
sink:
  uri: out.zarr
  pyramid: x
run: {memory: lots}
""",
    )
    with pytest.raises(SpecError) as error:
        load_spec(path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(
        "scene.yaml, line 1: source: unknown key 'levl'. Did you mean 'level'? Allowed: uri, "
    )
    assert lines[1].startswith(
        "scene.yaml, line 4: steps[0]: unknown key 'contrst'. Did you mean 'contrast'? Allowed: contrast, "
    )
    assert lines[2] == (
        "scene.yaml, line 8: sink.pyramid: should be 'auto' or 'none' or should be a whole number, got 'x'."
    )
    assert lines[3].startswith("scene.yaml, line 9: run.memory: 'lots' is not an amount of memory.")
    assert len(lines) == 4


def test_a_parameter_out_of_range_has_the_line_of_the_users_word(tmp_path):
    path = write(
        tmp_path,
        """\
source: {uri: a.tif}
steps:
  - operator: perona-malik
    time: 4

    kappa: -1
sink: {uri: out.zarr}
""",
    )
    with pytest.raises(
        SpecError, match=r"scene.yaml, line 6: steps\[0\]: contrast=-1 is not possible\. Allowed"
    ):
        load_spec(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "scene.yaml is empty. Give source, steps and sink."),
        ("- heat\n", "a spec is keys and values with source, steps and sink, got ['heat']."),
        ("steps: 1\nsteps: 2\n", "scene.yaml, line 2: the key 'steps' is given twice."),
        ("source: {uri: a.tif\n", "this is not valid YAML"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path, text, message):
    with pytest.raises(SpecError) as error:
        load_spec(write(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match="There is no file"):
        load_spec(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"operator": "het", "time": 1}, "there is no operator 'het'. Did you mean 'heat'? Allowed: "),
        ({"time": 1}, "steps[0]: the key 'operator' is missing"),
        ({"operator": 3, "time": 1}, "steps[0].operator: should be a word, got 3."),
        ({"operator": "heat"}, "give 'time' (in squared units of the spacing), or 'steps'"),
        ({"operator": "heat", "dt": 0.1}, "dt=0.1 alone does not say when to stop"),
        (
            {"operator": "heat", "time": -1},
            "steps[0].time: should be greater than or equal to 0 or should be 'auto', got -1.",
        ),
        (
            {"operator": "heat", "time": "4"},
            "steps[0].time: should be a number or should be 'auto', got '4'.",
        ),
        ({"operator": "heat", "steps": 2.5}, "steps[0].steps: "),
        ({"operator": "heat", "steps": True}, "steps[0].steps: should be a whole number, got True."),
        (
            {"operator": "heat", "time": float("nan")},
            "steps[0].time: should be a finite number or should be 'auto', got nan.",
        ),
        ({"operator": "heat", "time": 1, "steps": 3, "dt": 0.1}, "contradict each other"),
        (
            {"operator": "heat", "time": 1, "time_step": 0.1, "dt": 0.1},
            "'dt' is given twice, as 'time_step' and as 'dt'",
        ),
        (
            {"operator": "heat", "steps": 10**9},
            "1,000,000,000 explicit steps are too many. Allowed: at most 1,000,000.",
        ),
        ({"operator": "heat", "time": 1e9, "dt": 0.1}, "explicit steps are too many"),
        ({"operator": "heat", "steps": 3, "schedule": "cycles"}, "FSI cycles choose their own steps"),
        ({"operator": "heat", "time": 3, "schedule": "quick"}, "There is no schedule 'quick'"),
        ({"operator": "heat", "time": 3, "schedule": {"cycles": 0}}, "at least 1, got 0"),
        ({"operator": "heat", "time": 1, "voxelspacing": 2}, "unknown key 'voxelspacing'"),
        ({"operator": "heat", "time": 1, "parameters": {}}, "unknown key 'parameters'"),
        ({"operator": "heat", "time": 1, 3: 4}, "unknown key 3"),
        ({"operator": "perona-malik", "time": 1}, "perona-malik needs 'contrast'. It is: "),
        ({**PERONA, "kappa": 3}, "'contrast' is given twice, as 'contrast' and as 'kappa'. Give it once."),
        (
            {**PERONA, "contrast": {"quantil": 0.9}},
            "There is no statistic 'quantil'. Did you mean 'quantile'?",
        ),
        ({**PERONA, "contrast": "high"}, "contrast='high' is not possible"),
        ({**PERONA, "option": 9}, "option=9 is not known. Allowed: 1, 2"),
        ({**HEAT, "name": "source"}, "the image itself is called that"),
        ({**HEAT, "name": "a b"}, "steps[0].name: "),
        ("heat", "steps[0]: should be keys and values, got 'heat'."),
    ],
)
def test_an_impossible_step_is_refused(step, message):
    assert message in refusal_of(step)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{**HEAT, "name": "a"}, {**HEAT, "name": "a"}], "steps[1]: the name 'a' cannot be used"),
        (
            [HEAT, {**HEAT, "input": "heet"}],
            "steps[1]: there is no earlier step 'heet'. Did you mean 'heat'?",
        ),
        ([{**HEAT, "input": "b"}, {**HEAT, "name": "b"}], "It comes later"),
        ([{**HEAT, "input": "heat"}], "there is no earlier step 'heat'. Allowed: source."),
        ([HEAT, {**HEAT, "input": "source"}], "steps[0]: the result does not use the step 'heat'"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(steps, message):
    assert message in refusal_of(*steps)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"steps": []}, "there are no steps. Give at least one"),
        ({"steps": HEAT}, "steps: should be a list, each item after a '-'"),
        ({"source": {}}, "source: the key 'uri' is missing."),
        ({"sink": "out.zarr"}, "sink: should be keys and values, got 'out.zarr'."),
        ({"sinc": {"uri": "b"}}, "unknown key 'sinc'. Did you mean 'sink'?"),
        ({"image": {"ndim": 4}}, "image.ndim: should be 2, 3 or 'auto', got 4."),
        ({"sink": {"uri": "b", "dtype": "uint7"}}, "sink.dtype: dtype 'uint7' is not known"),
        ({"sink": {"uri": "b", "dtype": "complex64"}}, "sink.dtype: dtype 'complex64' is not possible"),
        ({"run": {"memory": -5}}, "run.memory: should be greater than 0, got -5."),
        ({"run": {"tile": {"q": 5}}}, "run.tile: "),
        ({"run": {"tile": 0}}, "run.tile: should be greater than 0"),
        ({"run": {"threads": "many"}}, "run.threads: should be a whole number, got 'many'."),
        ({"run": {"cluster": ""}}, "run.cluster: "),
    ],
)
def test_an_impossible_section_is_refused(sections, message):
    assert message in refusal_of(**sections)


# ---- schema


def test_the_schema_knows_every_operator_and_parameter():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    steps = schema["$defs"]["StepSpec"]["oneOf"]
    assert [step["title"] for step in steps] == list(OPERATORS)
    contrast = next(s for s in steps if s["title"] == "perona-malik")["properties"]["contrast"]
    assert "Unit: image units per unit length." in contrast["description"]


@pytest.mark.parametrize(
    ("step", "valid"),
    [
        ({"operator": "heat", "time": 1}, True),
        ({"operator": "perona-malik", "contrast": {"quantile": 0.9}, "niter": 3}, True),
        ({"operator": "perona-malik", "option": 2, "kappa": 3, "time": 1, "schedule": {"cycles": 3}}, True),
        ({"operator": "perona-malik", "option": 7, "kappa": 3, "time": 1}, False),
        ({"operator": "heat", "contrast": 1}, False),
        ({"operator": "perona-malik", "contrast": {"quantil": 0.9}}, False),
    ],
)
def test_the_schema_agrees_with_the_spec(step, valid):
    data = {"source": {"uri": "a"}, "steps": [step], "sink": {"uri": "b"}, "run": {"memory": "2GiB"}}
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(data) is valid
