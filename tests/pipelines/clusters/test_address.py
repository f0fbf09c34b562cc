"""A running scheduler, over TLS: trusted ones give the bytes of threads, others are refused in words."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from typer.testing import CliRunner, Result

import diffusion_ops as do
from pipelines.cli.command import app
from pipelines.clusters import address
from tests.pipelines.certificates import make_certificates
from tests.pipelines.dask_processes import DaskProcesses, dask_processes
from tests.pipelines.runs import ragged_image, read_result, save_source

SPEC = """
source: {uri: source.npy}
steps: [{operator: perona-malik, contrast: 5000, conductance: rational, steps: 9}]
sink: {uri: out.zarr, chunk: 64}
run: {tile: 64, batch: 4, threads: 2}
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("keys") / "ours")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[DaskProcesses]:
    with dask_processes(tmp_path_factory.mktemp("scheduler"), tls=keys) as processes:
        processes.worker()
        yield processes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an image and a spec of it."""
    save_source(tmp_path, ragged_image())
    (tmp_path / "scene.yaml").write_text(SPEC)
    return tmp_path


def diffuse(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["run", str(folder / "scene.yaml"), *words])


def require_right_bytes(folder: Path, result: Result) -> None:
    assert result.exit_code == 0, result.stderr
    whole = do.evolve(ragged_image(), do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert read_result(folder / "out.zarr").tobytes() == whole.tobytes()


def test_a_scheduler_is_found_by_its_file_and_spoken_to_over_tls(folder, scheduler, keys):
    assert scheduler.address.startswith("tls://127.0.0.1:")
    result = diffuse(folder, "--cluster", str(scheduler.file), "-c", f"tls={keys}")
    require_right_bytes(folder, result)


@pytest.mark.thorough
def test_certificates_may_stand_in_the_configuration_of_dask(folder, scheduler, keys):
    files = {"ca-file": "ca.pem", "client.cert": "cert.pem", "client.key": "key.pem"}
    with dask.config.set({f"distributed.comm.tls.{name}": str(keys / file) for name, file in files.items()}):
        require_right_bytes(folder, diffuse(folder, "--cluster", scheduler.address))


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("strangers", "certificates of one authority"),
        ("nobody", "certificates of one authority"),
        ("without encryption", "No scheduler answers"),
        ("mixed", "Check that key.pem belongs to cert.pem"),
        ("incomplete", "lacks key.pem"),
    ],
)
def test_who_is_not_trusted_is_refused_at_once(
    folder, scheduler, keys, who, message, tmp_path_factory, monkeypatch
):
    monkeypatch.setattr(address, "ANSWER_SECONDS", 2.0)
    place, options = scheduler.address, list[str]()
    if who == "without encryption":
        place = place.replace("tls", "tcp")
    elif who != "nobody":
        strange = make_certificates(tmp_path_factory.mktemp("strange") / "keys")
        if who == "mixed":
            shutil.copy(keys / "cert.pem", strange)
        elif who == "incomplete":
            (strange / "key.pem").unlink()
        options = ["-c", f"tls={strange}"]
    before, began = sorted(folder.rglob("*")), time.monotonic()
    result = diffuse(folder, "--cluster", place, *options)
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (2, True), result.stderr
    assert time.monotonic() - began < 15
    assert sorted(folder.rglob("*")) == before
