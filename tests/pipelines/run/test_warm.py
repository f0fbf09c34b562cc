"""Once a spec is warm, carrying it out compiles nothing; what cannot be compiled is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml

from pipelines.image.info import ImageInfo
from pipelines.image.kept_sources import cached_source
from pipelines.plan.search import make_plan
from pipelines.run.warm import plan_run, warm
from pipelines.spec.spec import make_spec
from pipelines.tasks.work import KINDS
from tests.benchmarks.bench_memory import JOBS
from tests.pipelines.runs import ragged_image

COUNT = """
import json, sys
from numba.core import event

class Compiled(event.Listener):
    def on_start(self, started):
        function = started.data["dispatcher"].py_func
        found.append(f"{function.__module__}.{function.__qualname__} {started.data['args']}")
    def on_end(self, ended):
        pass

found = []
event.register("numba:compile", Compiled())
from pipelines.cli.command import app
try:
    app(sys.argv[1:])
finally:
    print(json.dumps({"event": "compiled", "found": found}))
"""

PLAIN = """
source: {uri: source.npy}
steps:
  - {operator: perona-malik, contrast: {quantile: 0.6}, sigma: 0.7, time: 4}
sink: {uri: out.ome.zarr, pyramid: 1}
"""
HEAT = [{"operator": "heat", "steps": 2}]
LEAST = """
source: {uri: source.npy}
steps: [{operator: heat, time: 4, schedule: explicit}]
sink: {uri: out.zarr}
"""
GRAPH = """
source: {uri: source.npy}
steps:
  - {name: outline, operator: heat, octave: 1, time: 8}
  - {name: crisp, operator: coherence-enhancing, contrast: 8, guide: outline, time: 4}
  - {name: flat, operator: total-variation, weight: 6, steps: 40, until: {energy: 1.0e-3}}
  - {name: calm, operator: heat, time: 2, schedule: {adaptive: 0.5}}
sink: {uri: out.zarr}
"""

FILLING = """
source: {uri: source.npy}
steps: [{operator: inpainting, known: known.npy, mask: mask.npy, rounds: 2}]
sink: {uri: out.zarr, chunk: 16}
run: {tile: 64}
"""


def python(folder: Path, *words: str) -> tuple[int, str]:
    """Return the exit code and the output of Python, with kernels in a folder of their own."""
    run = subprocess.run(
        [sys.executable, *words, "--json"],
        cwd=folder,
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder / "kernels")},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


def diffuse(folder: Path, *words: str) -> tuple[int, list[dict]]:
    """Return the exit code and the events of a command, the last of them what it compiled."""
    code, told = python(folder, "-c", COUNT, *words)
    return code, [json.loads(line) for line in told.splitlines()]


def planned(folder: Path, *words: str) -> dict:
    """Return the plan of a spec."""
    return json.loads(python(folder, "-m", "pipelines.cli.command", "plan", "spec.yaml", *words)[1])


def save_beside(folder: Path) -> None:
    """Save what is known of a source of 150 by 130 pixels, and a mask with walls."""
    known, mask = np.zeros((2, 150, 130), np.uint8)
    known[::4, ::3] = mask[:, :100] = mask[3, 100:] = 1
    np.save(folder / "known.npy", known)
    np.save(folder / "mask.npy", mask)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("spec", "holes", "dtype"),
    [
        (LEAST, True, np.float32),
        pytest.param(FILLING, False, np.uint8, marks=pytest.mark.slow),
        pytest.param(PLAIN, True, np.float32, marks=pytest.mark.slow),
        pytest.param(PLAIN, False, np.uint8, marks=pytest.mark.slow),
        pytest.param(GRAPH, True, np.float64, marks=pytest.mark.slow),
    ],
    ids=["least", "filling", "holes", "bytes", "graph"],
)
def test_a_warm_spec_compiles_nothing(spec, holes, dtype, tmp_path):
    np.save(tmp_path / "source.npy", ragged_image((150, 130), holes=holes).astype(dtype))
    save_beside(tmp_path)
    (tmp_path / "spec.yaml").write_text(spec)
    code, events = diffuse(tmp_path, "warm", "spec.yaml")
    warmed, compiled = events[-2:]
    assert (code, warmed["failed"]) == (0, {})
    assert {e["event"] for e in events} == {"compiling", "warm_finished", "compiled"}
    assert warmed["compiled"] == warmed["kept"] > 0 < len(compiled["found"])
    assert Path(warmed["folder"]).is_relative_to(tmp_path / "kernels")
    assert not list(tmp_path.glob("out*"))
    code, events = diffuse(tmp_path, "run", "spec.yaml")
    assert code == 0
    assert events[-1]["found"] == []


@pytest.mark.thorough
def test_loaded_kernels_are_counted_as_less_than_those_that_are_made(tmp_path):
    np.save(tmp_path / "source.npy", ragged_image((150, 130), holes=False).astype(np.uint8))
    (tmp_path / "spec.yaml").write_text(LEAST)
    cold = planned(tmp_path)
    assert cold["kernels"] == "compiled"
    # Planning has made none.
    _, [*_, warmed, _] = diffuse(tmp_path, "warm", "spec.yaml")
    assert warmed["compiled"] == warmed["kept"] > 0
    kept = planned(tmp_path)
    assert kept["kernels"] == "loaded"
    assert kept["memory_total"] < cold["memory_total"]
    # Workers in other processes may be on machines without kernels.
    assert planned(tmp_path, "--cluster", "local")["kernels"] == "compiled"
    assert diffuse(tmp_path, "run", "spec.yaml")[0] == 0
    report = json.loads((tmp_path / "out.zarr.run" / "report.json").read_text())
    assert report["memory"]["predicted"] == kept["memory_total"]


def test_a_process_that_has_compiled_counts_what_the_compiler_keeps(monkeypatch):
    """Kernels that it has made itself are there, and yet not as small as loaded ones."""
    for made in (True, False):
        monkeypatch.setattr("pipelines.run.warm.has_compiled", lambda made=made: made)
        spec = make_spec({"source": {"uri": "source.npy"}, "steps": HEAT, "sink": {"uri": "out.zarr"}})
        source = ImageInfo((600, 500), np.dtype("u1"), "yx", (1, 500), identity="synthetic")
        warm(make_plan(spec, source))
        assert plan_run(spec, source).loaded is not made


@pytest.mark.thorough
def test_no_tile_waits_for_a_kernel(tmp_path):
    """A kernel that a tile makes takes the compiler's memory beside the tile's, which no plan counts."""
    command = [sys.executable, "-m", "tests.pipelines.run.late_kernels", str(tmp_path)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {one.pop("job"): one for one in map(json.loads, told.splitlines())}
    assert set(found) == set(JOBS)
    assert {name: one for name, one in found.items() if one["late"] or one["failed"]} == {}


def test_every_stage_of_a_filling_is_rehearsed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("source.npy", ragged_image((150, 130), holes=False))
    save_beside(tmp_path)
    spec = make_spec(ruamel.yaml.YAML(typ="safe").load(FILLING))
    plan = make_plan(spec, cached_source(spec.source).info)
    assert any(isinstance(stage.work, KINDS["evolve"]) for stage in plan.stages)
    assert warm(plan) == {}


@pytest.mark.thorough
def test_a_spec_that_cannot_be_planned_is_refused(tmp_path):
    (tmp_path / "spec.yaml").write_text(PLAIN)
    code, events = diffuse(tmp_path, "warm", "spec.yaml")
    assert code == 2
    assert events[0]["event"] == "refused"
