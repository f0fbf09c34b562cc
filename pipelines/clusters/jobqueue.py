"""Workers that are jobs of a batch system, one process of one thread each: SLURM, PBS, LSF and SGE."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar

import distributed
from pydantic import Field

from pipelines.refusal import RefusedError
from pipelines.store.addresses import is_remote, name_of
from pipelines.tasks.amounts import Seconds, clock_text
from pipelines.tasks.encryption import AUTHORITY, CERTIFICATE, KEY, make_certificates
from pipelines.tasks.hired import Hired, Lines, Refusable
from pipelines.tasks.workers import CLUSTERS, HERE, QUIET, Wanted, Workers, scheduler_options, steady_settings

MARGIN_SECONDS = 300.0
"""Time before its walltime at which a worker has ended by itself, at most; of a short walltime it is a tenth."""

LIST_SECONDS = 60.0
"""Time in which a batch system has to list jobs."""

LOGS = "workers"
"""Folder of the logs of jobs, in that of the run."""


class JobQueue(Hired):
    """Jobs of a batch system, by dask-jobqueue; its configuration says what is not said here."""

    library = "dask_jobqueue"
    extra = "jobqueue"
    class_name: ClassVar[str] = ""
    """Name of the class of dask-jobqueue."""
    submits_by: ClassVar[str] = ""
    """Command by which jobs are submitted."""
    lists_by: ClassVar[str] = ""
    """Command that prints the numbers of the user's jobs that wait or run, each at the begin of a line."""
    account_key: ClassVar[str] = "account"
    """What dask-jobqueue calls the account."""

    tls: str | None = Field(
        default=None,
        min_length=1,
        description=f"Folder with {AUTHORITY}, {CERTIFICATE} and {KEY}, by which client, scheduler and workers know "
        "each other; by default certificates that last as long as the run.",
    )
    walltime: Seconds = Field(
        default=3600.0,
        description="Longest time of a job, such as 4h or 04:00:00; an hour by default. Workers end in order before "
        "it, and other jobs take their places.",
    )
    queue: str | None = Field(default=None, min_length=1, description="Queue (partition) of the jobs.")
    account: str | None = Field(
        default=None, min_length=1, description="Account or project that the time is charged to."
    )
    environment: Lines = Field(
        default=(), description="Lines of shell that prepare a job, such as 'module load python'."
    )
    python: str | None = Field(
        default=None,
        min_length=1,
        description="Python with this package on the nodes; that of this command by default.",
    )
    directives: Lines = Field(default=(), description="Further directives of a job, such as '--qos=long'.")
    without: Lines = Field(
        default=(),
        description="Directives to leave out, by a part of them, such as '--mem' where there is none.",
    )

    def require(self) -> None:
        """Refuse where the library, the certificates or the commands of the batch system are missing."""
        super().require()
        if shutil.which(self.submits_by) is None:
            raise RefusedError(
                f"The cluster {self.kind!r} submits jobs by the command {self.submits_by}, which is not there. Run on "
                "a machine that can submit jobs, or use another cluster."
            )

    def job_options(self, wanted: Wanted) -> dict[str, Any]:
        """Return what dask-jobqueue is told of a job; what is None its configuration says."""
        margin = min(MARGIN_SECONDS, self.walltime / 10)
        # Dask's worker would pause or spill by itself near a limit; the plan bounds memory, and the batch system ends
        # what goes beyond it.
        words = ["--memory-limit", "0", "--no-dashboard", "--dashboard-address", f"{HERE}:0"]
        words += [
            "--lifetime",
            f"{self.walltime - 1.5 * margin:.0f}s",
            "--lifetime-stagger",
            f"{margin / 2:.0f}s",
        ]
        return {
            "cores": 1,
            "processes": 1,
            "memory": f"{self.memory_of(wanted)}B",
            "nanny": False,
            "walltime": clock_text(self.walltime),
            "queue": self.queue,
            self.account_key: self.account,
            "interface": self.interface,
            # The batch system's signals reach the worker itself: one whose scheduler is gone may hear SIGKILL alone.
            "python": f"exec {shlex.quote(self.python or sys.executable)}",
            "job_name": "diffuse",
            "job_script_prologue": [*_exports(steady_settings(wanted.dashboard)), *self.environment],
            "job_extra_directives": list(self.directives),
            "job_directives_skip": list(self.without),
            "log_directory": str(_logs(wanted)),
            "worker_extra_args": words,
        }

    @contextlib.contextmanager
    def connect(self, wanted: Wanted) -> Iterator[Workers]:
        """Submit jobs for the time of the context; those that wait or run then are cancelled."""
        logs = _logs(wanted)
        fresh = not logs.exists()
        logs.mkdir(parents=True, exist_ok=True)
        awaited = f"Its jobs wait in the queue ({self.lists_by}), or have failed: see the logs in {logs}."
        try:
            with (
                # Keys that last as long as the run lie where only its user can read them.
                tempfile.TemporaryDirectory(prefix="keys-", dir=logs) as keys,
                self.hire(lambda: self._start(wanted, keys), wanted, awaited, self._alive) as workers,
            ):
                fresh = False
                yield workers
        finally:
            if fresh:
                shutil.rmtree(logs, ignore_errors=True)

    def _start(self, wanted: Wanted, keys: str) -> distributed.SpecCluster:
        """Start a scheduler in this process that can submit jobs."""
        import dask_jobqueue

        kind = getattr(dask_jobqueue, self.class_name)
        security = self.security()
        if not security.require_encryption:
            make_certificates(Path(keys))
            security = self.model_copy(update={"tls": keys}).security()
        cluster: distributed.SpecCluster = kind(
            job_cls=type(kind.job_cls.__name__, (Refusable, kind.job_cls), {}),
            **self.job_options(wanted),
            security=security,
            scheduler_options=scheduler_options(wanted.dashboard),
            silence_logs=QUIET,
        )
        return cluster

    def _alive(self) -> Collection[str] | None:
        """Return the numbers of the user's jobs that wait or run, None where the batch system does not say."""
        try:
            listed = subprocess.run(
                shlex.split(self.lists_by), capture_output=True, text=True, check=True, timeout=LIST_SECONDS
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return set(re.findall(r"^\s*(\d+)", listed.stdout, re.MULTILINE))


def _logs(wanted: Wanted) -> Path:
    # Jobs write them on a disk, so those of a run in a store lie here.
    folder = name_of(wanted.folder) if is_remote(wanted.folder) else wanted.folder
    return Path(folder).absolute() / LOGS


def _exports(settings: dict[str, Any]) -> Iterator[str]:
    """Yield lines of shell that hand settings of Dask on to a job."""
    for key, value in settings.items():
        name = key.replace(".", "__").replace("-", "_").upper()
        yield f"export DASK_{name}={shlex.quote(str(value))}"


@CLUSTERS.register("slurm")
class Slurm(JobQueue):
    """Jobs of SLURM."""

    about = "jobs of SLURM, one worker each"
    class_name = "SLURMCluster"
    submits_by = "sbatch"
    lists_by = "squeue --me --noheader --format=%i"


@CLUSTERS.register("pbs")
class Pbs(JobQueue):
    """Jobs of PBS or Torque."""

    about = "jobs of PBS, one worker each"
    class_name = "PBSCluster"
    submits_by = "qsub"
    lists_by = "qselect"


@CLUSTERS.register("lsf")
class Lsf(JobQueue):
    """Jobs of LSF."""

    about = "jobs of LSF, one worker each"
    class_name = "LSFCluster"
    submits_by = "bsub"
    lists_by = "bjobs -noheader -o jobid"
    account_key = "project"

    def job_options(self, wanted: Wanted) -> dict[str, Any]:
        """Return the options with a time in hours and minutes alone, as LSF reads it."""
        options = super().job_options(wanted)
        return {**options, "walltime": options["walltime"].rpartition(":")[0]}


@CLUSTERS.register("sge")
class Sge(JobQueue):
    """Jobs of the Grid Engine."""

    about = "jobs of the Grid Engine (SGE), one worker each"
    class_name = "SGECluster"
    submits_by = "qsub"
    lists_by = "qstat"
    account_key = "project"
