"""Components are those of scikit-image, numbered alike, however the image is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

import diffusion_ops as do
from diffusion_ops.evolution.completion import refuse_narrow_type
from pipelines.refusal import RefusedError
from pipelines.run.run import run
from pipelines.run.verify import verify
from tests.pipelines.runs import read_result, save_source, small_spec

pytestmark = pytest.mark.thorough

Array = NDArray[Any]


def classes(shape: tuple[int, ...], seed: int = 0, values: int = 2) -> Array:
    """Return noise of few values, close to the percolation threshold."""
    shares = [
        0.45 if len(shape) == 2 else 0.75,
        *[(0.55 if len(shape) == 2 else 0.25) / (values - 1)] * (values - 1),
    ]
    return np.random.default_rng(seed).choice(values, shape, p=shares).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "connectivity"),
    [((41, 37), 1), ((41, 37), 2), ((11, 12, 13), 1), ((11, 12, 13), 2), ((11, 12, 13), 3)],
)
@given(data=st.data())
@settings(max_examples=5)
def test_they_are_those_of_scikit_image_for_any_chunks(
    shape: tuple[int, ...], connectivity: int, data: st.DataObject
) -> None:
    image = classes(shape, data.draw(st.integers(0, 1000)), data.draw(st.integers(2, 4)))
    wanted = label(image, connectivity=connectivity)
    operator = do.Components(connectivity=connectivity)
    assert np.array_equal(do.evolve(image, operator, dtype="int32"), wanted)
    chunks = tuple(data.draw(st.integers(3, 20)) for _ in shape)
    lazy = do.evolve(da.from_array(image, chunks), operator, dtype="int32")
    assert np.array_equal(lazy.compute(scheduler="synchronous"), wanted)


def test_a_run_numbers_each_frame_by_itself(tmp_path: Path) -> None:
    frames = np.stack([classes((90, 70), seed) for seed in range(3)])
    steps = [{"operator": "components"}]
    source = {"uri": save_source(tmp_path, frames), "axes": "tyx"}
    target = tmp_path / "labels.zarr"
    run(small_spec("", target, source=source, steps=steps, sink={"dtype": "uint16"}))
    found = read_result(target)
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.stack([label(frame) for frame in frames]))
    assert verify(str(target))["ok"]


def test_walls_part_components() -> None:
    image = np.ones((6, 9), np.float32)
    image[:, 4] = np.nan
    found = do.evolve(image, do.Components())
    assert np.array_equal(np.isnan(found), np.isnan(image))
    assert (found[:, :4] == 1).all()
    assert (found[:, 5:] == 2).all()


def test_a_type_that_cannot_hold_the_labels_is_refused(tmp_path: Path) -> None:
    image = np.zeros((40, 40), np.uint8)
    image[::2, ::2] = 1
    for container in (image, da.from_array(image, 20)):
        with pytest.raises(ValueError, match="uint8 holds whole numbers up to 255"):
            np.asarray(do.evolve(container, do.Components(), dtype="uint8"))
    steps = [{"operator": "components"}]
    spec = small_spec(save_source(tmp_path, image), tmp_path / "a.zarr", steps=steps, sink={"dtype": "uint8"})
    with pytest.raises(RefusedError, match="uint8 holds whole numbers up to 255"):
        run(spec)
    assert not (tmp_path / "a.zarr").exists()
    refuse_narrow_type(1 << 24, np.dtype(np.float32))
    with pytest.raises(ValueError, match="float32 holds whole numbers up to 16,777,216"):
        refuse_narrow_type((1 << 24) + 1, np.dtype(np.float32))


def test_a_source_of_labels_is_taken_where_no_mean_of_them_is(tmp_path: Path) -> None:
    image = classes((70, 90), values=4)
    first = tmp_path / "classes.ome.zarr"
    steps = [{"operator": "thresholding", "classes": 4, "thresholds": [0.5, 1.5, 2.5]}]
    run(
        small_spec(
            save_source(tmp_path, image), first, steps=steps, sink={"dtype": "uint8", "pyramid": "none"}
        )
    )
    second = tmp_path / "labels.zarr"
    run(small_spec(str(first), second, steps=[{"operator": "components"}], sink={"dtype": "uint32"}))
    assert np.array_equal(read_result(second), label(image))
    with pytest.raises(RefusedError, match="label numbers"):
        run(small_spec(str(first), tmp_path / "a.zarr", steps=[{"operator": "heat", "time": 1}]))


@pytest.mark.parametrize("sign", [1, -1])
def test_labels_that_singles_do_not_tell_apart_are_refused(sign):
    image = np.full((6, 8), sign * (1 << 24), np.int32)
    image[:, 4:] += sign
    with pytest.raises(ValueError, match="float64"):
        do.evolve(image, do.Components())
    assert do.evolve(image.astype(np.float64), do.Components()).tolist()[0] == [1] * 4 + [2] * 4
    assert do.evolve(image // 2, do.Components()).max() == 2 - (sign > 0)
