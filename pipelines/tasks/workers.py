"""Define the interface of clusters, and prepare workers before their first task."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import distributed
from distributed.utils import format_dashboard_link

from diffusion_ops.registry import Registry
from pipelines.refusal import RefusedError, refusing
from pipelines.store.addresses import is_address
from pipelines.tasks.process import prepare_process

HERE = "127.0.0.1"

DASHBOARD_BYTES = 64 << 20
"""Resident memory of a dashboard in the driver: 17 MiB were measured at its start, 28 MiB with six pages open."""


@dataclass(frozen=True)
class Workers:
    """Workers that are there.

    Attributes
    ----------
    client : distributed.Client
        Hands them tasks.
    dashboard : str
        Address of the pages that show what they do, "" without any.
    """

    client: distributed.Client
    dashboard: str


class Cluster(ABC):
    """A place where tasks run, one thread per task."""

    about: ClassVar[str] = ""
    """One line for `diffuse list clusters`."""
    in_process: ClassVar[bool] = False
    """Whether tasks run in the driver's own process."""
    dashboard_bytes: ClassVar[int] = 0
    """Memory of the run that a dashboard takes where it is asked for; 0 where it is not the run that serves it."""

    @classmethod
    @abstractmethod
    def connect(
        cls, address: str, threads: int, dashboard: bool
    ) -> contextlib.AbstractContextManager[Workers]:
        """Return a context with workers that take `threads` tasks at a time.

        A kind that starts its own scheduler serves a dashboard where it is asked for, at an address of this machine.
        """


CLUSTERS: Registry[type[Cluster]] = Registry("cluster", "pipelines.clusters", "diffuse.clusters")


@contextlib.contextmanager
def own_workers(workers: int, threads: int, processes: bool, dashboard: bool) -> Iterator[Workers]:
    """Give workers on this machine, started for the time of the context."""
    with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=processes,
            # The plan bounds memory; a worker that paused or spilled by itself would only be in its way.
            memory_limit=0,
            # A port of its own; pages only where they are asked for, as they cost memory and a second.
            dashboard_address=f"{HERE}:0",
            scheduler_kwargs={"dashboard": dashboard},
            # A task that fails is told through events, with its tile and what is left to try.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        # Dask's own link names the machine by an address that the pages do not listen at.
        port = cluster.scheduler_info["services"]["dashboard"] if dashboard else None
        yield Workers(client, format_dashboard_link(HERE, port) if dashboard else "")


class PrepareWorker(distributed.WorkerPlugin):
    """Set allocator and codecs in every worker process, also in one that replaces a lost one."""

    name = "diffuse-prepare"

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def setup(self, worker: distributed.Worker) -> None:
        """Prepare the process."""
        prepare_process(max(self.threads, worker.state.nthreads))
        # What is imported stays: looking through it for garbage stopped all threads for 0.15 s now and then.
        gc.freeze()


@refusing()
def cluster_kind(name: str) -> type[Cluster]:
    """Return the kind of cluster that a name or the address of a scheduler means.

    Raises
    ------
    UnknownNameError
        For a name that is neither.
    """
    return CLUSTERS["address"] if is_address(name) else CLUSTERS[name]


def check_cluster(name: str, dashboard: bool) -> None:
    """Refuse a cluster that there is not, and a dashboard without its library.

    Raises
    ------
    UnknownNameError
        For a name that is neither a kind of cluster nor an address.
    ValueError
        Where a dashboard is asked for and bokeh is not installed.
    """
    if cluster_kind(name).dashboard_bytes and dashboard and importlib.util.find_spec("bokeh") is None:
        raise RefusedError(
            "The dashboard needs bokeh, which is not installed. Install the extra 'dashboard': "
            "pip install 'diffuse[dashboard]', or run without --dashboard (run.dashboard in a spec)."
        )


@contextlib.contextmanager
def connect(name: str, threads: int, dashboard: bool = False) -> Iterator[Workers]:
    """Give the workers of a named kind of cluster, or those of the scheduler at an address.

    Raises
    ------
    UnknownNameError
        For a name that is neither.
    """
    kind = cluster_kind(name)
    with kind.connect(name, threads, dashboard) as workers:
        workers.client.register_plugin(PrepareWorker(threads if kind.in_process else 1))
        yield workers
