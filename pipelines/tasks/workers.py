"""Define the interface of clusters, and start workers on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import dask
import distributed
from distributed.utils import format_dashboard_link

from diffusion_ops.registry import Registry
from pipelines.refusal import RefusedError, refusing
from pipelines.store.addresses import is_address

HERE = "127.0.0.1"

DASHBOARD_BYTES = 64 << 20
"""Resident memory of a dashboard in the driver: 17 MiB were measured at its start, 28 MiB with six pages open."""


class ClusterError(RefusedError):
    """A scheduler that does not answer, or no worker that may have tasks; the message says what to do."""


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
    """Give workers on this machine, started for the time of the context; nothing outside of it can reach them."""
    host = {"host": HERE, "protocol": "tcp://"} if processes else {"protocol": "inproc://"}
    # What a task that fails has to say is told through events, with its tile and what is left to try.
    quiet = logging.CRITICAL
    # Every server of Dask has pages of its own, which would be open to the network unless told where to listen: on
    # a port of their own here. Those of the scheduler cost memory and a second, and come only where they are asked for.
    pages = f"{HERE}:0"
    worker = {
        "cls": distributed.Nanny if processes else distributed.Worker,
        # The plan bounds memory; a worker that paused or spilled by itself would only be in its way.
        "options": {
            **host,
            "nthreads": threads,
            "memory_limit": 0,
            "dashboard_address": pages,
            "dashboard": False,
        }
        | ({"silence_logs": quiet} if processes else {}),
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {**host, "port": 0, "dashboard": dashboard, "dashboard_address": pages},
    }
    with (
        dask.config.set(
            {
                # Dask ends the nanny of a worker that has not come back in 15 s. On a machine under load that is too
                # short to start Python, and no worker would ever come back.
                "distributed.deploy.lost-worker-timeout": "1h",
                # It looks at all threads a hundred times a second, for pages of the dashboard: 3 % of a core.
                "distributed.worker.profile.enabled": dashboard,
                # What it measures of itself takes 2.6 % of a core; this seldom, 0.4 %.
                "distributed.admin.tick.interval": "5s",
                "distributed.admin.system-monitor.interval": "500ms" if dashboard else "5s",
            }
        ),
        distributed.SpecCluster(
            dict.fromkeys(range(workers), worker), scheduler, silence_logs=quiet
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        # Dask's own link names the machine by an address that the pages do not listen at.
        port = cluster.scheduler_info["services"]["dashboard"] if dashboard else None
        yield Workers(client, format_dashboard_link(HERE, port) if dashboard else "")


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


def connect(name: str, threads: int, dashboard: bool = False) -> contextlib.AbstractContextManager[Workers]:
    """Give the workers of a named kind of cluster, or those of the scheduler at an address, for a context.

    Raises
    ------
    UnknownNameError
        For a name that is neither.
    ClusterError
        Where no scheduler answers.
    """
    return cluster_kind(name).connect(name, threads, dashboard)
