"""What the engine needs of a cluster: a Dask client, and workers that are ready for our tasks."""

from __future__ import annotations

import contextlib
import gc
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import distributed

from diffusion_ops.registry import Registry
from pipelines.store.addresses import is_address
from pipelines.tasks.process import prepare_process


class Cluster(ABC):
    """A place where tasks run, one thread per task."""

    about: ClassVar[str] = ""
    """One line for `diffuse list clusters`."""
    in_process: ClassVar[bool] = False
    """Whether tasks run in the driver's own process."""

    @classmethod
    @abstractmethod
    def connect(cls, address: str, threads: int) -> contextlib.AbstractContextManager[distributed.Client]:
        """Return a context with a client to workers that take `threads` tasks at a time."""


CLUSTERS: Registry[type[Cluster]] = Registry("cluster", "pipelines.clusters", "diffuse.clusters")


@contextlib.contextmanager
def own_workers(workers: int, threads: int, processes: bool) -> Iterator[distributed.Client]:
    """Give a client to workers on this machine, started for the time of the context."""
    with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=processes,
            # The plan bounds memory; a worker that paused or spilled by itself would only be in its way.
            memory_limit=0,
            # A port of its own, and no pages: they would cost 100 MB of the run's memory.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            # A task that fails is told through events, with its tile and what is left to try.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


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


def cluster_kind(name: str) -> type[Cluster]:
    """Return the kind of cluster that a name or the address of a scheduler means.

    Raises
    ------
    UnknownNameError
        For a name that is neither.
    """
    return CLUSTERS["address"] if is_address(name) else CLUSTERS[name]


@contextlib.contextmanager
def connect(name: str, threads: int) -> Iterator[distributed.Client]:
    """Give a client to a named kind of cluster, or to the scheduler at an address.

    Raises
    ------
    UnknownNameError
        For a name that is neither.
    """
    kind = cluster_kind(name)
    with kind.connect(name, threads) as client:
        client.register_plugin(PrepareWorker(threads if kind.in_process else 1))
        yield client
