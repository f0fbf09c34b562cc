"""All that README.md and the site show is run with the base alone: Python page by page, commands in one shell."""

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
MOST_LINES = 150
GENERATED = {"operators", "api"}
"""Folders of pages that the build of the site writes; tests/test_site.py runs their examples."""


def blocks(language: str, text: str = README) -> list[tuple[int, str]]:
    """Return the code blocks of a language, each with the line before its first one."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


def pages(language: str) -> pytest.MarkDecorator:
    """Return a test's parameters: README.md, and the pages of the site with blocks of a language."""
    written = [p for p in sorted((ROOT / "notebooks").rglob("*.md")) if p.parent.name not in GENERATED]
    texts = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in (ROOT / "README.md", *written)}
    shown = {name: text for name, text in texts.items() if commands(text) or language != "sh"}
    return pytest.mark.parametrize(
        "page",
        [pytest.param(text, id=name) for name, text in shown.items() if blocks(language, text)],
    )


def commands(page: str) -> str:
    """Return the commands of a page, but for those that install."""
    return "".join(text for _, text in blocks("sh", page) if "pip install" not in text)


def run(*command: str, cwd: Path) -> str:
    """Return what a command prints where only the base is installed; fail with all of it where it fails."""
    places = environment(cwd)
    done = subprocess.run(command, cwd=cwd, env=places, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.documents
@pages("python")
def test_python_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    script = ""
    for line, code in blocks("python", page):
        # As many empty lines as the page has before: a traceback then names the right line.
        script += "\n" * (line - script.count("\n")) + code
    file = tmp_path / "page.py"
    file.write_text(script, encoding="utf-8")
    run(sys.executable, "-W", "error", str(file), cwd=tmp_path)


@pytest.mark.documents
@pages("sh")
def test_commands_run_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    for _, text in blocks("yaml", page):
        # The first line is a comment with the name of the file.
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    run("bash", "-euo", "pipefail", "-c", commands(page), cwd=tmp_path)
    assert (tmp_path / "demo" / "denoised.ome.zarr" / "zarr.json").is_file()
    for name in re.findall(r"[ :](\w+\.ome\.zarr)\b", page):
        assert (tmp_path / name / "zarr.json").is_file()


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
    ("page", "header", "registry"),
    [
        ("README.md", "operator", OPERATORS),
        ("notebooks/formats.md", "reads", SOURCES),
        ("notebooks/formats.md", "writes", SINKS),
    ],
)
def test_tables_name_every_plugin(page: str, header: str, registry: Mapping[str, type]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text[text.index(f"| {header} |") :].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row)}
    # Other tests register plug-ins of their own.
    ours = {name for name, plugin in registry.items() if plugin.__module__.startswith(PACKAGES)}
    assert ours <= named


def test_operators_are_those_of_the_registry() -> None:
    """Where this fails, `python -m tests.pictures.make_pictures` draws and writes them anew."""
    ours = [cls for cls in OPERATORS.values() if cls.__module__.startswith(PACKAGES)]
    assert with_table(README, map(describe_operator, ours)) == README
    assert {path.stem for path in (ROOT / PICTURES).glob("*.png")} == {cls.name for cls in ours}


def test_readme_is_one_page() -> None:
    assert README.count("\n") < MOST_LINES


def test_pictures_stay_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / PICTURES).glob("*.png")) < 1_200_000


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing
