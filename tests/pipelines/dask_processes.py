"""A scheduler and workers that are processes of their own, as on a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.plugin_examples import ROOT

PATIENCE = 90.0

HIDING = """
import sys

class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pipelines", "diffusion_ops"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hiding())
"""
"""Put into a sitecustomize.py, it makes a Python without our packages."""


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Return when something is true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"{what} did not come true"
        time.sleep(0.02)


class DaskProcesses:
    """A scheduler on this machine, and the workers that are started for it.

    Parameters
    ----------
    folder : Path
        Where their logs go.
    tls : Path, optional
        Folder of the certificates with which they speak TLS.
    settings : mapping, optional
        Settings of Dask for all of them, as variables of the environment.
    dashboard : bool
        True where they have the pages that show what they do.

    Attributes
    ----------
    address : str
    scheduler : subprocess.Popen
    """

    def __init__(
        self,
        folder: Path,
        tls: Path | None = None,
        settings: Mapping[str, str] | None = None,
        dashboard: bool = False,
    ) -> None:
        self._settings = settings or {}
        pages = "--dashboard" if dashboard else "--no-dashboard"
        self._listening = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", pages)
        self._folder, self._processes = folder, list[subprocess.Popen[bytes]]()
        self._tls = () if tls is None else tls_options(tls)
        self.address = ""
        self.start_scheduler()

    @property
    def file(self) -> Path:
        """The file in which the scheduler says where it is."""
        return self._folder / "scheduler.json"

    def start_scheduler(self) -> None:
        """Start the scheduler, at the address that it had where it has died."""
        told = self.file
        told.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or "0"
        options = (*self._listening, "--port", port, "--scheduler-file", str(told))
        self.scheduler = self._start("scheduler", *options, *self._tls)
        wait_until(lambda: told.exists() and told.read_text().endswith("}"), "a scheduler")
        self.address = str(json.loads(told.read_text())["address"])

    def worker(
        self,
        *options: str,
        path: Sequence[Path] = (ROOT,),
        nanny: bool = False,
        home: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a worker of one thread that imports from a path, and works in a home of its own where one is given."""
        own = () if nanny else ("--no-nanny",)
        how = (*self._listening, *own, *self._tls, *options)
        words = ("worker", self.address, "--nthreads", "1", *how)
        own_folders = {} if home is None else at_home(home)
        return self._start(*words, path=path, cwd=home, environment={**own_folders, **(environment or {})})

    def _start(
        self,
        *words: str,
        path: Sequence[Path] = (ROOT,),
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(map(str, path))
        environment = {**os.environ, **self._settings, "PYTHONPATH": paths, **(environment or {})}
        command = [sys.executable, "-m", "dask", *words]
        with (self._folder / f"{words[0]}-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=cwd or self._folder, env=environment, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    def end(self) -> None:
        """End all processes."""
        for process in reversed(self._processes):
            if process.poll() is None:
                # One that is stopped does not hear that it is to end.
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


def at_home(home: Path) -> dict[str, str]:
    """Make a folder, and return variables with which a process has its home and its temporary files there."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {"HOME": str(home), "TMPDIR": str(temporary)}


def tls_options(folder: Path) -> tuple[str, ...]:
    """Return the options of a scheduler or a worker that speaks TLS with the certificates of a folder."""
    files = {"ca-file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    return ("--protocol", "tls", *(f"--tls-{name}={folder / file}" for name, file in files.items()))


@contextlib.contextmanager
def dask_processes(
    folder: Path,
    tls: Path | None = None,
    settings: Mapping[str, str] | None = None,
    dashboard: bool = False,
) -> Iterator[DaskProcesses]:
    """Give a scheduler for the time of the context."""
    folder.mkdir(exist_ok=True)
    cluster = DaskProcesses(folder, tls, settings, dashboard)
    try:
        yield cluster
    finally:
        cluster.end()
