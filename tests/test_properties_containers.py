"""Whatever the container, chunks, batch or mask: the same bytes as the whole image in NumPy."""

from __future__ import annotations

import re
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import diffusion_ops as do
from diffusion_ops.containers import dask_arrays
from diffusion_ops.evolution.arguments import make_legs
from diffusion_ops.evolution.legs import total_halo
from diffusion_ops.evolution.operator import Operator
from tests.operator_samples import DECISIVE, EVOLUTIONS, PLACED, picture, samples, short_ways

# Kernels compile once per dtype, number of axes and sort of step; few cases that still take all paths.
CASES = {
    "plane": (2, np.float32),
    "double": (2, np.float64),
    "volume": (3, np.float32),
    "bytes": (2, np.uint8),
}

PROPERTY = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def chunked(draw: Any, length: int) -> tuple[int, ...]:
    """Draw a way to cut an axis into ragged chunks."""
    cuts = sorted(draw(st.sets(st.integers(1, length - 1), max_size=3))) if length > 1 else []
    return tuple(int(n) for n in np.diff([0, *cuts, length]))


@st.composite
def images(
    draw: Any, ndim: int, dtype: type, few: bool = False, channels: int | None = None
) -> dict[str, Any]:
    """Draw an image with chunks, holes, a mask and a channel axis, or without them; of so many channels if it is said.

    Where kernels shall be few, there is always a mask, and as many channels where there are several.
    """
    top = 60 if ndim == 2 else 18
    spatial = tuple(draw(st.integers(1, top)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    channel_axis = draw(st.sampled_from([0, ndim, -1] if channels and channels > 1 else [None, 0, ndim, -1]))
    shape, chunks = list(spatial), [draw(chunked(n)) for n in spatial]
    if channel_axis is not None:
        count = channels or (2 if few else draw(st.integers(1, 3)))
        shape.insert(channel_axis % (ndim + 1), count)
        chunks.insert(channel_axis % (ndim + 1), (count,))
    image = (rng.random(shape) * 200).astype(dtype)
    if image.dtype.kind == "f" and draw(st.booleans()):
        image.flat[rng.integers(0, image.size, 2)] = np.nan
    mask = rng.random(spatial) > 0.1 if few or draw(st.booleans()) else None
    lazy = mask
    if mask is not None and draw(st.booleans()):
        lazy = da.from_array(mask, tuple(draw(chunked(n)) for n in spatial))
    return {
        "image": image,
        "chunks": tuple(chunks),
        "mask": mask,
        "lazy_mask": lazy,
        "channel_axis": channel_axis,
        "nodata": draw(st.sampled_from([None, 7])),
    }


def travel(draw: Any, operator: Operator) -> dict[str, Any]:
    """Draw how far to go: explicit steps or cycles, iterations, or once."""
    if operator.controlled_by == "once":
        return {}
    if not operator.inertial_cycles or draw(st.booleans()):
        return {"steps": draw(st.integers(0, 9))}
    time = draw(st.sampled_from([1.0, 8.0, 20.0])) * operator.stable_dt((1.0,) * operator.dimensions[0])
    return {"time": time, "schedule": {"cycles": draw(st.integers(1, 3))}}


def draw_guide(draw: Any, drawn: dict[str, Any]) -> tuple[Any, Any]:
    """Draw another image with the spatial axes, or with two channels more, and the same in chunks of its own."""
    axis, shape = drawn["channel_axis"], list(drawn["image"].shape)
    if axis is not None:
        del shape[axis]
        if draw(st.booleans()):
            shape.insert(axis % drawn["image"].ndim, 2)
    guide = picture(*shape, seed=draw(st.integers(0, 100)))
    if draw(st.booleans()):
        guide.flat[0] = np.nan
    return guide, da.from_array(guide, tuple(draw(chunked(n)) for n in shape))


def same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays agree in shape, type and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def samples_for(name: str, case: str) -> list[Operator]:
    """Return an operator's samples; further ones take the same paths for all types and axes: planes do for them."""
    found = samples(name)[: None if case == "plane" else 1]
    return [operator for operator in found if CASES[case][0] in operator.dimensions]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}-{case}")
        for name in EVOLUTIONS
        for case in CASES
        if samples_for(name, case)
    ],
)
@given(data=st.data())
@PROPERTY
def test_any_chunks_give_the_bytes_of_the_whole_image(name: str, case: str, data: st.DataObject) -> None:
    operator = data.draw(st.sampled_from(samples_for(name, case)))
    few = case in ("double", "volume")
    drawn = data.draw(images(*CASES[case], few=few, channels=operator.channels))
    image, chunks, axis = drawn["image"], drawn["chunks"], drawn["channel_axis"]
    options = {"channel_axis": axis, "nodata": drawn["nodata"], **travel(data.draw, operator)}
    guide, lazy_guide = None, None
    if operator.reads_guide and data.draw(st.booleans()):
        guide, lazy_guide = draw_guide(data.draw, drawn)
    whole = do.evolve(image, operator, mask=drawn["mask"], guide=guide, **options)
    lazy = do.evolve(
        da.from_array(image, chunks),
        operator,
        mask=drawn["lazy_mask"],
        guide=lazy_guide,
        batch=data.draw(st.sampled_from([None, 1, 2, 5])),
        **options,
    )
    if axis is not None:
        chunks = list(chunks)
        # Without a step it stays the image.
        count = image.shape[axis]
        chunks[axis] = (operator.result_channels(count) if options.get("steps", 1) else count,)
    assert lazy.chunks == tuple(chunks)
    assert same_bytes(lazy.compute(scheduler="synchronous"), whole)


