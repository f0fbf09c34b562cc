"""Processes on this machine, one thread each; a lost one is replaced."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import distributed

from pipelines.cluster import CLUSTERS, Cluster


@CLUSTERS.register("local")
class Local(Cluster):
    """A local cluster of processes under nannies."""

    about = "processes on this machine, one thread each"

    @classmethod
    @contextlib.contextmanager
    def connect(cls, address: str, threads: int) -> Iterator[distributed.Client]:
        """Start the processes for the time of the context."""
        with (
            distributed.LocalCluster(
                n_workers=threads,
                threads_per_worker=1,
                processes=True,
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
