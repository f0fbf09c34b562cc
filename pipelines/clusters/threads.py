"""Threads of this process: the default on one machine."""

from __future__ import annotations

import contextlib

from pipelines.tasks.workers import CLUSTERS, DASHBOARD_BYTES, Cluster, Wanted, Workers, own_workers


@CLUSTERS.register("threads")
class Threads(Cluster):
    """A scheduler and one worker inside this process; kernels release the GIL."""

    about = "threads of this process (default)"
    here = True
    in_process = True
    dashboard_bytes = DASHBOARD_BYTES

    def connect(self, wanted: Wanted) -> contextlib.AbstractContextManager[Workers]:
        """Start the worker for the time of the context."""
        return own_workers(1, wanted.tasks, processes=False, dashboard=wanted.dashboard)
