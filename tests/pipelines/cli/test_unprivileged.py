"""The command without rights: as a random user on a read-only installation, and where rights are lost meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pipelines
from tests.pipelines.small_disks import small_disk

USER = 12345
CODE = Path(pipelines.__file__).parents[1]

SPEC = """\
source: {uri: image.npy}
steps: [{operator: heat, time: 40, schedule: explicit}]
sink: {uri: out.zarr, chunk: 64, pyramid: none}
run: {threads: 1, tile: 64, batch: 10}
"""


def as_user() -> list[str]:
    """Return words before a command that runs it as a user without a name, who may read all and write little."""
    tool = shutil.which("setpriv")
    if tool is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("another user's command needs root and setpriv")
    # The interpreter may lie in a folder of root's.
    rights = "-all,+dac_read_search"
    words = [tool, f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    words += [f"--{kind}={rights}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("rights cannot be taken away here")
    return words


@pytest.fixture
def folder(tmp_path):
    """A folder of that user's, with an image and a spec."""
    folder = tmp_path / "job"
    folder.mkdir()
    np.save(folder / "image.npy", np.random.default_rng(5).integers(0, 255, (300, 300), np.uint8))
    (folder / "spec.yaml").write_text(SPEC)
    os.chown(folder, USER, USER) if hasattr(os, "chown") and os.geteuid() == 0 else None
    return folder


@pytest.fixture
def installed(tmp_path):
    """A copy of the packages that nobody may write."""
    place = tmp_path / "installed"
    for package in ("diffusion_ops", "pipelines"):
        shutil.copytree(CODE / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [place, *place.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield place
    for path in [place, *place.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def command(*words: str) -> list[str]:
    return [sys.executable, "-B", "-m", "pipelines.cli.command", *words]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words", [("list", "operators"), pytest.param(("run", "spec.yaml"), marks=pytest.mark.slow)]
)
def test_a_random_user_without_a_home_runs_a_read_only_installation(folder, installed, words):
    # Neither the home nor the folders for temporary files can be written: only that of the job.
    nowhere = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nonexistent']"
    (folder / "sitecustomize.py").write_text(nowhere)
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": f"{installed}:{folder}"}
    env |= {"XDG_CACHE_HOME": "/nonexistent"}
    done = subprocess.run(
        [*as_user(), *command(*words)], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert words[0] != "run" or (folder / "out.zarr" / "zarr.json").exists()


@pytest.mark.slow
def test_permission_lost_meanwhile_is_exit_code_3_and_the_run_goes_on(folder):
    words = [*as_user(), *command("run", "spec.yaml", "--json")]
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "tile_done":
            break
    give(folder, 0)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, out + err
    assert "Traceback" not in err
    assert "ermission" in out + err
    give(folder, USER)
    again = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[0])["done"] > 0


def give(folder: Path, user: int) -> None:
    """Give a folder and all in it to a user, and take it from everybody else."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user, user)


def test_permission_that_is_missing_from_the_start_is_a_refusal(folder):
    os.chown(folder, 0, 0)
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    done = subprocess.run(
        [*as_user(), *command("run", "spec.yaml")],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["image.npy", "spec.yaml"]


@pytest.mark.slow
def test_files_used_up_are_said_and_the_run_goes_on(tmp_path):
    with small_disk(tmp_path / "disk", "size=64m,nr_inodes=40") as change:
        np.save(tmp_path / "image.npy", np.zeros((300, 300), np.uint8))
        (tmp_path / "spec.yaml").write_text(SPEC.replace("out.zarr", "disk/out.zarr"))
        environment = {**os.environ, "PYTHONPATH": str(CODE)}
        words = command("run", "spec.yaml")
        full = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert full.returncode == 3, full.stdout + full.stderr
        assert "No space is left" in full.stdout or "disk is full" in full.stderr
        assert "Traceback" not in full.stderr
        change("nr_inodes=10000")
        again = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stderr
