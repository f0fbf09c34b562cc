"""A server on this machine that speaks like the stores of Azure: Azurite, which comes with Node's packages."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONTAINER = "scans"


@contextmanager
def azure_server(folder: Path) -> Iterator[str]:
    """Serve an empty container and yield its address; tests that need it are skipped where the server is not installed.

    Every `az://` of this process, and of those that it starts, goes there.
    """
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("needs azurite-blob (npm install --global azurite)")
    blob = pytest.importorskip("azure.storage.blob", reason="needs azure-storage-blob")
    pytest.importorskip("obstore", reason="needs obstore, which comes with the extra az")
    account, key = "anybody", base64.b64encode(os.urandom(64)).decode()
    server = subprocess.Popen(
        [program, "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"],
        cwd=folder,
        env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        said = ""
        while not (found := re.search(r"listens on (http://\S+)", said)):
            line = server.stdout.readline()
            assert line, f"azurite-blob has ended: {said}"
            said += line
        endpoint = f"{found[1]}/{account}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", account)
            patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", key)
            patch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
            with blob.BlobServiceClient(
                endpoint, credential={"account_name": account, "account_key": key}
            ) as client:
                client.create_container(CONTAINER)
            yield f"az://{CONTAINER}"
    finally:
        server.kill()
        server.communicate()
