"""Define the interface of clusters, and start workers on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import dask
import distributed
from distributed.utils import format_dashboard_link
from pydantic import BaseModel, ConfigDict

from diffusion_ops.registry import Registry
from pipelines.refusal import RefusedError

HERE = "127.0.0.1"

DASHBOARD_BYTES = 64 << 20
"""Resident memory of a dashboard in the driver: 17 MiB were measured at its start, 28 MiB with six pages open."""


class ClusterError(RefusedError):
    """A scheduler that does not answer, or no worker that may have tasks; the message says what to do."""


@dataclass(frozen=True)
class Wanted:
    """What a run wants of a cluster.

    Attributes
    ----------
    tasks : int
        Number of tasks at a time.
    worker_bytes : int
        Memory of a process that does one task at a time.
    dashboard : bool
        True where the run is to serve pages that show what workers do.
    folder : str
        Folder of the run.
    """

    tasks: int
    worker_bytes: int
    dashboard: bool
    folder: str


@dataclass(frozen=True)
class Workers:
    """Workers that are there, or will be.

    Attributes
    ----------
    client : distributed.Client
        Hands them tasks.
    dashboard : str
        Address of the pages that show what they do, "" without any.
    patience : float
        Seconds to wait at least while there is no worker: those of a batch system may come in hours.
    awaited : str
        What to do where there is no worker, "" for a scheduler that others look after.
    hopeless : callable
        Returns why no worker will come, "" where one may.
    """

    client: distributed.Client
    dashboard: str
    patience: float = 0.0
    awaited: str = ""
    hopeless: Callable[[], str] = str


class Cluster(BaseModel, ABC):
    """A place where tasks run, one thread per task; the fields of a kind are what a user may say of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: ClassVar[str] = ""
    """One line for `diffuse list clusters`."""
    in_process: ClassVar[bool] = False
    """Whether tasks run in the driver's own process."""
    here: ClassVar[bool] = False
    """Whether its workers run on this machine, and so see its disks."""
    shared: ClassVar[bool] = False
    """Whether its workers may take more tasks at a time than the run asked for, as it does not start them."""
    dashboard_bytes: ClassVar[int] = 0
    """Memory of the run that a dashboard takes where it is asked for; 0 where it is not the run that serves it."""
    library: ClassVar[str] = ""
    """Module that it needs beside the base, "" for none."""
    extra: ClassVar[str] = ""
    """Extra of this package that brings the library."""
    paths: ClassVar[tuple[str, ...]] = ()
    """Options that are paths; relative ones start at the folder of the spec."""

    @classmethod
    def meant_by(cls, text: str) -> dict[str, Any] | None:
        """Return the options that a text stands for which is no name, such as an address; None for other texts."""
        return None

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return next(name for name, kind in CLUSTERS.items() if kind is type(self))

    @property
    def most_tasks(self) -> int | None:
        """Number of tasks at a time that the options say, None where the run says it (run.threads)."""
        return None

    @property
    def worker_bytes(self) -> int | None:
        """Memory of a worker that the options say, None where it follows from the plan."""
        return None

    def __str__(self) -> str:
        """Return how it is called in messages: its name, or what it was meant by."""
        return self.kind

    def require(self) -> None:
        """Refuse what cannot work, before anything is written: a library that is missing.

        Raises
        ------
        RefusedError
        """
        if self.library and importlib.util.find_spec(self.library) is None:
            raise RefusedError(
                f"The cluster {self.kind!r} needs {self.library}, which is not installed. Install the extra "
                f"{self.extra!r}: pip install 'diffuse[{self.extra}]', or use another cluster."
            )

    @abstractmethod
    def connect(self, wanted: Wanted) -> contextlib.AbstractContextManager[Workers]:
        """Return a context with workers that take as many tasks at a time as are wanted.

        A kind that starts its own scheduler serves a dashboard where it is asked for, at an address of this machine.

        Raises
        ------
        ClusterError
            Where no scheduler answers, or no worker can be started.
        """


CLUSTERS: Registry[type[Cluster]] = Registry("cluster", "pipelines.clusters", "diffuse.clusters")


def scheduler_options(dashboard: bool) -> dict[str, Any]:
    """Return the options of a scheduler inside the driver that concern its pages.

    Every server of Dask has pages of its own, which would be open to the network unless told where to listen: on a
    port of their own here. Those of the scheduler cost memory and a second, and come only where they are asked for.
    """
    return {"dashboard": dashboard, "dashboard_address": f"{HERE}:0"}


def own_dashboard(cluster: distributed.SpecCluster, dashboard: bool) -> str:
    """Return the address of the dashboard of a scheduler inside the driver, "" where none was asked for."""
    # Dask's own link names the machine by an address that the pages do not listen at.
    port = cluster.scheduler_info["services"]["dashboard"] if dashboard else None
    return format_dashboard_link(HERE, port) if dashboard else ""


def steady_settings(dashboard: bool) -> dict[str, Any]:
    """Return settings of Dask with which a scheduler and its workers look less often at themselves."""
    return {
        # It looks at all threads a hundred times a second, for pages of the dashboard: 3 % of a core.
        "distributed.worker.profile.enabled": dashboard,
        # What it measures of itself takes 2.6 % of a core; this seldom, 0.4 %.
        "distributed.admin.tick.interval": "5s",
        "distributed.admin.system-monitor.interval": "500ms" if dashboard else "5s",
    }


QUIET = logging.CRITICAL
"""What a task that fails has to say is told through events, with its tile and what is left to try."""


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep Dask from printing a traceback for a lost connection, of which the run says what it means."""
    # Each logger has a level of its own from Dask's configuration, or takes that of the first.
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(QUIET)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def own_workers(workers: int, threads: int, processes: bool, dashboard: bool) -> Iterator[Workers]:
    """Give workers on this machine, started for the time of the context; nothing outside of it can reach them."""
    host = {"host": HERE, "protocol": "tcp://"} if processes else {"protocol": "inproc://"}
    worker = {
        "cls": distributed.Nanny if processes else distributed.Worker,
        # The plan bounds memory; a worker that paused or spilled by itself would only be in its way.
        "options": {**host, **scheduler_options(False), "nthreads": threads, "memory_limit": 0}
        | ({"silence_logs": QUIET} if processes else {}),
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {**host, **scheduler_options(dashboard), "port": 0},
    }
    with (
        dask.config.set(
            {
                # Dask ends the nanny of a worker that has not come back in 15 s. On a machine under load that is too
                # short to start Python, and no worker would ever come back.
                "distributed.deploy.lost-worker-timeout": "1h",
                # A process that was stopped for five minutes, such as by a laptop that was shut, has its worker still.
                **({} if processes else {"distributed.scheduler.worker-ttl": None}),
                **steady_settings(dashboard),
            }
        ),
        distributed.SpecCluster(
            dict.fromkeys(range(workers), worker), scheduler, silence_logs=QUIET
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield Workers(client, own_dashboard(cluster, dashboard))


def check_cluster(cluster: Cluster, dashboard: bool) -> None:
    """Refuse a cluster, or a dashboard, without its library.

    Raises
    ------
    RefusedError
    """
    cluster.require()
    if cluster.dashboard_bytes and dashboard and importlib.util.find_spec("bokeh") is None:
        raise RefusedError(
            "The dashboard needs bokeh, which is not installed. Install the extra 'dashboard': "
            "pip install 'diffuse[dashboard]', or run without --dashboard (run.dashboard in a spec)."
        )
