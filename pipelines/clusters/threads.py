"""Threads of this process: the default on one machine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import distributed

from pipelines.cluster import CLUSTERS, Cluster


@CLUSTERS.register("threads")
class Threads(Cluster):
    """A scheduler and one worker inside this process; kernels release the GIL."""

    about = "threads of this process (default)"
    in_process = True

    @classmethod
    @contextlib.contextmanager
    def connect(cls, address: str, threads: int) -> Iterator[distributed.Client]:
        """Start the worker for the time of the context."""
        with (
            distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=threads,
                processes=False,
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
