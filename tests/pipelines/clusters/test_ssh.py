"""Workers on hosts that are logged in on: with a real SSH server on this machine the bytes are those of threads."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import diffusion_ops as do
from pipelines.run.run import run
from pipelines.spec.spec import Spec
from tests.pipelines.certificates import make_certificates
from tests.pipelines.dask_processes import wait_until
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec
from tests.plugin_examples import ROOT

asyncssh = pytest.importorskip("asyncssh", reason="the extra ssh is not installed")

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


@dataclass
class Server:
    """An SSH server on this machine: where its keys lie, and its port."""

    folder: Path
    port: int

    def options(self) -> dict[str, object]:
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(folder / name))
        key.write_public_key(str(folder / f"{name}.pub"))
        (folder / name).chmod(0o600)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (folder / "sshd_config").write_text(CONFIGURATION.format(folder=folder, port=port))
    host = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        wait_until(lambda: "listening" in (folder / "log").read_text(), "an SSH server")
        yield Server(folder, port)
    finally:
        process.terminate()
        process.wait()


def spec_in(folder: Path, cluster: dict[str, object]) -> Spec:
    return small_spec(save_source(folder, ragged_image()), folder / "out.zarr", run={"cluster": cluster})


@pytest.mark.thorough
@pytest.mark.parametrize("encrypted", [True, False])
def test_hosts_give_the_bytes_of_threads(tmp_path, server, encrypted):
    tls = {"tls": str(make_certificates(tmp_path / "keys"))} if encrypted else {}
    assert run(spec_in(tmp_path, {**server.options(), **tls})).exit_code == 0
    whole = do.evolve(ragged_image(), do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert read_result(tmp_path / "out.zarr").tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("option", "message"), [("key", "Permission denied"), ("known_hosts", "Host key is not trusted")]
)
def test_who_is_not_trusted_is_told_so(tmp_path, server, option, message):
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(tmp_path / "key"))
    (tmp_path / "known_hosts").touch()
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ValueError, match=f"could not start a worker: .*{message}"):
        run(spec_in(folder, {**server.options(), option: str(tmp_path / option)}))
    assert [path.name for path in folder.iterdir()] == ["source.npy"]
