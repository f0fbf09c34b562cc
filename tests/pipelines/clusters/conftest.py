"""Servers that the tests of a file share: each is real, and skips tests with a reason where it cannot be started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.gateway_server import GatewayServer, gateway_server
from tests.pipelines.network import Hosts, hosts_on
from tests.pipelines.slurm import Slurm, slurm
from tests.pipelines.ssh_server import SshServer, ssh_server


@pytest.fixture(scope="module")
def slurm_here() -> Iterator[Slurm]:
    with slurm() as running:
        yield running


@pytest.fixture(scope="module")
def ssh_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    with gateway_server(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_on(tmp_path) as running:
        yield running
