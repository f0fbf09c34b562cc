"""A scheduler that runs already, by its address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import distributed
from distributed.comm.core import connect
from distributed.security import Security

from pipelines.tasks.workers import CLUSTERS, Cluster, ClusterError, Workers

ANSWER_SECONDS = 10.0
"""Time in which a scheduler has to answer."""


@CLUSTERS.register("address")
class Address(Cluster):
    """The workers of a running scheduler, such as tcp://host:8786; its dashboard is its own."""

    about = "a running scheduler: give its address, such as tcp://host:8786"

    @classmethod
    @contextlib.contextmanager
    def connect(cls, address: str, threads: int, dashboard: bool) -> Iterator[Workers]:
        """Connect for the time of the context; the scheduler and its workers stay."""
        try:
            # A client that cannot connect leaves a thread behind, whose end is a traceback: knock first.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _knock(address)).result()
            client = distributed.Client(address, timeout=f"{ANSWER_SECONDS}s")
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"No scheduler answers at {address!r} ({error}). Start one with `dask scheduler`, or use "
                "--cluster local."
            ) from None
        with _quiet_client(), client:
            yield Workers(client, _dashboard(client))


async def _knock(address: str) -> None:
    """Open a connection to a scheduler, and close it."""
    comm = await connect(address, timeout=ANSWER_SECONDS, **Security().get_connection_args("client"))
    await comm.close()


@contextlib.contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep Dask from printing a traceback for a lost connection, of which the run says what it means."""
    # Each logger has a level of its own from Dask's configuration, or takes that of the first.
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _dashboard(client: distributed.Client) -> str:
    """Return where the scheduler says that its dashboard is, "" where it has none."""
    try:
        return str(client.dashboard_link or "")
    except KeyError:
        # No dashboard, or a pattern for its address (distributed.dashboard.link) with variables that are not set here.
        return ""
