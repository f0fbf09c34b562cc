"""Workers that a Dask Gateway starts: it knows its users, and hides from them what runs below."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from pipelines.tasks.hired import Sized
from pipelines.tasks.workers import CLUSTERS, ClusterError, Wanted, Workers, quiet_logs


@CLUSTERS.register("gateway")
class Gateway(Sized):
    """A cluster of a Dask Gateway for the time of the run, over TLS with certificates of the gateway's."""

    about = "workers of a Dask Gateway"
    library = "dask_gateway"
    extra = "gateway"
    # It is the gateway that says how many threads a worker has.
    shared = True

    address: str | None = Field(
        default=None,
        min_length=1,
        description="Address of the gateway, such as https://gateway.example.org; that of Dask's configuration "
        "(gateway.address) by default.",
    )
    proxy_address: str | None = Field(
        default=None,
        min_length=1,
        description="Address of its proxy for schedulers, where that is another one.",
    )
    auth: Literal["basic", "kerberos", "jupyterhub"] | None = Field(
        default=None,
        description="How this user is known; by Dask's configuration (gateway.auth) by default, which holds the "
        "password, too.",
    )
    options: Mapping[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="Options that the gateway offers, such as {image: ..., worker_memory: 4}; `memory` only says what "
        "a worker has.",
    )

    @contextlib.contextmanager
    def connect(self, wanted: Wanted) -> Iterator[Workers]:
        """Ask for a cluster for the time of the context."""
        with contextlib.ExitStack() as open_, quiet_logs():
            try:
                cluster = open_.enter_context(self._cluster(wanted))
            except Exception as error:  # whatever the gateway, its library or the network says
                raise ClusterError(
                    f"The gateway {self.address or 'of the configuration'} gives no cluster ({type(error).__name__}: "
                    f"{error}). Check its address, who you are to it (auth), and the options that it offers."
                ) from None
            awaited = "The gateway starts them: look at its logs, and at the limits that it sets."
            with cluster.get_client() as client:
                yield Workers(client, cluster.dashboard_link or "", self.patience, awaited)

    @contextlib.contextmanager
    def _cluster(self, wanted: Wanted) -> Iterator[Any]:
        """Give a cluster of the gateway for the time of the context."""
        import dask_gateway

        least = self.least_of(wanted)
        with dask_gateway.Gateway(self.address, self.proxy_address, auth=self.auth) as gateway:
            name = gateway.submit(**self.options)
            with gateway.connect(name, shutdown_on_close=True) as cluster:
                if least < wanted.tasks:
                    cluster.adapt(minimum=least, maximum=wanted.tasks)
                else:
                    cluster.scale(least)
                yield cluster
