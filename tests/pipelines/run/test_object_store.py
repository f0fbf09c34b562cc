"""A run from an S3-compatible server to it: same bytes, refused and resumed as on a disk."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

import diffusion_ops as do
from pipelines.run.run import RefusedError, run
from pipelines.run.verify import verify
from tests.pipelines.runs import ragged_image, small_spec

server = pytest.importorskip("moto.server", reason="needs the S3-compatible server of moto[server]")
s3fs = pytest.importorskip("s3fs", reason="needs s3fs, which comes with the extra s3")


@pytest.fixture(scope="module")
def bucket():
    """Serve a bucket on this machine, and let every s3:// address go there."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("scans")
        yield "s3://scans"
        s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def test_a_run_from_and_to_an_object_store(bucket, tmp_path):
    image = ragged_image((200, 170))
    array = zarr.create_array(
        f"{bucket}/in.zarr", shape=image.shape, dtype="f4", chunks=(64, 64), fill_value=0
    )
    array[...] = image
    spec = small_spec(f"{bucket}/in.zarr", f"{bucket}/out.ome.zarr", run={"workdir": str(tmp_path / "work")})
    assert run(spec).exit_code == 0
    result = np.asarray(zarr.open_group(f"{bucket}/out.ome.zarr", mode="r")["0"][...])
    expected = do.evolve(image, do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert result.tobytes() == expected.tobytes()
    assert verify(spec.sink.uri, samples=2, workdir=spec.workdir)["ok"]
    assert run(spec).data["complete"]
    other = small_spec(
        f"{bucket}/in.zarr", f"{bucket}/out.ome.zarr", run={"workdir": str(tmp_path / "other")}
    )
    with pytest.raises(RefusedError, match="exists already"):
        run(other)
