"""Workers of a Dask Gateway: with a real server, proxy, scheduler and worker the bytes are those of threads."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusion_ops as do
from pipelines.run.run import run
from pipelines.spec.spec import Spec
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec

pytest.importorskip("dask_gateway", reason="the extra gateway is not installed")

# A gateway's client closes itself a second time when it is collected, after the loop that this needs.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function Gateway.__del__:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let that be in the test that it belongs to."""
    yield
    gc.collect()


def spec_in(folder: Path, **options: object) -> Spec:
    cluster = {"kind": "gateway", "auth": "basic", **options}
    return small_spec(save_source(folder, ragged_image()), folder / "out.zarr", run={"cluster": cluster})


@pytest.mark.thorough
def test_a_gateway_gives_the_bytes_of_threads(tmp_path, gateway_here):
    assert run(spec_in(tmp_path, address=gateway_here.address, workers=2)).exit_code == 0
    whole = do.evolve(ragged_image(), do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert read_result(tmp_path / "out.zarr").tobytes() == whole.tobytes()


@pytest.mark.thorough
def test_what_a_gateway_does_not_offer_is_refused(tmp_path, gateway_here):
    with pytest.raises(ValueError, match=r"gives no cluster .*Check its address"):
        run(spec_in(tmp_path, address=gateway_here.address, options={"image": "ours"}))
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]


def test_no_gateway_is_told_so(tmp_path):
    with pytest.raises(ValueError, match=r"The gateway http://127.0.0.1:1 gives no cluster"):
        run(spec_in(tmp_path, address="http://127.0.0.1:1"))
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]
