"""Hosts of their own on one machine: network namespaces behind a switch, whose cables can be pulled out."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

SUBNET = "10.213.7"


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