@given(data=st.data())
@PROPERTY
def test_any_chunks_give_the_same_statistics_and_chains(data: st.DataObject) -> None:
    drawn = data.draw(images(2, np.float32))
    image, options = drawn["image"], {"channel_axis": drawn["channel_axis"]}
    contrast = data.draw(
        st.sampled_from([{"quantile": 0.9}, {"quantile": {"q": 0.5, "sigma": 1.5}}, {"mad": 2}])
    )
    chain = [do.PeronaMalik(1e4), do.PeronaMalik(contrast), do.Heat()][: data.draw(st.integers(2, 3))]
    chain = chain[data.draw(st.integers(0, 1)) :]
    batch = data.draw(st.sampled_from([None, 1, 3]))

    def lazily() -> Any:
        lazy = da.from_array(image, drawn["chunks"])
        found = do.evolve(lazy, chain, steps=4, mask=drawn["lazy_mask"], batch=batch, **options)
        return found.compute(scheduler="synchronous")

    try:
        whole = do.evolve(image, chain, steps=4, mask=drawn["mask"], **options)
    except ValueError as error:
        # No valid cell, or none with a gradient.
        with pytest.raises(ValueError, match=re.escape(str(error))):
            lazily()
    else:
        assert same_bytes(lazily(), whole)
        assert same_bytes(do.evolve(image, chain, steps=4, mask=drawn["mask"], batch=batch, **options), whole)


@given(data=st.data())
@PROPERTY
def test_xarray_gives_the_bytes_of_numpy(data: st.DataObject) -> None:
    drawn = data.draw(images(2, np.float32))
    image, axis = drawn["image"], drawn["channel_axis"]
    dims = ["y", "x"]
    if axis is not None:
        dims.insert(axis % 3, "band")
    array = xr.DataArray(image, dims=dims)
    array = array.chunk(dict(zip(dims, drawn["chunks"], strict=True))) if data.draw(st.booleans()) else array
    options = {"mask": drawn["mask"], "nodata": drawn["nodata"], "steps": 3}
    whole = do.evolve(image, do.PeronaMalik(1e4), channel_axis=axis, **options)
    assert same_bytes(do.evolve(array, do.PeronaMalik(1e4), **options).compute().values, whole)


def ways_with_halo(operator: Operator) -> list[tuple[dict[str, Any], tuple[int, ...]]]:
    """Return short ways on which an operator reads around a tile and shows it, and how far."""
    if operator.name in DECISIVE:
        return []
    spacing = (1.0,) * operator.dimensions[0]
    found = [(far, total_halo(make_legs(operator, spacing, **far), spacing)) for far in short_ways(operator)]
    return [(far, halo) for far, halo in found if any(halo)]


@pytest.mark.parametrize("name", [name for name in EVOLUTIONS if ways_with_halo(samples(name)[0])])
def test_a_halo_one_too_small_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = samples(name)[0]
    for far, halo in ways_with_halo(operator):
        # A halo that reaches to the ends of a fixed grid is needed in full for some cuts only.
        cuts = range(16) if name in PLACED else range(1)
        # Where singles show it already, doubles need not be compiled.
        every = ((dtype, cut) for dtype in (np.float32, np.float64) for cut in cuts)
        assert any(_short_halo_shows(operator, far, halo, *each, monkeypatch) for each in every)


def _short_halo_shows(
    operator: Operator,
    far: dict[str, Any],
    halo: tuple[int, ...],
    dtype: type,
    cut: int,
    monkeypatch: pytest.MonkeyPatch,
) -> bool:
    """Return whether bits change where the halo is one too small, with two chunks per axis that meet at a cut."""
    image = picture(*(2 * h + 14 + cut for h in halo), dtype=dtype)
    lazy = da.from_array(image, tuple((h + 7 + cut, h + 7) for h in halo))
    whole = do.evolve(image, operator, **far)
    assert same_bytes(do.evolve(lazy, operator, batch=1000, **far).compute(), whole)
    with monkeypatch.context() as patch:
        patch.setattr(dask_arrays, "total_halo", lambda *a: tuple(max(h - 1, 0) for h in total_halo(*a)))
        short = do.evolve(lazy, operator, batch=1000, **far).compute()
    return not np.array_equal(short, whole)
