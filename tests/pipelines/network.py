"""Hosts on one machine: network namespaces behind a switch, whose cables can be pulled out, and processes on them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.dask_processes import wait_until
from tests.plugin_examples import ROOT

SUBNET = "10.213.7"

DRIVER, SCHEDULER, WORKER = 1, 2, 3
"""The hosts; a second worker is on that of the scheduler."""


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def why_there_is_none() -> str:
    """Return why hosts cannot be made here, "" where they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces are made by root on Linux"
    if shutil.which("ip") is None:
        return "ip (of iproute2) is not installed"
    probe = f"probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode:
        return "this system does not let network namespaces be made"
    ip("netns", "del", probe)
    return ""


def ip(*words: str) -> None:
    """Carry out a command of `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Network:
    """Hosts on a switch.

    Parameters
    ----------
    hosts : int
        How many; they are numbered from 1.
    """

    def __init__(self, hosts: int) -> None:
        self._name = f"diffuse-{os.getpid()}"
        self._spaces = [f"{self._name}-{number}" for number in range(hosts + 1)]
        for space in self._spaces:
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
        switch = self._spaces[0]
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for number, host in enumerate(self._spaces[1:], start=1):
            port = f"port{number}"
            ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            ip("-n", host, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")

    @staticmethod
    def address(host: int) -> str:
        """Return the address of a host."""
        return f"{SUBNET}.{host}"

    def on(self, host: int) -> list[str]:
        """Return the words before a command that a host carries out."""
        return ["ip", "netns", "exec", self._spaces[host]]

    def cut(self, host: int) -> None:
        """Pull out the cable of a host: what it sends is lost, and nobody is told."""
        ip("-n", self._spaces[0], "link", "set", f"port{host}", "nomaster")

    def mend(self, host: int) -> None:
        """Put the cable in again."""
        ip("-n", self._spaces[0], "link", "set", f"port{host}", "master", "bridge")

    def remove(self) -> None:
        """Remove all hosts."""
        for space in self._spaces:
            ip("netns", "del", space)


@contextlib.contextmanager
def network(hosts: int) -> Iterator[Network]:
    """Make hosts for the time of the context."""
    made = Network(hosts)
    try:
        yield made
    finally:
        made.remove()


class Hosts:
    """Processes on the hosts of a network.

    Parameters
    ----------
    net : Network
    folder : Path
        On a disk that all hosts share.
    """

    def __init__(self, net: Network, folder: Path) -> None:
        self.net, self.folder = net, folder
        self._processes: list[subprocess.Popen[bytes]] = []
        told = folder / "scheduler.json"
        self.dask(SCHEDULER, "scheduler", "--port", "0", "--scheduler-file", str(told))
        wait_until(lambda: told.exists() and told.read_text().endswith("}"), "a scheduler")
        self.address = str(json.loads(told.read_text())["address"])
        self.workers = {host: self.worker(host) for host in (SCHEDULER, WORKER)}

    def worker(self, host: int) -> subprocess.Popen[bytes]:
        """Start a worker on a host."""
        return self.dask(host, "worker", self.address, "--nthreads", "1", "--no-nanny")

    def dask(self, host: int, *words: str) -> subprocess.Popen[bytes]:
        """Start a process of Dask on a host."""
        listening = ("--host", self.net.address(host), "--dashboard-address", "127.0.0.1:0", "--no-dashboard")
        return self._start(host, "-m", "dask", *words, *listening)

    def driver(self, spec: Path) -> subprocess.Popen[bytes]:
        """Start a run on the host of the driver."""
        return self._start(DRIVER, "-m", "pipelines.cli.command", "run", str(spec), "--json")

    def _start(self, host: int, *words: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{len(self._processes)}.log").open("wb") as log:
            command = [*self.net.on(host), sys.executable, *words]
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def end(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def hosts_on(folder: Path) -> Iterator[Hosts]:
    """Give three hosts with a scheduler and two workers for the time of the context; tests are skipped without."""
    if reason := why_there_is_none():
        pytest.skip(reason)
    with network(3) as net:
        made = Hosts(net, folder)
        try:
            yield made
        finally:
            made.end()
