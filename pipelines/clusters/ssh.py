"""Workers on other machines that are logged in on by SSH, one process of one thread each."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import distributed
from distributed.deploy.ssh import Worker
from pydantic import Field

from pipelines.tasks.encryption import AUTHORITY, CERTIFICATE, KEY
from pipelines.tasks.hired import Hired, Lines, Refusable
from pipelines.tasks.workers import CLUSTERS, QUIET, Wanted, Workers, scheduler_options


@CLUSTERS.register("ssh")
class Ssh(Hired):
    """Processes on hosts that this user can log in on without a password; the scheduler is in this process."""

    about = "processes on other machines, by SSH"
    library = "asyncssh"
    extra = "ssh"
    paths: ClassVar[tuple[str, ...]] = (*Hired.paths, "key", "known_hosts")

    hosts: Lines = Field(min_length=1, description="Names of the machines; workers are spread over them.")
    tls: str | None = Field(
        default=None,
        min_length=1,
        description=f"Folder with {AUTHORITY}, {CERTIFICATE} and {KEY}, which lies under the same name on all "
        "machines; without it what they say is not encrypted.",
    )
    user: str | None = Field(
        default=None, min_length=1, description="Name to log in by; this user's by default."
    )
    port: int = Field(default=22, gt=0, lt=1 << 16, description="Port of SSH.")
    key: str | None = Field(
        default=None,
        min_length=1,
        description="File of the private key; the usual ones, and the agent's, by default.",
    )
    known_hosts: str | None = Field(
        default=None,
        min_length=1,
        description="File with the keys of the hosts; ~/.ssh/known_hosts by default. A host that is not in it is "
        "refused.",
    )
    python: str | None = Field(
        default=None,
        min_length=1,
        description="Python with this package there; that of this command by default.",
    )
    environment: Mapping[str, str] = Field(
        default_factory=dict,
        description="Variables of the workers, such as {NUMBA_CACHE_DIR: /scratch/kernels}.",
    )

    def connect(self, wanted: Wanted) -> contextlib.AbstractContextManager[Workers]:
        """Start workers for the time of the context."""
        awaited = f"Look whether {', '.join(self.hosts)} can reach it."
        return self.hire(lambda: self._start(wanted), wanted, awaited)

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Return settings of Dask, which workers are started with: they say where certificates lie, too."""
        return {**super().settings(wanted), **self.tls_settings()}

    def _start(self, wanted: Wanted) -> distributed.SpecCluster:
        """Start a scheduler in this process that can log in on the hosts."""
        where = {"interface": self.interface} if self.interface else {}
        common = {**where, "protocol": "tls://" if self.security().require_encryption else "tcp://"}
        options = {**common, **scheduler_options(wanted.dashboard), "port": 0, "security": self.security()}
        worker = {
            "connect_options": self._login(),
            "kwargs": {
                **common,
                **scheduler_options(False),
                "nthreads": 1,
                "memory_limit": 0,
                "death_timeout": 60,
            },
            "worker_class": "distributed.Worker",
            "remote_python": self._python(),
        }
        make: Callable[..., _Hosts] = _Hosts
        cluster = make(
            scheduler={"cls": distributed.Scheduler, "options": options},
            worker={"cls": _Process, "options": worker},
            security=self.security(),
            silence_logs=QUIET,
        )
        cluster.hosts = itertools.cycle(self.hosts)
        return cluster

    def _login(self) -> dict[str, Any]:
        said = {
            "username": self.user,
            "client_keys": self.key and [self.key],
            "known_hosts": self.known_hosts,
        }
        return {"port": self.port, "connect_timeout": 20, **{k: v for k, v in said.items() if v is not None}}

    def _python(self) -> str:
        """Return the words that start Python there."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return shlex.join([*(["env", *variables] if variables else []), self.python or sys.executable])


class _Process(Refusable, Worker):
    """A worker that may not be started."""


class _Hosts(distributed.SpecCluster):
    """A cluster whose workers are spread over hosts."""

    hosts: Iterator[str] = iter(())

    def new_worker_spec(self) -> dict[Any, Any]:
        """Return a further worker, on the next host."""
        add: Callable[[], dict[Any, Any]] = super().new_worker_spec
        return {
            name: {**one, "options": {**one["options"], "address": next(self.hosts)}}
            for name, one in add().items()
        }
