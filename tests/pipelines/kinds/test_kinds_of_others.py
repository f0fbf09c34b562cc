"""Kinds of work from outside: one file each goes through plan, run, kill, resume, report and verify.

Nothing of the engine knows them. They stand for what is to come: fronts, which visit tiles until nothing changes, and
steady states, which go through several levels in cycles until a residual.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.fft import dctn, idctn

from tests.pipelines.runs import read_result
from tests.plugin_examples import SEVERAL

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _posix_only() -> None:
    if sys.platform == "win32":
        pytest.skip("a process is ended by SIGKILL")


def diffuse(kind: str, *commands: str) -> list[str]:
    """Return the command of a process that knows one of the kinds, and carries out some commands of `diffuse`."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.pipelines.kinds.{kind}\n{SEVERAL}"
    return [sys.executable, "-c", code, json.dumps([command.split() for command in commands])]


def outcomes(kind: str, folder: Path, *commands: str) -> list[dict[str, Any]]:
    """Return what each command prints as JSON, of events the last one; all must end well."""
    done = subprocess.run(diffuse(kind, *commands), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    parts = zip(commands, done.stdout.split("\f")[:-1], strict=True)
    whole = ("plan", "status")
    return [json.loads(t if c.startswith(whole) else t.strip().splitlines()[-1]) for c, t in parts]


def killed(kind: str, folder: Path, spec: str, lines: int) -> int:
    """Start a run, kill it when its journal has so many lines, and return how many it had then."""
    process = subprocess.Popen(diffuse(kind, f"run {spec} --json"), cwd=folder, stdout=subprocess.DEVNULL)
    journal = folder / "killed.zarr.run" / "journal.jsonl"
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    process.kill()
    process.wait()
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def write_spec(folder: Path, name: str, steps: str, tile: int) -> str:
    (folder / f"{name}.yaml").write_text(
        f"source: {{uri: source.npy}}\nsteps: [{steps}]\nsink: {{uri: {name}.zarr, chunk: 16}}\n"
        f"run: {{tile: {tile}, threads: 2, memory: 2GiB}}\n"
    )
    return f"{name}.yaml"


def maze(shape: tuple[int, int]) -> np.ndarray:
    """Return an image whose walls make a front wind back and forth, with one seed in a corner."""
    image = np.zeros(shape, np.float32)
    image[8::16] = np.nan
    image[8::32, -3:] = 0
    image[24::32, :3] = 0
    image[0, 0] = 5
    return image


def distances(image: np.ndarray) -> np.ndarray:
    """Return the same distances by a plain search over the whole image."""
    found = np.full(image.shape, np.inf)
    found[image >= 1] = 0
    edge = list(zip(*np.nonzero(image >= 1), strict=True))
    while edge:
        following = []
        for y, x in edge:
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < image.shape[0] and 0 <= u < image.shape[1]
                if inside and not np.isnan(image[v, u]) and found[v, u] > found[y, x] + 1:
                    found[v, u] = found[y, x] + 1
                    following.append((v, u))
        edge = following
    return np.where(np.isinf(found), np.nan, found).astype(np.float32)


@pytest.mark.thorough
def test_a_front_runs_until_nothing_changes_and_survives_being_killed(tmp_path: Path) -> None:
    image = maze((83, 70))
    np.save(tmp_path / "source.npy", image)
    step = "{operator: steps-to-seeds, threshold: 1}"
    spec = write_spec(tmp_path, "whole", step, 16)
    plan, run = outcomes("front_like", tmp_path, f"plan {spec} --json", f"run {spec} --json")
    assert [stage["title"] for stage in plan["stages"]] == ["run the front", "collect"]
    report = run["report"]
    assert report["complete"]
    assert report["fronts"][0]["visits"] > report["stages"][0]["tiles"]  # the maze leads back into tiles
    expected = distances(image)
    assert np.array_equal(read_result(tmp_path / "whole.zarr"), expected, equal_nan=True)

    spec = write_spec(tmp_path, "killed", step, 32)
    assert killed("front_like", tmp_path, spec, 9) >= 9
    commands = (f"run {spec} --json", "status killed.zarr --json", "verify killed.zarr --json")
    resumed, standing, proof = outcomes("front_like", tmp_path, *commands)
    assert resumed["report"]["complete"]
    assert np.array_equal(read_result(tmp_path / "killed.zarr"), expected, equal_nan=True)
    assert standing["complete"]
    assert proof["ok"]
    assert "runs through the whole image" in " ".join(proof["notes"])


def implicit(f: np.ndarray, a: float) -> np.ndarray:
    """Return the solution of u - a Δu = f on the whole image, from its cosine transform."""
    k = np.meshgrid(*(2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in f.shape), indexing="ij")
    return idctn(dctn(f) / (1 + a * (k[0] + k[1])))


@pytest.mark.thorough
def test_a_steady_state_goes_in_cycles_until_its_residual_and_survives_being_killed(tmp_path: Path) -> None:
    image = np.random.default_rng(3).random((75, 90)) * 100
    np.save(tmp_path / "source.npy", image)
    step = "{operator: implicit-heat, a: 6, tolerance: 1.0e-4}"
    (run,) = outcomes("steady_like", tmp_path, f"run {write_spec(tmp_path, 'whole', step, 96)} --json")
    report = run["report"]
    assert report["complete"]
    assert report["cycles"][0]["count"] > 2
    result = read_result(tmp_path / "whole.zarr")
    assert np.abs(result - implicit(image, 6.0)).max() < 1e-4

    spec = write_spec(tmp_path, "killed", step, 32)
    assert killed("steady_like", tmp_path, spec, 40) >= 40
    again, proof = outcomes("steady_like", tmp_path, f"run {spec} --json", "verify killed.zarr --json")
    assert again["report"]["complete"]
    assert again["report"]["cycles"] == report["cycles"]
    assert np.array_equal(read_result(tmp_path / "killed.zarr"), result)  # other tiles, the same bits
    assert proof["ok"]
