"""Threads of this process: the default on one machine."""

from __future__ import annotations

import contextlib

import distributed

from pipelines.tasks.workers import CLUSTERS, Cluster, own_workers


@CLUSTERS.register("threads")
class Threads(Cluster):
    """A scheduler and one worker inside this process; kernels release the GIL."""

    about = "threads of this process (default)"
    in_process = True

    @classmethod
    def connect(cls, address: str, threads: int) -> contextlib.AbstractContextManager[distributed.Client]:
        """Start the worker for the time of the context."""
        return own_workers(1, threads, processes=False)
