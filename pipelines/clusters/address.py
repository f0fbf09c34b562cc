"""A scheduler that runs already, by its address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import distributed

from pipelines.refusal import RefusedError
from pipelines.tasks.workers import CLUSTERS, Cluster, Workers


@CLUSTERS.register("address")
class Address(Cluster):
    """The workers of a running scheduler, such as tcp://host:8786; its dashboard is its own."""

    about = "a running scheduler: give its address, such as tcp://host:8786"

    @classmethod
    @contextlib.contextmanager
    def connect(cls, address: str, threads: int, dashboard: bool) -> Iterator[Workers]:
        """Connect for the time of the context; the scheduler and its workers stay."""
        try:
            client = distributed.Client(address, timeout="10s")
        except OSError as error:
            raise RefusedError(
                f"No scheduler answers at {address!r} ({error}). Start one with `dask scheduler`, or use "
                f"--cluster local."
            ) from None
        with client:
            yield Workers(client, _dashboard(client))


def _dashboard(client: distributed.Client) -> str:
    """Return where the scheduler says that its dashboard is, "" where it has none."""
    try:
        return str(client.dashboard_link or "")
    except KeyError:
        # No dashboard, or a pattern for its address (distributed.dashboard.link) with variables that are not set here.
        return ""
