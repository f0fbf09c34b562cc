"""Workers of a Dask Gateway: with a real server, proxy, scheduler and worker the bytes are those of threads."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusion_ops as do
from pipelines.run.run import run
from pipelines.spec.spec import Spec
from tests.pipelines.dask_processes import wait_until
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec
from tests.plugin_examples import ROOT

pytest.importorskip("dask_gateway", reason="the extra gateway is not installed")
pytest.importorskip("dask_gateway_server", reason="dask-gateway-server is not installed")

# A gateway's client closes itself a second time when it is collected, after the loop that this needs.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function Gateway.__del__:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let that be in the test that it belongs to."""
    yield
    gc.collect()


CONFIGURATION = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.Proxy.address = "127.0.0.1:{port}"
c.DaskGateway.address = "127.0.0.1:{other_port}"
c.ClusterConfig.scheduler_cmd = ["{python}", "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = ["{python}", "-m", "distributed.cli.dask_worker"]
c.UnsafeLocalBackend.clusters_directory = "{folder}/clusters"
c.UnsafeLocalBackend.inherited_environment = ["PATH", "PYTHONPATH", "NUMBA_CACHE_DIR"]
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a gateway that starts processes of this machine."""
    folder = tmp_path_factory.mktemp("gateway")
    port = free_port()
    text = CONFIGURATION.format(port=port, other_port=free_port(), folder=folder, python=sys.executable)
    (folder / "config.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dask_gateway_server", "-f", str(folder / "config.py")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(address) or process.poll() is not None, "a gateway")
        assert process.poll() is None, (folder / "log").read_text()
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def spec_in(folder: Path, **options: object) -> Spec:
    cluster = {"kind": "gateway", "auth": "basic", **options}
    return small_spec(save_source(folder, ragged_image()), folder / "out.zarr", run={"cluster": cluster})


@pytest.mark.thorough
def test_a_gateway_gives_the_bytes_of_threads(tmp_path, gateway):
    assert run(spec_in(tmp_path, address=gateway, workers=2)).exit_code == 0
    whole = do.evolve(ragged_image(), do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert read_result(tmp_path / "out.zarr").tobytes() == whole.tobytes()


@pytest.mark.thorough
def test_what_a_gateway_does_not_offer_is_refused(tmp_path, gateway):
    with pytest.raises(ValueError, match=r"gives no cluster .*Check its address"):
        run(spec_in(tmp_path, address=gateway, options={"image": "ours"}))
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]


def test_no_gateway_is_told_so(tmp_path):
    with pytest.raises(ValueError, match=r"The gateway http://127.0.0.1:1 gives no cluster"):
        run(spec_in(tmp_path, address="http://127.0.0.1:1"))
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]
