"""Type checkers and editors see operators, their parameters and the accessor's methods, as they are at run time."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import diffusion_ops as do
from tests.make_stubs import stubs

ROOT = Path(__file__).parents[1]

RIGHT = """
from typing import Any

import numpy as np
import xarray as xr

import diffusion_ops as do

pixels = np.eye(4)
image = xr.DataArray(pixels, dims=("y", "x"))
smooth: xr.DataArray = image.diffuse.perona_malik(contrast=0.05, time=4)
thin: xr.DataArray = smooth.diffuse.canny(sigma=2)
do.evolve(pixels, do.PeronaMalik(0.05, "rational", sigma=1), time=4)
do.evolve(pixels, [do.PeronaMalik("auto"), do.Heat()], time=[2, 1])
do.evolve(pixels, do.EdgeEnhancing(contrast={"quantile": 0.9}), steps=10, schedule={"cycles": 2})
do.evolve(pixels, do.TotalVariation(do.GradientQuantile(0.9)))
do.evolve(image, "heat", time="auto", channel_axis="c", spacing={"y": 1, "x": 2})
best: float | None = do.tune(pixels, do.Heat(), spacing=2.0).time
sigma: float = do.PeronaMalik(contrast=3).sigma


@do.register("decay")
class Decay(do.RateOperator):
    rate_of_decay: float = do.parameter(do.Number(unit="1 / time", above=0))

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        return 1 / self.rate_of_decay

    def rate(self, u: Any, spacing: tuple[float, ...], valid: Any) -> Any:
        return -self.rate_of_decay * u


do.evolve(pixels, Decay(rate_of_decay=0.5), time=1)
"""

WRONG = """
import numpy as np
import xarray as xr

import diffusion_ops as do

pixels = np.eye(4)
image = xr.DataArray(pixels, dims=("y", "x"))
image.diffuse.perona_malik(contrast=0.05, tiem=4)  # wrong
image.diffuse.perona_malik(contrast=0.05, time="four")  # wrong
image.diffuse.perona_malik(kontrast=0.05, time=4)  # wrong
image.diffuse.perona_malik(time=4)  # wrong
image.diffuse.perona(contrast=0.05, time=4)  # wrong
do.PeronaMalik()  # wrong
do.PeronaMalik(contrasts=1)  # wrong
do.PeronaMalik(contrast="high")  # wrong
do.PeronaMalek(contrast=1)  # wrong
do.TotalVariation(weight=1).weight = 2  # wrong
do.evolve(pixels, do.Heat, time=1)  # wrong
do.evolve(pixels, do.Heat(), time="long")  # wrong


@do.register("decay")
class Decay(do.RateOperator):
    rate_of_decay: float = do.parameter(do.Number(unit="1 / time", above=0))


Decay(rate=1)  # wrong
"""


def test_stubs_are_those_of_the_registry() -> None:
    """Where this fails, `python -m tests.make_stubs` writes them anew."""
    for path, text in stubs().items():
        assert path.read_text(encoding="utf-8") == text, path.name


@pytest.mark.parametrize("function", [do.evolve, do.tune, do.ensemble, do.combine])
def test_only_containers_may_be_anything(function: Callable[..., object]) -> None:
    anything = {p.name for p in inspect.signature(function).parameters.values() if p.annotation == "Any"}
    assert anything <= {"image", "mask", "guide"}


@pytest.mark.slow
def test_mypy_takes_what_is_right_and_reports_what_is_wrong(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "right.py").write_text(RIGHT, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text("[mypy]\nplugins = diffusion_ops.mypy_plugin\n", encoding="utf-8")
    assert pytestconfig.cache is not None
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini", "right.py", "wrong.py"]
    # What numpy and xarray are need not be found out at every run.
    command += ["--cache-dir", str(pytestconfig.cache.mkdir("mypy-of-users"))]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=_environment()
    )
    reported = re.findall(r"^(\w+)\.py:(\d+): error", done.stdout, re.MULTILINE)
    assert reported, done.stdout + done.stderr
    wanted = {i for i, line in enumerate(WRONG.split("\n"), 1) if line.endswith("# wrong")}
    assert {(name, int(line)) for name, line in reported} == {("wrong", i) for i in wanted}, done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
