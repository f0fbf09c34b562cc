"""Plug-ins of other packages are found by their entry points; a sick one harms nobody, a name is never taken twice."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.plugin_examples import (
    GRAYMAP,
    ROOT,
    diffuse,
    diffuse_each,
    guide_blocks,
    guide_operator,
    python,
    save_graymap,
)

BORROWED = '''
"""Threads under another name."""

from pipelines.tasks.workers import CLUSTERS, Cluster, own_workers


@CLUSTERS.register("borrowed")
class Borrowed(Cluster):
    """Threads of this process."""

    about = "threads that are borrowed"
    in_process = True

    def connect(self, wanted):
        return own_workers(1, wanted.tasks, processes=False, dashboard=wanted.dashboard)
'''

SICK = "import a_library_that_nobody_has\n"

TAKEN = guide_operator("fisher").replace('register("fisher")', 'register("heat")')


def install(target: Path, scratch: Path, project: str, modules: Mapping[str, str]) -> Path:
    """Build a wheel of a package of a pyproject.toml, install it into a folder, and return that."""
    about = tomllib.loads(project)["project"]
    package, version = about["name"].replace("-", "_"), about["version"]
    lines = []
    for group, entries in about["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in entries.items())]
    info = f"{package}-{version}.dist-info"
    files = {
        f"{package}/__init__.py": "",
        **{f"{package}/{name}.py": text for name, text in modules.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n".join([*lines, ""]),
    }
    record = f"{info}/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    wheel = scratch / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def project(name: str, **modules: str) -> str:
    """Return the pyproject.toml of a package of operators."""
    entries = "".join(f'{word} = "{name}.{module}"\n' for word, module in modules.items())
    return f'[project]\nname = "{name}"\nversion = "1.0"\n\n[project.entry-points."diffuse.operators"]\n{entries}'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return a path to import from: the package of the guide, installed, and ours."""
    (text,) = guide_blocks("extend", "toml")
    modules = {
        "fisher": guide_operator("fisher"),
        "dilation": guide_operator("dilation"),
        "implicit": (ROOT / "tests/pipelines/kinds/steady_like.py").read_text(encoding="utf-8"),
        "graymap": GRAYMAP,
        "borrowed": BORROWED,
    }
    site, scratch = (tmp_path_factory.mktemp(name) for name in ("site", "scratch"))
    return install(site, scratch, text, modules), ROOT


@pytest.mark.thorough
def test_lists_and_schema_find_them(installed: tuple[Path, ...], tmp_path: Path) -> None:
    asked = [f"list {what} --json" for what in ("operators", "formats", "clusters")]
    listed, formats, clusters, schema = diffuse_each(tmp_path, *asked, "schema", path=installed)
    operators = {entry["name"]: entry for entry in json.loads(listed)}
    assert operators["fisher"]["module"] == "own_plugins.fisher"
    assert {"dilation", "implicit-heat"} <= set(operators)
    assert formats.count('"graymap"') == 2
    assert "borrowed" in clusters
    assert '"const": "fisher"' in schema


@pytest.mark.thorough
def test_python_finds_them(installed: tuple[Path, ...], tmp_path: Path) -> None:
    script = """
import numpy as np, xarray as xr
import diffusion_ops as do
from own_plugins.dilation import Dilation
from pipelines.tasks.work import KINDS
image = np.random.default_rng(0).random((40, 31)).astype("float32")
assert do.Dilation is Dilation and "Fisher" in dir(do) and "steady-like" in KINDS
grown = do.evolve(image, do.Dilation(speed=2), time=1)
assert (grown >= image).all() and grown.max() == image.max()
assert np.array_equal(xr.DataArray(image, dims=("y", "x")).diffuse.dilation(speed=2, time=1), grown)
"""
    python(tmp_path, "-W", "error", "-c", script, path=installed)


def test_runs_use_operator_format_cluster_and_kind(installed: tuple[Path, ...], tmp_path: Path) -> None:
    save_graymap(tmp_path / "in.pgm")
    commands = (
        "apply dilation in.pgm out.pgm --time 2 --dtype uint8 --cluster borrowed --threads 2",
        "verify out.pgm",
        "apply implicit-heat in.pgm smooth.zarr",
    )
    _, proof, _ = diffuse_each(tmp_path, *commands, path=installed)
    assert (tmp_path / "out.pgm").read_bytes().startswith(b"P5 47 61 255")
    assert proof


@pytest.mark.thorough
def test_the_code_of_a_package_is_part_of_the_version(installed: tuple[Path, ...], tmp_path: Path) -> None:
    """A journal is not taken over from another version of the operator."""
    script = "from pipelines.tasks.version import code_version; print(code_version())"
    assert python(tmp_path, "-c", script, path=installed) != python(tmp_path, "-c", script, path=(ROOT,))


@pytest.mark.thorough
def test_a_sick_package_is_warned_of_and_left_out(tmp_path: Path) -> None:
    modules = {"sick": SICK, "fisher": guide_operator("fisher") + SICK}
    site = install(
        tmp_path / "site", tmp_path, project("sick_plugins", sick="sick", fisher="fisher"), modules
    )
    script = """
import warnings
import diffusion_ops as do
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    names = do.OPERATORS.names(), list(do.OPERATORS)
assert "heat" in names[0] and "fisher" not in names[0]
print(*(one.message for one in warned), sep="\\n")
try:
    do.OPERATORS["sick"]
except ValueError as error:
    print(error)
"""
    lines = python(tmp_path, "-c", script, path=(site, ROOT)).splitlines()
    assert len(lines) == 3
    assert lines[1] == lines[2]
    assert "'sick' of the package sick_plugins could not be loaded" in lines[2]
    assert "ModuleNotFoundError: No module named 'a_library_that_nobody_has'" in lines[2]
    said = diffuse(tmp_path, "apply", "sick", "a.npy", "b.zarr", "--time", "1", code=2, path=(site, ROOT))
    assert "sick_plugins" in said


@pytest.mark.thorough
def test_a_name_that_is_taken_is_an_error_that_names_both(tmp_path: Path) -> None:
    site = install(tmp_path / "site", tmp_path, project("greedy", heat="taken"), {"taken": TAKEN})
    script = """
import diffusion_ops as do
for _ in range(2):
    try:
        do.OPERATORS["perona-malik"]
    except ValueError as error:
        print(error)
"""
    lines = python(tmp_path, "-c", script, path=(site, ROOT)).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "'heat' is registered twice" in line
        assert "diffusion_ops.operators.heat.Heat" in line
        assert "greedy.taken.Fisher" in line
