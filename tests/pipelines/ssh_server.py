"""An SSH server on this machine, which lets in whoever has the key that lies beside its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipelines.dask_processes import wait_until
from tests.pipelines.network import free_port
from tests.plugin_examples import ROOT

CONFIGURATION = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""

WORKER = "distributed.cli.dask_spec"
"""Module that a worker carries out."""


@dataclass(frozen=True)
class SshServer:
    """An SSH server that runs.

    Attributes
    ----------
    folder : Path
        Where its keys lie, and those of its user.
    port : int
    process : subprocess.Popen
        What is started by those who log in is below it.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def options(self) -> dict[str, object]:
        """Return the options of a cluster on this host."""
        return {
            "kind": "ssh",
            "hosts": ["127.0.0.1"],
            "port": self.port,
            "key": str(self.folder / "user"),
            "known_hosts": str(self.folder / "known_hosts"),
            "interface": "lo",
            "workers": 2,
            "environment": {
                "PYTHONPATH": str(ROOT),
                "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", ""),
            },
        }


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Give an SSH server for the time of the context; who logs in knows the object store of this process.

    Tests that need it are skipped where there is none.
    """
    asyncssh = pytest.importorskip("asyncssh", reason="the extra ssh is not installed")
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(folder / name))
        key.write_public_key(str(folder / f"{name}.pub"))
        (folder / name).chmod(0o600)
    port = free_port()
    store = " ".join(f"{name}={value}" for name, value in os.environ.items() if name.startswith("AWS_"))
    text = CONFIGURATION.format(folder=folder, port=port) + (f"SetEnv {store}\n" if store else "")
    (folder / "sshd_config").write_text(text)
    host = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        wait_until(lambda: "listening" in (folder / "log").read_text(), "an SSH server")
        yield SshServer(folder, port, process)
    finally:
        process.terminate()
        process.wait()
