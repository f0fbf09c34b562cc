"""Steps as a graph: branches, guides, masks, octaves, further results and early stops give the whole image's bits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffusion_ops as do
from diffusion_ops.evolution.operator import OPERATORS
from pipelines.events import TileDone
from pipelines.record.journal import FileJournal, Finished
from pipelines.run.preview import preview
from pipelines.run.run import RefusedError, Report, run
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec, SpecError
from tests.operator_samples import samples, ways
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec

HEAT = {"operator": "heat"}
LINEAR = {"operator": "perona-malik", "contrast": 5000, "conductance": "rational"}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return ragged_image((139, 125))


def graph(folder: Path, image: np.ndarray, steps: list[dict[str, Any]], /, **sections: Any) -> Spec:
    """Return a spec of steps, cut into many tiles and passes."""
    return small_spec(save_source(folder, image), folder / "out.zarr", steps=steps, **sections)


def carry_out(spec: Spec) -> Report:
    """Run and verify a spec."""
    report = run(spec)
    assert report.exit_code == 0, report.data["failed"][:1]
    checked = verify(spec.sink.uri, samples=3)
    assert checked["ok"], checked["problems"]
    return report


def result_of(folder: Path, image: np.ndarray, steps: list[dict[str, Any]], **sections: Any) -> np.ndarray:
    """Return the result of a run that verifies, and whose preview has its bits."""
    spec = graph(folder, image, steps, **sections)
    carry_out(spec)
    found = read_result(spec.sink.uri)
    preview(spec, "30:110,20:100", str(folder / "part.zarr"))
    assert same(read_result(folder / "part.zarr"), found[30:110, 20:100])
    return found


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.dtype == second.dtype and first.tobytes() == np.ascontiguousarray(second).tobytes()


# ---- branches


def test_a_step_may_begin_from_any_earlier_one(tmp_path, image):
    steps = [
        {**HEAT, "name": "calm", "time": 2},
        {**HEAT, "name": "mask", "time": 30},
        {**LINEAR, "input": "calm", "mask": "mask", "steps": 5},
        {**HEAT, "steps": 2},
    ]
    calm = do.evolve(image, do.Heat(), time=2)
    # The mask has a value wherever the image has one.
    linear = do.evolve(calm, do.PeronaMalik(5000, "rational"), steps=5)
    assert same(result_of(tmp_path, image, steps), do.evolve(linear, do.Heat(), steps=2))


def test_what_lies_beyond_a_mask_is_kept_for_the_steps_after(tmp_path):
    image = ragged_image((120, 110)) - 20
    mask = np.maximum(image, 0).astype(np.float32)
    np.save(tmp_path / "unused.npy", mask)
    steps = [{**LINEAR, "steps": 4, "mask": "source"}, {**HEAT, "steps": 3}]
    image[30:50, 20:40] = 0
    first = do.evolve(image, do.PeronaMalik(5000, "rational"), steps=4, mask=np.nan_to_num(image) != 0)
    expected = do.evolve(first, do.Heat(), steps=3)
    assert same(result_of(tmp_path, image, steps), expected)
    # Without the mask heat reaches into the hole.
    assert (expected[30:50, 20:40] != 0).any()


def test_a_new_quantity_has_no_value_beyond_a_mask(tmp_path, image):
    slope = {"operator": "gradient-magnitude", "sigma": 1, "mask": "bright"}
    steps = [
        {"operator": "thresholding", "name": "bright", "thresholds": [90.0]},
        {**slope, "input": "source"},
    ]
    bright = do.evolve(image, do.Thresholding(thresholds=90.0))
    expected = do.evolve(image, do.GradientMagnitude(sigma=1), mask=np.nan_to_num(bright) != 0)
    assert np.isnan(expected[bright == 0]).all()
    assert same(result_of(tmp_path, image, steps), expected)
    (tmp_path / "further").mkdir()
    further = result_of(tmp_path / "further", image, [*steps, {**HEAT, "steps": 2}])
    assert same(further, do.evolve(expected, do.Heat(), steps=2))


def test_whole_numbers_of_a_new_quantity_are_nodata_beyond_a_mask(tmp_path):
    image = np.random.default_rng(0).integers(0, 250, (203, 187)).astype(np.uint8)
    image[10:30, 40:60] = 255
    slope = {"operator": "gradient-magnitude", "sigma": 1, "mask": "bright", "input": "source"}
    steps = [{"operator": "thresholding", "name": "bright", "thresholds": [90.0]}, slope]
    found = result_of(tmp_path, image, steps, source={"nodata": 255}, sink={"dtype": "uint8"})
    mask = (image > 90) & (image < 255)
    assert (found[~mask] == 255).all()
    assert same(found, do.evolve(image, do.GradientMagnitude(sigma=1), mask=mask, nodata=255, dtype=np.uint8))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow] * (name not in ("edge-enhancing", "morphological-geodesic-contour")),
        )
        for name, operator in OPERATORS.items()
        if operator.reads_guide
    ],
)
def test_the_structure_of_another_step_may_guide(tmp_path, image, name):
    operator = next(o for o in samples(name) if 2 in o.dimensions)
    far = ways(operator)[0]
    parameters = {name: getattr(operator, name) for name in operator.parameters()}
    steps = [
        {**HEAT, "name": "calm", "time": 1},
        {"operator": name, "guide": "calm", "input": "source", **parameters, **far},
    ]
    calm = do.evolve(image, do.Heat(), time=1)
    assert same(result_of(tmp_path, image, steps), do.evolve(image, operator, guide=calm, **far))


# ---- further results


def test_steps_and_what_was_removed_are_written_in_the_same_run(tmp_path, image):
    outputs = [
        {"name": "calm", "uri": str(tmp_path / "calm.zarr")},
        {"name": "source", "residual": True, "uri": str(tmp_path / "removed.zarr")},
    ]
    steps = [{**HEAT, "name": "calm", "time": 2}, {**HEAT, "steps": 3}]
    spec = graph(tmp_path, image, steps, outputs=outputs)
    carry_out(spec)
    calm = do.evolve(image, do.Heat(), time=2)
    final = do.evolve(calm, do.Heat(), steps=3)
    assert same(read_result(spec.sink.uri), final)
    assert same(read_result(tmp_path / "calm.zarr"), calm)
    assert np.array_equal(read_result(tmp_path / "removed.zarr"), image - final, equal_nan=True)
    chunk = max((tmp_path / "calm.zarr").rglob("c/0/0"), key=lambda path: path.stat().st_size)
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    assert not verify(spec.sink.uri, samples=1)["ok"]


def test_a_further_result_that_exists_is_not_overwritten(tmp_path, image):
    (tmp_path / "calm.zarr").mkdir()
    outputs = [{"name": "calm", "uri": str(tmp_path / "calm.zarr")}]
    spec = graph(tmp_path, image, [{**HEAT, "name": "calm", "time": 1}, {**HEAT, "time": 1}], outputs=outputs)
    with pytest.raises(RefusedError, match=r"calm\.zarr exists already"):
        run(spec)
    assert not Path(spec.workdir).exists()


@pytest.mark.thorough
def test_noise_and_what_diffusion_takes_away_again(tmp_path, image):
    """The seed algorithm: add noise of a level, diffuse, keep both the result and what was removed."""
    steps = [{"operator": "random-noise", "name": "noisy", "level": 12.0, "seed": 7}, {**LINEAR, "time": 3}]
    outputs = [{"name": "noisy", "residual": True, "uri": str(tmp_path / "removed.zarr")}]
    spec = graph(tmp_path, image, steps, outputs=outputs)
    carry_out(spec)
    noisy = do.evolve(image, do.RandomNoise(level=12.0, seed=7))
    denoised = do.evolve(noisy, do.PeronaMalik(5000, "rational"), time=3)
    assert same(read_result(spec.sink.uri), denoised)
    assert np.array_equal(read_result(tmp_path / "removed.zarr"), noisy - denoised, equal_nan=True)


# ---- levels


def test_coarse_levels_lead_to_finer_ones(tmp_path, image):
    steps = [
        {**HEAT, "name": "coarse", "octave": 2, "time": 4},
        {**HEAT, "name": "middle", "octave": 1, "time": 4},
        {**HEAT, "name": "fine", "time": 1},
    ]
    found = result_of(tmp_path, image, steps)
    assert np.array_equal(np.isnan(found), np.isnan(image))
    # Time keeps its meaning: the coarse level's cells are four apart.
    smooth = do.evolve(image, do.Heat(), time=9)
    assert np.nanstd(found - smooth) < 0.5 * np.nanstd(image - smooth)


@pytest.mark.thorough
@pytest.mark.parametrize(("tile", "batch"), [(32, 1), (64, 2), (192, 50)])
def test_levels_do_not_depend_on_tiles(tmp_path, image, tile, batch):
    steps = [{**HEAT, "name": "coarse", "octave": 2, "time": 20}, {**HEAT, "time": 1}]
    run_, sink = {"tile": tile, "batch": batch}, {"chunk": 32}
    found = result_of(tmp_path, image, steps, run=run_, sink=sink)
    (tmp_path / "other").mkdir()
    other = result_of(tmp_path / "other", image, steps, run={"tile": 96, "batch": 7}, sink=sink)
    assert same(found, other)


# ---- edges


@pytest.mark.thorough
@pytest.mark.parametrize(("tile", "batch"), [(32, 1), (96, 4)])
def test_edges_are_joined_over_the_whole_image(tmp_path, tile, batch):
    image = ragged_image((203, 187))
    steps = [{**HEAT, "time": 1}, {"operator": "canny", "low": 3.0, "high": 12.0, "sigma": 1.0}]
    spec = graph(tmp_path, image, steps, run={"tile": tile, "batch": batch}, sink={"chunk": 32})
    carry_out(spec)
    calm = do.evolve(image, do.Heat(), time=1)
    expected = do.evolve(calm, do.Canny(3.0, 12.0, sigma=1.0))
    assert same(read_result(spec.sink.uri), expected)
    assert 0.01 < np.nanmean(expected) < 0.5
    weak = do.evolve(calm, do.Canny(3.0, 12.0, sigma=1.0, joined=False)) == 1
    # Some weak edges stay and some go.
    assert 0 < (expected[weak] == 1).mean() < 1
    assert "join edges over the whole image" in " ".join(verify(spec.sink.uri)["notes"])
    with pytest.raises(ValueError, match="join edges over the whole image"):
        preview(spec, "0:64,0:64", str(tmp_path / "part.zarr"))


def test_frames_are_joined_apart(tmp_path):
    frames = np.stack([ragged_image((70, 80), seed=i, holes=False) for i in range(3)])
    steps = [{"operator": "canny", "low": 3.0, "high": 80.0}, {**HEAT, "steps": 1}]
    spec = graph(tmp_path, frames, steps, image={"ndim": 2}, run={"tile": 32}, sink={"chunk": 32})
    carry_out(spec)
    for frame, found in zip(frames, read_result(spec.sink.uri), strict=True):
        edges = do.evolve(frame, do.Canny(3.0, 80.0))
        assert same(found, do.evolve(edges, do.Heat(), steps=1))


def test_pixels_without_a_value_have_none_in_another_quantity(tmp_path):
    image = np.clip(np.nan_to_num(ragged_image((90, 80))), 0, 200).astype(np.uint8)
    image[30:40, 20:50] = 255
    np.save(tmp_path / "source.npy", image)
    steps = [{"operator": "gradient-magnitude", "sigma": 1.0}]
    source = {"uri": str(tmp_path / "source.npy"), "nodata": 255}
    spec = small_spec(source["uri"], tmp_path / "out.zarr", steps=steps, source=source)
    carry_out(spec)
    found = read_result(spec.sink.uri)
    assert np.array_equal(found == 255, image == 255)
    assert same(found, do.evolve(image, do.GradientMagnitude(sigma=1.0), nodata=255))


# ---- energies


@pytest.mark.thorough
def test_an_operator_stops_when_its_energy_hardly_falls(tmp_path, image):
    steps = [
        {"operator": "total-variation", "weight": 30.0, "steps": 300, "until": {"energy": 1e-3, "every": 10}},
        {**HEAT, "steps": 2},
    ]
    spec = graph(tmp_path, image, steps)
    report = carry_out(spec).data
    taken = report["stopped"][0]["steps"]
    assert 20 <= taken < 300
    assert taken % 10 == 0
    energies = [entry["energy"] for entry in report["energies"]]
    assert len(energies) == taken // 10
    assert all(a > b for a, b in itertools.pairwise(energies))
    short = do.evolve(image, do.TotalVariation(30.0), steps=taken)
    assert same(read_result(spec.sink.uri), do.evolve(short, do.Heat(), steps=2))
    with pytest.raises(ValueError, match="stops by the energy of the whole image"):
        preview(spec, "0:64,0:64", str(tmp_path / "part.zarr"))


@pytest.mark.thorough
def test_stopping_does_not_depend_on_tiles_or_interruption(tmp_path, image):
    steps = [
        {"operator": "total-variation", "weight": 30.0, "steps": 100, "until": {"energy": 1e-3, "every": 8}}
    ]
    found = {}
    for tile, batch in ((64, 3), (128, 50)):
        folder = tmp_path / str(tile)
        folder.mkdir()
        spec = graph(folder, image, steps, run={"tile": tile, "batch": batch})
        found[tile] = carry_out(spec).data
        journal = Path(spec.workdir) / "journal.jsonl"
        assert journal.exists()
    assert found[64]["energies"] == found[128]["energies"]
    assert found[64]["stopped"] == found[128]["stopped"]
    assert same(read_result(tmp_path / "64" / "out.zarr"), read_result(tmp_path / "128" / "out.zarr"))


# ---- refusals


@pytest.mark.parametrize(
    ("steps", "sections", "message"),
    [
        ([{**HEAT, "time": 1, "guide": "source"}], {}, "heat does not read a guide"),
        ([{**HEAT, "time": 1, "mask": "nothing"}], {}, "there is no earlier step 'nothing'"),
        ([{**HEAT, "time": 1, "octave": 1}], {}, "its octave is 0"),
        ([{**HEAT, "time": 1, "octave": -1}], {}, "octave"),
        (
            [{**HEAT, "time": 1, "name": "a"}, {**HEAT, "time": 1, "input": "source"}],
            {},
            "does not use the step 'a'",
        ),
        ([{**HEAT, "time": 1}], {"outputs": [{"name": "calm", "uri": "x.zarr"}]}, "there is no step 'calm'"),
        ([{**HEAT, "time": 1, "until": {"energy": 0}}], {}, "greater than 0"),
        ([{"operator": "random-noise", "level": 1.0, "time": 1}], {}, "is applied once"),
        ([{"operator": "total-variation", "weight": 1.0, "time": 1}], {}, "goes by iterations"),
        ([{"operator": "random-noise", "level": 1.0, "until": {"energy": 0.1}}], {}, "has no energy"),
        (
            [{**HEAT, "time": 1, "until": {"energy": 0.1}, "schedule": {"adaptive": 0.5}}],
            {},
            "Remove 'until', or give schedule: explicit",
        ),
        ([{**HEAT, "time": 1, "until": {"energy": 0.1, "evry": 3}}], {}, "Did you mean 'every'?"),
        (
            [{**HEAT, "time": 1}],
            {"outputs": [{"name": "source", "uri": "x.zarr", "colour": 3}]},
            "unknown key 'colour'",
        ),
        (
            [{**HEAT, "time": 1}],
            {"outputs": [{"name": "heat", "residual": True, "uri": "x.zarr"}]},
            "its residual is 0. Allowed: source.",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, image, steps, sections, message):
    with pytest.raises(SpecError) as error:
        graph(tmp_path, image, steps, **sections)
    assert message in str(error.value)


def test_two_results_at_one_place_are_refused(tmp_path, image):
    outputs = [{"name": "heat", "uri": str(tmp_path / "out.zarr")}]
    with pytest.raises(SpecError, match="is written twice"):
        graph(tmp_path, image, [{**HEAT, "time": 1}], outputs=outputs)


def test_a_residual_of_another_number_of_channels_is_refused(tmp_path):
    image = ragged_image((3, 70, 80), holes=False)
    outputs = [{"name": "source", "residual": True, "uri": str(tmp_path / "removed.zarr")}]
    steps = [{"operator": "gradient-magnitude"}]
    spec = graph(tmp_path, image, steps, outputs=outputs, source={"axes": "cyx"})
    with pytest.raises(ValueError, match="source is not possible: it has 3 channels, and the result"):
        run(spec)
    assert not Path(spec.workdir).exists()


def test_the_plan_names_all_results(tmp_path, image):
    outputs = [{"name": "source", "residual": True, "uri": str(tmp_path / "removed.zarr")}]
    spec = graph(tmp_path, image, [{**HEAT, "time": 1}], outputs=outputs)
    plan = json.loads(json.dumps(carry_out(spec).data["plan"]))
    assert plan["outputs"] == [spec.sink.uri, str(tmp_path / "removed.zarr")]


# ---- adaptive steps


@pytest.mark.parametrize(("tile", "norm"), [(64, "maximum"), (192, "rms")])
def test_adaptive_steps_are_those_of_the_whole_image(tmp_path, image, tile, norm):
    schedule = {"adaptive": {"tolerance": 2.0, "norm": norm, "batch": 2}}
    steps = [
        {**HEAT, "time": 1},
        {"operator": "perona-malik", "contrast": {"quantile": 0.5}, "time": 2, "schedule": schedule},
        {**HEAT, "steps": 2},
    ]
    spec = graph(tmp_path, image, steps, run={"tile": tile})
    report = carry_out(spec).data
    ((entry),) = report["adaptive"]
    assert entry["position"] == 1
    assert len(entry["batches"]) > 2
    assert entry["batches"][-1]["time"] == 2
    operators = [do.Heat(), do.PeronaMalik({"quantile": 0.5}), do.Heat()]
    calm = do.evolve(image, operators[0], time=1)
    middle = do.evolve(calm, operators[1], time=2, schedule=schedule)
    assert same(read_result(spec.sink.uri), do.evolve(middle, operators[2], steps=2))
    assert not list(Path(spec.workdir).glob("run-*"))
    with pytest.raises(ValueError, match="error over the whole image"):
        preview(spec, "0:64,0:64", str(tmp_path / "part.zarr"))


@pytest.mark.thorough
def test_an_interrupted_adaptive_run_goes_on_with_the_same_steps(tmp_path, image):
    schedule = {"adaptive": 1.0}
    steps = [{**LINEAR, "time": 2, "schedule": schedule}]
    spec = graph(tmp_path, image, steps)
    seen: list[TileDone] = []

    def interrupt(event: Any) -> None:
        if isinstance(event, TileDone):
            seen.append(event)
            if len(seen) == 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, listeners=[interrupt])
    assert carry_out(spec).data["tiles_resumed"] >= 0
    expected = do.evolve(image, do.PeronaMalik(5000, "rational"), time=2, schedule=schedule)
    assert same(read_result(spec.sink.uri), expected)
    events = FileJournal(Path(spec.workdir) / "journal.jsonl").events()
    rounds = [event.round for event in events if isinstance(event, Finished)]
    assert max(rounds) > 1


@pytest.mark.thorough
def test_a_coarser_level_of_a_step_is_made_before_the_state_of_the_step_goes(tmp_path, image):
    """The state went as soon as its stage was complete: nobody knew that halving reads it."""
    steps = [
        {**HEAT, "steps": 4, "name": "fine"},
        {**HEAT, "steps": 4, "octave": 1, "name": "coarse"},
        {**HEAT, "steps": 2, "name": "end"},
    ]
    results = []
    for tile in (32, 256):
        folder = tmp_path / f"{tile}"
        folder.mkdir()
        spec = graph(folder, image, steps, run={"tile": tile, "batch": 4}, sink={"chunk": 32})
        carry_out(spec)
        results.append(read_result(spec.sink.uri))
    assert same(*results)
