"""What every registered problem of the whole image promises, whichever it is; a new one is tested here by itself."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import diffusion_ops as do
from tests.operator_samples import each_problem, picture, problem_image, samples


def beside(problem: do.Operator, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return what it reads beside an image."""
    markers = np.zeros(shape, np.int32)
    markers[1, 2], markers[-2, -3] = 1, 2
    every = {"markers": markers, "known": picture(*shape, seed=3) > 100}
    return {word: every[word] for word in problem.reads}


@each_problem
def test_it_needs_what_it_says_and_takes_nothing_else(name: str) -> None:
    problem = samples(name)[0]
    image = problem_image(problem, 12, 13)
    given = beside(problem, image.shape)
    for word in problem.requires:
        with pytest.raises(ValueError, match=f"{name} needs {word}"):
            do.solve(image, problem, **{k: v for k, v in given.items() if k != word})
    for word in {"markers", "known"} - set(problem.reads):
        with pytest.raises(ValueError, match=f"{word} is given, but {name} does not read it"):
            do.solve(image, problem, **given, **{word: image > 0})
    with pytest.raises(ValueError, match="solve"):
        do.evolve(image, problem)


@each_problem
def test_every_container_has_the_bytes_of_numpy(name: str) -> None:
    problem = samples(name)[0]
    image = problem_image(problem, 24, 25)
    image[4:7, 5] = np.nan
    given = beside(problem, image.shape)
    whole = do.solve(image, problem, **given)
    assert whole.shape == image.shape
    lazy = do.solve(
        da.from_array(image, (10, 9)), problem, **{k: da.from_array(v, 7) for k, v in given.items()}
    )
    assert lazy.chunks == ((10, 10, 4), (9, 9, 7))
    assert lazy.dtype == whole.dtype
    assert lazy.compute(scheduler="synchronous").tobytes() == whole.tobytes()
    frames = xr.DataArray(np.stack([image, image[::-1]]), dims=("time", "y", "x"), attrs={"made by": "us"})
    solved = frames.diffuse.solve(problem, **given)
    assert solved.attrs == frames.attrs
    assert solved.dims == frames.dims
    assert solved[0].values.tobytes() == whole.tobytes()
    assert solved[1].values.tobytes() == do.solve(image[::-1], problem, **given).tobytes()
    words = {word: getattr(problem, word) for word in problem.parameters()}
    by_name = getattr(frames[0].diffuse, name.replace("-", "_"))(**words, **given)
    assert by_name.values.tobytes() == whole.tobytes()


@each_problem
def test_walls_have_no_answer_and_let_nothing_through(name: str) -> None:
    problem = samples(name)[0]
    image = problem_image(problem, 20, 30)
    image[:, 12] = np.nan
    given, mask = beside(problem, image.shape), np.ones(image.shape, bool)
    # A pixel without a value is a wall, but for problems that give it one.
    mask[9] = mask[:, 12] = False
    first = do.solve(image, problem, mask=mask, **given)
    other = image.copy()
    other[:9, 13:] *= 3
    second = do.solve(other, problem, mask=mask, **given)
    for part in (np.s_[:9, :12], np.s_[10:, :12], np.s_[10:, 13:]):
        # Iterations that stop by a tolerance of the whole image stop elsewhere.
        apart = 2e-4 * np.nanmax(other) if problem.takes_tolerance else 0
        assert np.allclose(first[part], second[part], rtol=0, atol=apart, equal_nan=True)


@pytest.mark.thorough
@each_problem
def test_types_are_the_images_own_or_as_asked_for(name: str) -> None:
    problem = samples(name)[0]
    image = problem_image(problem, 16, 17).astype(np.uint8)
    given = beside(problem, image.shape)
    own = np.int32 if problem.gives_labels else np.float32
    found = do.solve(image, problem, **given)
    assert found.dtype == own
    assert np.array_equal(do.solve(image.astype(np.float32), problem, **given), found)
    assert do.solve(image, problem, dtype=np.float64, **given).dtype == np.float64
