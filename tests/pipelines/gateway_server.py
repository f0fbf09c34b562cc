"""A Dask Gateway on this machine: a real server, whose schedulers and workers are processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipelines.dask_processes import wait_until
from tests.pipelines.network import free_port
from tests.plugin_examples import ROOT

CONFIGURATION = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.Proxy.address = "127.0.0.1:{port}"
c.DaskGateway.address = "127.0.0.1:{other_port}"
c.ClusterConfig.scheduler_cmd = ["{python}", "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.idle_timeout = 30
c.ClusterConfig.worker_cmd = ["{python}", "-m", "distributed.cli.dask_worker"]
c.UnsafeLocalBackend.clusters_directory = "{folder}/clusters"
c.UnsafeLocalBackend.inherited_environment = {inherited}
c.UnsafeLocalBackend.cluster_status_period = 1
c.UnsafeLocalBackend.worker_status_period = 1
"""
"""Clusters that drivers leave when they are killed end by themselves."""

SCHEDULER, WORKER = "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"
"""Modules that its processes carry out."""


@dataclass(frozen=True)
class GatewayServer:
    """A gateway that runs.

    Attributes
    ----------
    address : str
    process : subprocess.Popen
        Its server; schedulers and workers are below it.
    """

    address: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def gateway_server(folder: Path) -> Iterator[GatewayServer]:
    """Give a gateway for the time of the context, whose workers have the environment of this process.

    Tests that need it are skipped where its packages are not installed.
    """
    pytest.importorskip("dask_gateway", reason="the extra gateway is not installed")
    pytest.importorskip("dask_gateway_server", reason="dask-gateway-server is not installed")
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    places = {"port": port, "other_port": free_port(), "folder": folder, "python": sys.executable}
    (folder / "config.py").write_text(CONFIGURATION.format(**places, inherited=list(environment)))
    command = [sys.executable, "-m", "dask_gateway_server", "-f", str(folder / "config.py")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(address) or process.poll() is not None, "a gateway")
        assert process.poll() is None, (folder / "log").read_text()
        yield GatewayServer(address, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
