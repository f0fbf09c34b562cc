"""Everything that README.md shows is run with the base alone: Python in one session, commands in one shell."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.cli.words import PICTURES, with_table
from pipelines.image.sink import SINKS
from pipelines.image.source import SOURCES
from pipelines.spec.describe import describe_operator
from tests.base_install import environment

ROOT = Path(__file__).parents[1]
PACKAGES = ("diffusion_ops.", "pipelines.")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[tuple[int, str]]:
    """Return the code blocks of a language, each with the line before its first one."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [(README.count("\n", 0, match.start(1)), match[1]) for match in found]


def run(*command: str, cwd: Path) -> str:
    """Return what a command prints where only the base is installed; fail with all of it where it fails."""
    places = environment(cwd)
    done = subprocess.run(command, cwd=cwd, env=places, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_python_runs_from_top_to_bottom(tmp_path: Path) -> None:
    script = ""
    for line, code in blocks("python"):
        # As many empty lines as README.md has before: a traceback then names the right line.
        script += "\n" * (line - script.count("\n")) + code
    file = tmp_path / "readme.py"
    file.write_text(script, encoding="utf-8")
    run(sys.executable, "-W", "error", str(file), cwd=tmp_path)


def test_commands_run_from_top_to_bottom(tmp_path: Path) -> None:
    for _, text in blocks("yaml"):
        # The first line is a comment with the name of the file.
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    commands = "".join(text for _, text in blocks("sh") if "pip install" not in text)
    run("bash", "-euo", "pipefail", "-c", commands, cwd=tmp_path)
    assert (tmp_path / "demo" / "denoised.ome.zarr" / "zarr.json").is_file()
    for name in ("soft", "flat", "removed"):
        assert (tmp_path / f"{name}.ome.zarr" / "zarr.json").is_file()


def test_fresh_machine_commands_are_those_of_continuous_integration() -> None:
    """Two commands install, run the demonstration and pass the tests; `.ci/run` does the same."""
    first, second = (text.strip() for _, text in blocks("sh") if "pip install" in text)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    install, tests = second.split(" && ")
    assert tests in ci.splitlines()
    assert install.replace("pip install", "pip install --quiet") in ci.splitlines()
    make, install, demo = first.split(" && ")
    assert make == "python3 -m venv .venv"
    assert install == ".venv/bin/pip install -c .ci/constraints.txt -e ."
    assert demo == ".venv/bin/diffuse demo"
    for command in (first, second, ci):
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_every_pinned_version_is_exact() -> None:
    """No addresses, no ranges: what was tested, and nothing of the machine it was tested on."""
    lines = (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize(
    ("header", "registry"), [("name | equation", OPERATORS), ("reads", SOURCES), ("writes", SINKS)]
)
def test_tables_name_every_plugin(header: str, registry: Mapping[str, type]) -> None:
    table = README[README.index(f"| {header} |") :].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row)}
    # Other tests register plug-ins of their own.
    ours = {name for name, plugin in registry.items() if plugin.__module__.startswith(PACKAGES)}
    assert ours <= named


def test_operators_are_those_of_the_registry() -> None:
    """Where this fails, `python -m tests.pictures.make_pictures` draws and writes them anew."""
    ours = [cls for cls in OPERATORS.values() if cls.__module__.startswith(PACKAGES)]
    assert with_table(README, map(describe_operator, ours)) == README
    assert {path.stem for path in (ROOT / PICTURES).glob("*.png")} == {cls.name for cls in ours}


def test_pictures_stay_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / PICTURES).glob("*.png")) < 1_200_000


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing
