"""Processes on this machine, one thread each; a lost one is replaced."""

from __future__ import annotations

import contextlib

from pipelines.tasks.workers import CLUSTERS, DASHBOARD_BYTES, Cluster, Wanted, Workers, own_workers


@CLUSTERS.register("local")
class Local(Cluster):
    """A local cluster of processes under nannies."""

    about = "processes on this machine, one thread each"
    here = True
    dashboard_bytes = DASHBOARD_BYTES

    def connect(self, wanted: Wanted) -> contextlib.AbstractContextManager[Workers]:
        """Start the processes for the time of the context."""
        return own_workers(wanted.tasks, 1, processes=True, dashboard=wanted.dashboard)
