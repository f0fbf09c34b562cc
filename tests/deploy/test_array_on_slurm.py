"""The recipe for arrays on a real SLURM."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.commands import DEPLOY
from tests.deploy.test_schedules import require_results, scans
from tests.pipelines.slurm import slurm, until

__all__ = ["scans"]


@pytest.mark.thorough
def test_an_array_does_one_source_per_task(scans: Path) -> None:
    (scans / "scans.txt").write_text("in/monday.tif\nin/tuesday.tif\n")
    with slurm() as system:
        place = {**system.environment, "PATH": f"{scans / 'bin'}:{os.environ['PATH']}"}
        words = ["sbatch", "--array=1-2", "--cpus-per-task=1", "--mem=1G", "--export=ALL"]
        words += [str(DEPLOY / "schedules" / "array.slurm"), "scans.yaml", "scans.txt"]
        subprocess.run(words, cwd=scans, env=place, check=True, timeout=60)
        until(lambda: not system.jobs(), "the end of the array", patience=180)
    logs = [path.read_text() for path in scans.glob("diffuse-*.log")]
    assert ["1 done" in log for log in logs] == [True, True], logs
    require_results(scans, "monday", "tuesday")
