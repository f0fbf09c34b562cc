"""Workers that are jobs: on a real SLURM the bytes are those of threads, whatever happens to the jobs."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import diffusion_ops as do
from pipelines.cli.command import app
from pipelines.events import Event, TileDone
from pipelines.run.run import run
from pipelines.spec.cluster import read_cluster
from pipelines.spec.spec import Spec
from pipelines.tasks import hired
from pipelines.tasks.workers import Wanted
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec
from tests.pipelines.slurm import Slurm, until
from tests.plugin_examples import ROOT

pytest.importorskip("dask_jobqueue", reason="the extra jobqueue is not installed")

HERE = {"kind": "slurm", "workers": 2, "interface": "lo"}
"""Options for the SLURM of the tests."""


@pytest.fixture
def system(slurm_here: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """Return a SLURM that this process submits jobs to."""
    monkeypatch.setenv("SLURM_CONF", slurm_here.environment["SLURM_CONF"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(hired, "LOOK_SECONDS", 1.0)
    yield slurm_here
    slurm_here.cancel_all()


def expected(steps: int = 9) -> bytes:
    operator = do.PeronaMalik(contrast=5000, conductance="rational")
    return do.evolve(ragged_image(), operator, steps=steps).tobytes()


def spec_in(folder: Path, steps: int = 9, batch: int = 4, **options: Any) -> Spec:
    step = {"operator": "perona-malik", "contrast": 5000, "conductance": "rational", "steps": steps}
    how = {"cluster": {**HERE, **options}, "batch": batch}
    return small_spec(save_source(folder, ragged_image()), folder / "out.zarr", steps=[step], run=how)


def logs_in(folder: Path) -> str:
    return "\n".join(path.read_text() for path in (folder / "out.zarr.run" / "workers").glob("*.err"))


class At:
    """Do something once so many tiles are done, in a thread of its own."""

    def __init__(self, tiles: int, act: Any) -> None:
        self.left, self.act = tiles, act

    def __call__(self, event: Event) -> None:
        if isinstance(event, TileDone):
            self.left -= 1
            if not self.left:
                threading.Thread(target=self.act).start()


def test_jobs_give_the_bytes_of_threads(tmp_path, system):
    report = run(spec_in(tmp_path, queue="debug")).data
    assert (report["complete"], report["retries"]) == (True, 0)
    assert read_result(tmp_path / "out.zarr").tobytes() == expected()
    assert "Start worker at:" in logs_in(tmp_path)
    assert "tcp://" not in logs_in(tmp_path)
    assert not list((tmp_path / "out.zarr.run" / "workers").glob("keys-*"))
    until(lambda: not system.jobs(), "an empty queue")


@pytest.mark.thorough
def test_cancelled_jobs_are_replaced(tmp_path, system):
    cancel = At(10, lambda: system.says("scancel", *system.jobs("RUNNING")))
    report = run(spec_in(tmp_path, batch=1), listeners=[cancel])
    assert report.exit_code == 0
    assert len(logs_in(tmp_path).split("Start worker at:")) >= 4
    assert read_result(tmp_path / "out.zarr").tobytes() == expected()


@pytest.mark.thorough
def test_their_number_follows_the_work(tmp_path, system):
    assert run(spec_in(tmp_path, minimum=1)).exit_code == 0
    assert read_result(tmp_path / "out.zarr").tobytes() == expected()


@pytest.mark.thorough
def test_jobs_that_end_before_they_are_workers_end_the_run(tmp_path, system):
    """Nothing would be said for a week, as jobs may wait for days."""
    (tmp_path / "out").mkdir()
    spec = spec_in(tmp_path / "out", environment="exit 1")
    with pytest.raises(ValueError, match=r"6 workers have ended before any could work\. Look at their logs"):
        run(spec)


@pytest.mark.slow
def test_workers_whose_time_is_over_are_replaced(tmp_path, system):
    """SLURM knows no walltime below a minute."""
    began = time.monotonic()
    report = run(spec_in(tmp_path, steps=80, batch=1, walltime="1 min"))
    assert time.monotonic() - began > 60
    assert (report.exit_code, report.data["retries"]) == (0, 0)
    assert "worker-lifetime-reached" in logs_in(tmp_path)
    assert read_result(tmp_path / "out.zarr").tobytes() == expected(80)


SPEC = """
source: {uri: source.npy}
steps: [{operator: perona-malik, contrast: 5000, conductance: rational, steps: 9}]
sink: {uri: out.zarr, chunk: 64}
run: {tile: 64, batch: 4, cluster: {kind: slurm, workers: 2, interface: lo}}
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["queue=nowhere"], "invalid partition specified"),
        (["interface=nowhere0"], "nowhere0"),
        (["memory=200MiB"], "A worker of the cluster has 209,715,200 bytes"),
        (["minimum=3"], "the minimum is 3, more than the workers, which are 2."),
        (["walltime=long"], "walltime: 'long' is not a time. Allowed: 90 min,"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(tmp_path, system, options, message):
    save_source(tmp_path, ragged_image())
    (tmp_path / "out.yaml").write_text(SPEC, encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    words = [word for option in options for word in ("-c", option)]
    done = CliRunner().invoke(app, ["run", str(tmp_path / "out.yaml"), *words])
    assert (done.exit_code, message in " ".join(done.stderr.split())) == (2, True), done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [[], ["--cluster", "slurm", "-c", "workers=2", "-c", "interface=lo"]])
def test_a_run_inside_a_job_goes_on_in_the_next_one(tmp_path, system, cluster):
    """SLURM lets two minutes pass before a job that goes back into the queue begins anew."""
    save_source(tmp_path, ragged_image())
    spec = tmp_path / "out.yaml"
    alone = SPEC.replace(", cluster: {kind: slurm, workers: 2, interface: lo}", "")
    spec.write_text(alone.replace("batch: 4", "batch: 4, walltime: 1s"))
    command = tmp_path / "bin" / "diffuse"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipelines.cli.command "$@"\n')
    command.chmod(0o755)
    path = f"PATH={command.parent}{os.pathsep}{os.environ['PATH']}"
    log = tmp_path / "out.log"
    options = [f"--chdir={tmp_path}", f"--output={log}", "--cpus-per-task=2", f"--export=ALL,{path}"]
    system.says("sbatch", *options, str(ROOT / "deploy" / "slurm.sh"), "out.yaml", *cluster)
    until(
        lambda: log.exists() and "as long as it may (run.walltime)" in log.read_text(), "the end of its time"
    )
    spec.write_text(alone)
    until(lambda: not system.jobs(), "the end of all jobs", patience=400)
    report = json.loads((tmp_path / "out.zarr.run" / "report.json").read_text())
    assert report["complete"], log.read_text()[-3000:]
    assert read_result(tmp_path / "out.zarr").tobytes() == expected()


SCRIPTS = {
    "slurm": ["#SBATCH -p long", "#SBATCH -A project", "#SBATCH --mem=364M", "#SBATCH -t 01:30:00"],
    "pbs": ["#PBS -q long", "#PBS -A project", "#PBS -l select=1:ncpus=1:mem=364MB", "walltime=01:30:00"],
    "lsf": ["#BSUB -q long", '#BSUB -P "project"', "#BSUB -n 1", "#BSUB -M 381682", "#BSUB -W 01:30"],
    "sge": ["#$ -q long", "#$ -P project", "#$ -l h_rt=01:30:00"],
}
"""Lines of the scripts of jobs."""


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_script_of_a_job_says_what_was_asked_for(tmp_path, kind):
    options = {
        "queue": "long",
        "account": "project",
        "walltime": "90 min",
        "interface": "lo",
        "environment": "module load python",
        "directives": ["--of-ours=1"],
    }
    cluster = read_cluster({"kind": kind, **options})
    library = importlib.import_module("dask_jobqueue")
    job = getattr(library, cluster.class_name).job_cls
    wanted = Wanted(2, 300 << 20, False, str(tmp_path))
    script = job("tls://host:1", name="worker", **cluster.job_options(wanted)).job_script()
    for line in SCRIPTS[kind]:
        assert line in script
    assert "\nmodule load python\n" in script
    assert "--of-ours=1" in script
    assert "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False\n" in script
    # An hour and a half less 5 minutes at least.
    assert f"\nexec {sys.executable} -m distributed.cli.dask_worker tls://host:1" in script
    assert "--nthreads 1" in script
    assert "--no-nanny" in script
    assert "--lifetime 4950s --lifetime-stagger 150s" in script
    assert script.index("--memory-limit 0") > script.index("--memory-limit 3")
    assert "--interface lo" in script


def test_a_batch_system_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="by the command bsub, which is not there"):
        read_cluster("lsf").require()
