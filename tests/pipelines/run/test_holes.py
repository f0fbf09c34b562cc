"""Tiles without a single valid pixel, and tiles without a hole, as rotated scenes have: the bits of the whole image."""

from __future__ import annotations

import numpy as np
import pytest

import diffusion_ops as do
from pipelines.run.run import run
from pipelines.run.verify import verify
from tests.operator_samples import each_evolution, samples, ways
from tests.pipelines.runs import read_result, save_source, small_spec


def scene(channels: int = 2) -> np.ndarray:
    """Return channels of which a corner has values: of the tiles of 64, some are whole and some hold none."""
    image = (np.random.default_rng(0).random((channels, 200, 210)) * 200).astype(np.float32)
    image[:, 125:] = image[:, :, 125:] = np.nan
    return image


@pytest.mark.thorough
@each_evolution
def test_tiles_with_and_without_holes_have_the_bits_of_the_whole_scene(tmp_path, name):
    operator = next(o for o in samples(name) if 2 in o.dimensions)
    image = scene(operator.channels or 2)
    parameters = {name: getattr(operator, name) for name in operator.parameters()}
    far = ways(operator)[0]
    steps = [{"operator": name, **parameters, **far}]
    source = {"uri": save_source(tmp_path, image), "axes": "cyx"}
    spec = small_spec(
        source["uri"], tmp_path / "out.zarr", source=source, steps=steps, run={"batch": 2, "tile": 64}
    )
    report = run(spec)
    assert report.exit_code == 0, report.data["failed"][:1]
    assert verify(spec.sink.uri, samples=3)["ok"]
    expected = do.evolve(image, operator, channel_axis=0, **far)
    assert read_result(spec.sink.uri).tobytes() == expected.tobytes()


def test_what_follows_a_map_carries_for_the_channels_of_the_map(tmp_path):
    image = scene()
    steps = [
        {"operator": "gradient-magnitude", "sigma": 0.0},
        {"operator": "total-variation", "weight": 10, "steps": 5},
    ]
    source = {"uri": save_source(tmp_path, image), "axes": "cyx"}
    spec = small_spec(source["uri"], tmp_path / "out.zarr", source=source, steps=steps, run={"batch": 3})
    report = run(spec)
    assert report.exit_code == 0, report.data["failed"][:1]
    operators = [do.GradientMagnitude(sigma=0.0), do.TotalVariation(10)]
    expected = do.evolve(image, operators, steps=[None, 5], channel_axis=0)
    assert read_result(spec.sink.uri).tobytes() == expected.tobytes()


def test_states_before_a_map_have_the_channels_of_the_image(tmp_path):
    image = scene()
    steps = [{"operator": "heat", "steps": 6, "dt": 0.2}, {"operator": "gradient-magnitude", "sigma": 0.0}]
    source = {"uri": save_source(tmp_path, image), "axes": "cyx"}
    spec = small_spec(source["uri"], tmp_path / "out.zarr", source=source, steps=steps, run={"batch": 2})
    report = run(spec)
    assert report.exit_code == 0, report.data["failed"][:1]
    operators = [do.Heat(), do.GradientMagnitude(sigma=0.0)]
    expected = do.evolve(image, operators, steps=[6, None], dt=[0.2, None], channel_axis=0)
    assert read_result(spec.sink.uri).tobytes() == expected.tobytes()
