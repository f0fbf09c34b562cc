"""Processes on this machine, one thread each; a lost one is replaced."""

from __future__ import annotations

import contextlib

import distributed

from pipelines.tasks.workers import CLUSTERS, Cluster, own_workers


@CLUSTERS.register("local")
class Local(Cluster):
    """A local cluster of processes under nannies."""

    about = "processes on this machine, one thread each"

    @classmethod
    def connect(cls, address: str, threads: int) -> contextlib.AbstractContextManager[distributed.Client]:
        """Start the processes for the time of the context."""
        return own_workers(threads, 1, processes=True)
