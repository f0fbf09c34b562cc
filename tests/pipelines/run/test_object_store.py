"""A run from an S3-compatible server to it: same bytes, refused and resumed as on a disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from urllib.parse import unquote

import numpy as np
import pytest
import tifffile
import zarr

import diffusion_ops as do
from pipelines.image.open_source import open_source
from pipelines.run.run import RefusedError, run
from pipelines.run.verify import verify
from pipelines.store import guarded
from pipelines.store.places import place_of
from tests.faulty_proxy import Fault
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec


@pytest.fixture
def bucket(objects, tmp_path):
    """Return an address that nothing else uses."""
    return f"{objects.bucket}/{tmp_path.name}"


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


@pytest.mark.parametrize("sparse", [pytest.param(False, marks=pytest.mark.slow), True])
def test_chunks_that_are_not_found_in_passing_are_no_fill_value(objects, bucket, tmp_path, sparse):
    image = ragged_image((200, 170), holes=False)
    array = zarr.create_array(f"{bucket}/in.zarr", shape=image.shape, dtype="f4", chunks=(64, 64))
    if sparse:
        image[:64, :64] = 0
        array[64:], array[:64, 64:] = image[64:], image[:64, 64:]
    else:
        array[...] = image
    spec = small_spec(f"{bucket}/in.zarr", tmp_path / "out.zarr")
    rules = [
        objects.proxy.add(Fault.not_found, times=7, path=f"in.zarr/c/{at}") for at in ("1/1", "3/0", "2/2")
    ]
    rules.append(objects.proxy.add(Fault.not_found, times=7, path="in.zarr/zarr.json"))
    rules.append(objects.proxy.add(Fault.not_found, times=7, path="list-type"))
    assert run(spec).exit_code == 0
    assert [rule.used for rule in rules] == [7] * 5
    expected = do.evolve(image, do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert read_result(tmp_path / "out.zarr").tobytes() == expected.tobytes()
    assert open_source(spec.source).absent_chunks() == sparse


@pytest.mark.slow
def test_a_chunk_that_stays_lost_is_no_fill_value(objects, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "PAUSES", (0.01,) * 3)
    image = ragged_image((200, 170), holes=False)
    zarr.create_array(f"{bucket}/in.zarr", shape=image.shape, dtype="f4", chunks=(64, 64))[...] = image
    spec = small_spec(f"{bucket}/in.zarr", tmp_path / "out.zarr")
    objects.proxy.add(Fault.not_found, path="in.zarr/c/1/1")
    report = run(spec)
    assert report.exit_code == 3
    assert not (tmp_path / "out.zarr").exists()
    objects.proxy.clear()
    assert run(spec).exit_code == 0
    expected = do.evolve(image, do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert read_result(tmp_path / "out.zarr").tobytes() == expected.tobytes()


@pytest.mark.thorough
def test_what_a_store_denies_in_mid_run_is_named(objects, bucket, tmp_path):
    image = ragged_image((64, 64), holes=False)
    zarr.create_array(f"{bucket}/in.zarr", shape=image.shape, dtype="f4", chunks=(64, 64))[...] = image
    how = {"retries": 0, "workdir": str(tmp_path / "work")}
    spec = small_spec(f"{bucket}/in.zarr", f"{bucket}/out.zarr", run=how)
    objects.proxy.add(Fault.denied, path="in.zarr/c/0/0")
    error = run(spec).data["failed"][0]["error"]
    assert error.startswith("PermissionError")
    assert f"'{bucket}/in.zarr/c/0/0'" in error
    objects.proxy.clear()
    objects.proxy.add(Fault.denied, method="PUT", path="out.zarr/image/c/0/0")
    assert f"'{bucket}/out.zarr/image/c/0/0'" in run(spec).data["problem"]


@pytest.mark.slow
def test_workers_do_not_list_the_source(objects, bucket, tmp_path):
    image = ragged_image((200, 170), holes=False)
    zarr.create_array(f"{bucket}/in.zarr", shape=image.shape, dtype="f4", chunks=(64, 64))[...] = image
    asked = []
    for cluster in ("threads", "local"):
        objects.proxy.clear()
        how = {"cluster": cluster, "threads": 2, "memory": "2GiB"}
        assert run(small_spec(f"{bucket}/in.zarr", tmp_path / f"{cluster}.zarr", run=how)).exit_code == 0
        listed = [unquote(path) for _, path in objects.proxy.requests if "list-type" in path]
        asked.append(sum("in.zarr/c" in path for path in listed))
    assert asked[0] == asked[1] > 0


RUN = """
import json, sys
from pipelines.run.run import run
from pipelines.spec.spec import make_spec
sys.exit(run(make_spec(json.loads(sys.argv[1]))).exit_code)
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "enough"),
    [
        ("out.ome.zarr", 2),
        pytest.param("out.zarr", 9, marks=pytest.mark.slow),
        ("out.tif", 1),
    ],
)
def test_a_run_that_is_killed_while_it_uploads_loses_nothing(objects, bucket, tmp_path, name, enough):
    image = ragged_image((200, 170))
    target = f"{bucket}/{name}"
    spec = small_spec(save_source(tmp_path, image), target, run={"workdir": str(tmp_path / "work")})
    objects.proxy.add(Fault.slow, method="PUT", rate=0.5, seed=1)
    running = subprocess.Popen(
        [sys.executable, "-c", RUN, spec.model_dump_json(exclude_unset=True)],
        env={**os.environ, **objects.environment},
    )
    while sum(method == "PUT" for method, _ in objects.proxy.requests) < enough and running.poll() is None:
        time.sleep(0.002)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    objects.proxy.clear()
    assert run(spec).exit_code == 0
    expected = do.evolve(image, do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    place, path = place_of(target)
    if name.endswith(".tif"):
        (tmp_path / name).write_bytes(place.read(path))
        found = tifffile.imread(tmp_path / name)
    else:
        found = np.asarray(zarr.open_group(target, mode="r")["0" if "ome" in name else "image"][...])
        assert verify(target, samples=2, workdir=spec.workdir)["ok"]
    assert found.tobytes() == expected.tobytes()


@pytest.mark.thorough
def test_an_upload_whose_objects_were_changed_is_refused_and_can_be_replaced(objects, bucket, tmp_path):
    image = ragged_image((200, 170))
    target = f"{bucket}/out.zarr"
    spec = small_spec(save_source(tmp_path, image), target, run={"workdir": str(tmp_path / "work")})
    objects.proxy.add(Fault.denied, method="PUT", path="out.zarr/zarr.json")
    assert run(spec).exit_code == 3
    objects.proxy.clear()
    place, path = place_of(f"{target}/image/c/1/1")
    place.write(path, b"something else")
    refused = run(spec)
    assert refused.exit_code == 3
    assert "--overwrite" in refused.data["problem"]
    assert place.read(path) == b"something else"
    assert run(spec, overwrite=True).exit_code == 0
    expected = do.evolve(image, do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert np.asarray(zarr.open_group(target, mode="r")["image"][...]).tobytes() == expected.tobytes()
