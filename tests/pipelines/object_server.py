"""An S3-compatible server on this machine, with a faulty proxy in front of it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.faulty_proxy import FaultyProxy


@dataclass(frozen=True)
class ObjectServer:
    """Where the bucket is.

    Attributes
    ----------
    bucket : str
        Address of an empty bucket; every `s3://` goes through the proxy.
    proxy : FaultyProxy
    environment : dict
        Variables that let other processes go there too.
    """

    bucket: str
    proxy: FaultyProxy
    environment: dict[str, str]


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """Serve a bucket; tests that need it are skipped where its libraries are not installed."""
    server = pytest.importorskip("moto.server", reason="needs the S3-compatible server of moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs boto3, which comes with the extra s3")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs, with which tests write by themselves")
    pytest.importorskip("obstore", reason="needs obstore, which comes with the extra s3")
    bucket = f"scans-{uuid.uuid4().hex[:8]}"  # servers in one process share what they hold
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch, FaultyProxy(f"http://{host}:{port}").serving() as proxy:
        environment = {
            "AWS_ENDPOINT_URL": proxy.address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=bucket)
        s3fs.S3FileSystem.clear_instance_cache()
        yield ObjectServer(f"s3://{bucket}", proxy, environment)
        s3fs.S3FileSystem.clear_instance_cache()
    running.stop()
