"""Specs that no sensible person writes: a refusal in words, within seconds, and nothing on disk."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.image.open_source import open_source
from pipelines.plan.search import make_plan
from pipelines.refusal import RefusedError
from pipelines.spec.spec import SECTIONS, make_spec
from pipelines.spec.step import StepSpec
from tests.pipelines.cli.test_command import diffuse

EXTREMES: list[Any] = [
    math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-320, 10**12, 10**400, -(10**400), -1, 0, 2**31, 2**63, 2**64,
    True, None, "", "x", "\0", "9" * 5000, [], [[]], [1], [10**30], [-1], {}, {"a": 1}, {"quantile": math.nan},
    {"quantile": 5}, {"cycles": 10**30}, {"cycles": 0}, {"adaptive": math.nan}, {"adaptive": 1e-300},
    {"y": math.inf, "x": 1e-320}, {"y": 1e308, "x": 1e-308},
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small image and nothing else."""
    folder = tmp_path_factory.mktemp("hostile")
    np.save(folder / "image.npy", np.zeros((150, 130), np.uint8))
    return folder


def base() -> dict[str, Any]:
    return {
        "source": {"uri": "image.npy"},
        "steps": [{"operator": "perona-malik", "contrast": 5, "time": 2}],
        "sink": {"uri": "out.zarr"},
        "outputs": [{"name": "source", "uri": "other.zarr"}],
        "image": {},
        "run": {"threads": 1},
    }


def is_refused(folder: Path, data: Any) -> bool:
    """Return whether a spec is refused; any other error is the test's."""
    try:
        spec = make_spec(data, folder)
        make_plan(spec, open_source(spec.source).info).summary()
    except RefusedError:
        return True
    return False


@pytest.mark.parametrize("section", ["source", "sink", "image", "run", "outputs"])
def test_any_field_with_any_value_is_planned_or_refused(folder, section):
    for field in SECTIONS[(section,)].model_fields:
        for value in EXTREMES:
            data = base()
            (data[section][0] if section == "outputs" else data[section])[field] = value
            is_refused(folder, data)
    assert [child.name for child in folder.iterdir()] == ["image.npy"]


def test_any_part_of_a_step_with_any_value_is_planned_or_refused(folder):
    for value in EXTREMES:
        for field in StepSpec.model_fields:
            data = base()
            data["steps"][0][field] = value
            is_refused(folder, data)
        for given_time in ({}, {"time": 1}, {"time": 1e308}):
            for field in ("steps", "dt", "schedule"):
                is_refused(folder, {**base(), "steps": [{"operator": "heat", **given_time, field: value}]})
        for section in base():
            is_refused(folder, {**base(), section: value})


@pytest.mark.thorough
@pytest.mark.parametrize("name", OPERATORS.names())
def test_any_parameter_with_any_value_is_planned_or_refused(folder, name):
    described = OPERATORS[name].parameters()
    needed = {key: 1 for key, parameter in described.items() if parameter.required}
    extent = {"time": 1} if OPERATORS[name].controlled_by == "time" else {}
    for key in described:
        for value in EXTREMES[:16]:
            is_refused(folder, {**base(), "steps": [{"operator": name, **needed, **extent, key: value}]})


IMPOSSIBLE = {
    "memory": ["1e999", "nan", "-1", "0", "1e30GiB", "inf", "", " ", "GiB", "9" * 400],
    "threads": ["0", "-1", "10000000000", "9" * 30, "nan"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, one) for option, row in IMPOSSIBLE.items() for one in row]
)
def test_an_impossible_amount_on_the_command_line_is_refused(folder, monkeypatch, option, value):
    monkeypatch.chdir(folder)
    (folder / "spec.json").write_text(json.dumps(base()))
    result = diffuse("plan", "spec.json", f"--{option}", value)
    (folder / "spec.json").unlink()
    assert result.exit_code == 2, result.stdout
    assert option in result.stderr


@pytest.mark.parametrize("steps", ["1000000000000", "9" * 400])
def test_endless_steps_are_refused(folder, monkeypatch, steps):
    monkeypatch.chdir(folder)
    result = diffuse("apply", "heat", "image.npy", "out.zarr", "--steps", steps)
    assert result.exit_code == 2
    assert "are too many. Allowed: at most 1,000,000" in result.stderr


@pytest.mark.parametrize("time", ["nan", ".nan", "inf", ".inf", "1e308", "-1", "1e30", "1.0e+300"])
def test_endless_times_are_refused(folder, monkeypatch, time):
    monkeypatch.chdir(folder)
    assert diffuse("apply", "heat", "image.npy", "out.zarr", "--time", time).exit_code == 2


def zarr_metadata(shape: list[Any], chunks: list[Any]) -> dict[str, Any]:
    return {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {}, "dimension_names": ["y", "x"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "chunks", "words"),
    [
        ([10**9, 10**9], [512, 512], "needs 59,604,827,881 tiles"),
        ([2**62, 2**62], [512, 512], "bytes that are possible"),
        ([2**64, 2**64], [512, 512], "bytes that are possible"),
        ([10**400, 1], [512, 1], ""),
        ([10, 10], [0, 0], "Every length must be 1 or longer"),
        ([0, 10], [1, 1], "has no pixels"),
        ([-5, 10], [1, 1], ""),
        ([1.5, 10], [1, 1], ""),
        ([None, 10], [1, 1], ""),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_source_that_claims_an_impossible_shape_is_refused(tmp_path, shape, chunks, words, verb):
    (tmp_path / "big.zarr").mkdir()
    (tmp_path / "big.zarr" / "zarr.json").write_text(json.dumps(zarr_metadata(shape, chunks)))
    data = {**base(), "source": {"uri": "big.zarr"}, "outputs": []}
    (tmp_path / "spec.json").write_text(json.dumps(data))
    before = sorted(tmp_path.rglob("*"))
    result = diffuse(verb, str(tmp_path / "spec.json"))
    assert result.exit_code == 2, result.stderr
    assert words in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"{", b"\0\xff", b"[]", b"3", b"null", b'{"zarr_format": 3}'])
def test_damaged_metadata_is_refused(tmp_path, content):
    (tmp_path / "big.zarr").mkdir()
    (tmp_path / "big.zarr" / "zarr.json").write_bytes(content)
    assert is_refused(tmp_path, {**base(), "source": {"uri": "big.zarr"}})


@pytest.mark.thorough
def test_two_thousand_steps_are_planned(folder):
    step = {"operator": "perona-malik", "contrast": {"quantile": 0.5}, "time": 1}
    data = {**base(), "steps": [step] * 2000, "outputs": []}
    spec = make_spec(data, folder)
    plan = make_plan(spec, open_source(spec.source).info)
    assert len(plan.stages) == 4000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(EXTREMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in [(*at, key), *places(inner, (*at, key))]]


@settings(max_examples=60)
@given(data=st.data())
def test_a_spec_with_random_changes_is_planned_or_refused(folder, data):
    spec = copy.deepcopy(base())
    spec["steps"][0]["operator"] = data.draw(st.sampled_from(OPERATORS.names()))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(spec) or [("source",)]))
        holder: Any = spec
        for key in way:
            holder = holder[key]
        change = data.draw(st.sampled_from(["replace", "remove", "add", "double"]))
        if change == "remove":
            del holder[last]
        elif change == "replace" or isinstance(holder, list):
            holder[last] = data.draw(VALUES)
        elif change == "double":
            holder[data.draw(st.text(max_size=8))] = holder[last]
        else:
            holder[data.draw(st.text(max_size=8))] = data.draw(VALUES)
    is_refused(folder, spec)
