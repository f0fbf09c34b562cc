"""A SLURM of one node on this machine: real daemons, a real queue."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipelines.network import free_port

PATIENCE = 60.0

CPUS = 8
"""Jobs at a time; SLURM believes what it is told of the machine."""

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other_port}
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerParameters=sched_interval=1,batch_sched_delay=0
OverTimeLimit=0
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_there_is_none() -> str:
    """Return why no SLURM can be started here, "" where one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"SLURM is not installed (Debian: slurm-wlm, munge): no {', '.join(missing)}"
    return "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "SLURM's daemons need root"


@dataclass
class Slurm:
    """A SLURM that runs.

    Attributes
    ----------
    environment : dict
        Variables with which its commands, and ours, find it.
    """

    environment: dict[str, str]

    def says(self, *command: str) -> str:
        """Return what one of its commands prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """Return the numbers of the jobs that are in one of some states, or in any."""
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.says("squeue", "--noheader", "--format=%i", *chosen).split()

    def kill(self, job: str, *options: str) -> bool:
        """End a job, and return whether there was one."""
        done = subprocess.run(["scancel", *options, job], env=self.environment, capture_output=True)
        return done.returncode == 0

    def cancel_all(self) -> None:
        """End all jobs, and wait for that."""
        if jobs := self.jobs():
            self.says("scancel", *jobs)
        until(lambda: not self.jobs(), "an empty queue")


def until(true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Return when something is true."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.1)


@contextlib.contextmanager
def _daemon(log: Path, environment: dict[str, str], command: Sequence[str], **how: object) -> Iterator[None]:
    with log.open("wb") as out:
        # In a session of its own: where tests are interrupted, it hears of that from here alone.
        process = subprocess.Popen(  # type: ignore[call-overload]
            command, env=environment, stdout=out, stderr=out, start_new_session=True, **how
        )
    try:
        yield
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def _prepare_munge(folder: Path) -> Path:
    """Make the folder and the key of munge, which trusts nobody who could change them."""
    user = pwd.getpwnam("munge")
    place = folder / "munge"
    place.mkdir(mode=0o755)
    key = place / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    for path in (place, key):
        os.chown(path, user.pw_uid, user.pw_gid)
    return place


@contextlib.contextmanager
def slurm() -> Iterator[Slurm]:
    """Give a SLURM for the time of the context; the test is skipped where none can be started."""
    if reason := why_there_is_none():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as place, contextlib.ExitStack() as daemons:
        # munge is another user, which the folders of a test do not let in.
        os.chmod(place, 0o755)
        running = _start(Path(place), daemons)
        try:
            yield running
        finally:
            running.cancel_all()


def _start(folder: Path, daemons: contextlib.ExitStack) -> Slurm:
    munge = _prepare_munge(folder)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    values = {"host": host, "folder": folder, "cpus": CPUS, "memory": memory}
    text = CONFIGURATION.format(**values, port=free_port(), other_port=free_port())
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    words = [f"--{name}={munge / name}" for name in ("socket", "log-file", "pid-file", "seed-file")]
    munged = ["munged", "--foreground", *words, f"--key-file={munge / 'key'}"]
    log = folder / "munged.out"
    daemons.enter_context(_daemon(log, environment, munged, user="munge", group="munge"))
    until(lambda: (munge / "socket").exists(), "munge")
    for name in ("slurmctld", "slurmd"):
        daemons.enter_context(_daemon(folder / f"{name}.out", environment, [name, "-D"]))
    running = Slurm(environment)
    until(lambda: _is_idle(running), "an idle node")
    return running


def _is_idle(running: Slurm) -> bool:
    said = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], env=running.environment, capture_output=True, text=True
    )
    return said.stdout.strip() == "idle"
