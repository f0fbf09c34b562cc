"""A run gives the bits of the whole image, in the memory that was planned, and refuses before it touches anything."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import diffusion_ops as do
from pipelines.clusters import address
from pipelines.events import StageDone, StageStarted, TileDone, TileFailed, TileLost
from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, read_canonical
from pipelines.record.holding import BusyError
from pipelines.record.journal import event_of, line_of
from pipelines.record.workdir import OccupiedError, Workdir
from pipelines.run.preview import parse_roi, preview
from pipelines.run.run import RefusedError, run
from pipelines.run.status import NoRunError, status
from pipelines.run.verify import verify
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec

OPERATOR = do.PeronaMalik(contrast=5000, conductance="rational")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return ragged_image((203, 187))


@pytest.fixture(scope="module")
def expected(image) -> np.ndarray:
    return do.evolve(image, OPERATOR, steps=9)


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tile=st.sampled_from([64, 128, 192, 512]),
    batch=st.integers(1, 9),
    threads=st.integers(1, 3),
)
def test_any_tile_batch_and_thread_count_gives_the_same_bytes(
    tmp_path_factory, image, expected, tile, batch, threads
):
    folder = tmp_path_factory.mktemp("run")
    spec = small_spec(
        save_source(folder, image),
        folder / "out.zarr",
        run={"tile": tile, "batch": batch, "threads": threads},
    )
    assert run(spec).exit_code == 0
    assert same(read_result(folder / "out.zarr"), expected)


@pytest.mark.thorough
def test_processes_and_a_running_scheduler_give_the_same_bytes(tmp_path, image, expected):
    from distributed import LocalCluster

    source = save_source(tmp_path, image)
    assert run(small_spec(source, tmp_path / "local.zarr", run={"cluster": "local"})).exit_code == 0
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        spec = small_spec(source, tmp_path / "address.zarr", run={"cluster": cluster.scheduler_address})
        assert run(spec).exit_code == 0
    assert same(read_result(tmp_path / "local.zarr"), expected)
    assert same(read_result(tmp_path / "address.zarr"), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "float64", ">u2", ">f4"])
def test_every_dtype_gives_the_bits_of_evolve(tmp_path, dtype):
    image = np.nan_to_num(ragged_image((150, 130))).astype(dtype)
    result = do.evolve(image, OPERATOR, steps=9)
    run(small_spec(save_source(tmp_path, image), tmp_path / "out.zarr"))
    assert same(read_result(tmp_path / "out.zarr"), result)


def test_nodata_comes_back_and_is_never_made(tmp_path):
    image = np.nan_to_num(ragged_image((150, 130))).astype(np.uint8)
    image[image == 0] = 1
    image[60:90, 20:100] = 0
    spec = small_spec(
        save_source(tmp_path, image), tmp_path / "out.zarr", source={"nodata": 0}, sink={"dtype": "uint8"}
    )
    run(spec)
    result = read_result(tmp_path / "out.zarr")
    assert np.array_equal(result == 0, image == 0)
    assert same(result, do.evolve(image, OPERATOR, steps=9, nodata=0, dtype="uint8"))


def test_channels_share_one_conductance(tmp_path):
    image = np.stack([np.nan_to_num(ragged_image((150, 130), seed)) for seed in range(3)], axis=-1).astype(
        np.uint8
    )
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    run(spec)
    assert same(read_result(tmp_path / "out.zarr"), do.evolve(image, OPERATOR, steps=9, channel_axis=-1))


def test_a_volume_keeps_its_spacing(tmp_path):
    volume = ragged_image((20, 70, 90))
    spec = small_spec(
        save_source(tmp_path, volume),
        tmp_path / "out.zarr",
        source={"axes": "zyx", "spacing": {"z": 3.0, "y": 1.0, "x": 1.0}},
        sink={"chunk": 16},
        run={"tile": 32, "batch": 4},
        steps=[{"operator": "heat", "time": 3}],
    )
    run(spec)
    assert same(read_result(tmp_path / "out.zarr"), do.evolve(volume, "heat", time=3, spacing=(3, 1, 1)))


def test_frames_of_a_stack_are_images_of_their_own(tmp_path):
    stack = ragged_image((3, 90, 110))
    spec = small_spec(save_source(tmp_path, stack), tmp_path / "out.zarr", source={"axes": "tyx"})
    run(spec)
    result = read_result(tmp_path / "out.zarr")
    for frame, before in zip(result, stack, strict=True):
        assert same(frame, do.evolve(before, OPERATOR, steps=9))


def test_a_chain_with_statistics_is_measured_between_its_steps(tmp_path, image):
    steps = [
        {"operator": "perona-malik", "contrast": {"quantile": 0.9}, "conductance": "rational", "steps": 5},
        {"operator": "perona-malik", "contrast": {"mad": 2}, "conductance": "rational", "steps": 5},
    ]
    report = run(small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", steps=steps))
    chain = [
        do.PeronaMalik(contrast={"quantile": 0.9}, conductance="rational"),
        do.PeronaMalik(contrast={"mad": 2}, conductance="rational"),
    ]
    assert same(read_result(tmp_path / "out.zarr"), do.evolve(image, chain, steps=5))
    assert [entry["position"] for entry in report.data["statistics"]] == [0, 1]
    assert verify(str(tmp_path / "out.zarr"), samples=3)["ok"]


def test_the_pyramid_is_written_in_the_same_run(tmp_path):
    image = ragged_image((1300, 1100), holes=False)
    spec = small_spec(
        save_source(tmp_path, image), tmp_path / "out.ome.zarr", run={"tile": 256, "batch": None}
    )
    report = run(spec)
    ome = zarr.open(str(tmp_path / "out.ome.zarr"), mode="r").attrs["ome"]
    paths = [dataset["path"] for dataset in ome["multiscales"][0]["datasets"]]
    levels = [np.asarray(zarr.open(str(tmp_path / "out.ome.zarr"), mode="r")[path]) for path in paths]
    assert len(levels) > 1
    for fine, coarse in itertools.pairwise(levels):
        even = fine[: fine.shape[0] // 2 * 2, : fine.shape[1] // 2 * 2].astype(np.float64)
        mean = even.reshape(even.shape[0] // 2, 2, -1, 2).mean((1, 3))
        assert np.allclose(coarse[: mean.shape[0], : mean.shape[1]], mean, rtol=1e-6)
    assert report.data["complete"]
    assert verify(str(tmp_path / "out.ome.zarr"), samples=2)["ok"]


def test_tiles_of_the_next_batch_start_before_the_batch_ends(tmp_path, image):
    events: list[object] = []
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", run={"threads": 1})
    run(spec, listeners=[events.append])
    second = next(i for i, e in enumerate(events) if isinstance(e, StageStarted) and e.stage == 1)
    first_done = next(i for i, e in enumerate(events) if isinstance(e, StageDone) and e.stage == 0)
    assert second < first_done


def test_states_between_batches_are_gone_at_the_end(tmp_path, image):
    run(small_spec(save_source(tmp_path, image), tmp_path / "out.zarr"))
    left = {path.name for path in (tmp_path / "out.zarr.run").iterdir()}
    assert not list((tmp_path / "out.zarr.run").rglob("zarr.json"))
    assert {"run.json", "journal.jsonl", "report.json"} <= left


def test_report_says_what_was_predicted_and_what_was_measured(tmp_path, image):
    report = run(small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")).data
    kept = Workdir(str(tmp_path / "out.zarr.run")).read("report.json")
    assert kept == json.loads(json.dumps(report, default=str))
    assert report["memory"]["measured"] > 0
    assert report["memory"]["predicted"] <= report["memory"]["limit"]
    assert report["tiles_done"] == report["tiles"]


# ---- again and again


def test_running_again_does_nothing_and_succeeds(tmp_path, image):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    run(spec)
    events: list[object] = []
    assert run(spec, listeners=[events.append]).exit_code == 0
    assert not [e for e in events if isinstance(e, TileDone)]


def test_overwrite_replaces_the_target_only_when_the_new_one_stands(tmp_path, image, expected):
    source = save_source(tmp_path, image)
    run(small_spec(source, tmp_path / "out.zarr", steps=[{"operator": "heat", "steps": 2}]))
    before = read_result(tmp_path / "out.zarr")
    spec = small_spec(source, tmp_path / "out.zarr")
    with pytest.raises(RefusedError, match=r"exists already.*--overwrite"):
        run(spec)
    assert same(read_result(tmp_path / "out.zarr"), before)
    run(spec, overwrite=True)
    assert same(read_result(tmp_path / "out.zarr"), expected)


@pytest.mark.parametrize("name", ["out.png", "out.tif", "out.ome.tif", "out.ome.zarr", "out.zarr"])
def test_a_map_of_colours_is_one_channel_in_every_format(tmp_path, name):
    colours = np.random.default_rng(0).integers(0, 255, (3, 90, 110), np.uint8)
    source = {"uri": save_source(tmp_path, colours), "axes": "cyx"}
    steps = [{"operator": "gradient-magnitude"}]
    spec = small_spec(source["uri"], tmp_path / name, source=source, steps=steps, sink={"dtype": "uint8"})
    assert run(spec).exit_code == 0
    checked = verify(spec.sink.uri, samples=2)
    assert checked["ok"], checked["problems"]
    found = read_canonical(open_source(SourceSpec(uri=spec.sink.uri)), {}).reshape(90, 110)
    assert same(found, do.evolve(colours, do.GradientMagnitude(), channel_axis=0, dtype="uint8")[0])


def test_another_layout_in_the_same_place_and_process_is_seen(tmp_path, image):
    source = save_source(tmp_path, image)
    steps = [{"operator": "heat", "steps": 2}]
    for dtype in ("float64", "float32"):
        sink = {"dtype": dtype}
        report = run(small_spec(source, tmp_path / "out.zarr", steps=steps, sink=sink), overwrite=True)
        assert report.exit_code == 0, report.data["failed"][:1]
        assert same(read_result(tmp_path / "out.zarr"), do.evolve(image, do.Heat(), steps=2, dtype=dtype))


class Interrupt(Exception):
    """Stops a run from a listener, as a crash of the driver would."""


def stop_after(count: int):
    seen = []

    def listener(event: object) -> None:
        seen.append(isinstance(event, TileDone))
        if sum(seen) == count:
            raise Interrupt

    return listener


@pytest.mark.thorough
def test_a_run_that_died_before_its_report_still_knows_its_statistics(tmp_path, image, monkeypatch):
    steps = [{"operator": "perona-malik", "contrast": {"quantile": 0.5}, "steps": 3}]
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", steps=steps)

    def die(*_: object) -> None:
        raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.run.driver.make_report", die)
        with pytest.raises(Interrupt):
            run(spec)
    report = run(spec).data
    assert report["complete"]
    assert report["statistics"][0]["values"]["contrast"] > 0
    assert verify(spec.sink.uri, samples=2)["ok"]


def test_an_interrupted_run_goes_on_and_redoes_only_unfinished_tiles(tmp_path, image, expected):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    for _ in range(3):
        with pytest.raises(Interrupt):
            run(spec, listeners=[stop_after(8)])
    events: list[object] = []
    report = run(spec, listeners=[events.append])
    assert report.data["tiles_resumed"] >= 3 * 8
    assert report.data["tiles_resumed"] + sum(isinstance(e, TileDone) for e in events) == report.data["tiles"]
    assert same(read_result(tmp_path / "out.zarr"), expected)


def test_an_interrupted_run_goes_on_with_another_memory_and_thread_count(tmp_path, image, expected):
    source = save_source(tmp_path, image)
    with pytest.raises(Interrupt):
        run(small_spec(source, tmp_path / "out.zarr"), listeners=[stop_after(17)])
    other = small_spec(
        source, tmp_path / "out.zarr", run={"tile": 128, "batch": 9, "threads": 1, "memory": "3GiB"}
    )
    assert run(other).data["tiles_resumed"] >= 17
    assert same(read_result(tmp_path / "out.zarr"), expected)


def test_a_changed_spec_or_source_is_refused_and_never_mixed(tmp_path, image):
    source = save_source(tmp_path, image)
    with pytest.raises(Interrupt):
        run(small_spec(source, tmp_path / "out.zarr"), listeners=[stop_after(5)])
    with pytest.raises(RefusedError, match="its steps differ"):
        run(small_spec(source, tmp_path / "out.zarr", steps=[{"operator": "heat", "steps": 3}]))
    np.save(source, image + 1)
    os.utime(source, ns=(1, 1))
    with pytest.raises(RefusedError, match="the source has changed"):
        run(small_spec(source, tmp_path / "out.zarr"))


def test_a_cut_line_of_the_journal_is_done_again(tmp_path, image, expected):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    with pytest.raises(Interrupt):
        run(spec, listeners=[stop_after(20)])
    journal = tmp_path / "out.zarr.run" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    run(spec)
    assert same(read_result(tmp_path / "out.zarr"), expected)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert all(line_of(event_of(line)) == line for line in lines)


def chunks_of(folder: Path, array: str) -> list[Path]:
    """Return the files of the chunks of a run's unfinished result, or of its states."""
    return sorted(path for path in folder.glob(f"out.zarr.run/run-*/{array}/**/c/*/*") if path.is_file())


@pytest.mark.parametrize("batch", [9, 4])
@pytest.mark.parametrize("fault", ["cut", "missing", "flipped", "other values"])
def test_damage_is_found_on_resume_and_done_again(tmp_path, image, expected, fault, batch):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", run={"batch": batch})
    with pytest.raises(Interrupt):
        run(spec, listeners=[stop_after(20 if batch == 4 else 8)])
    array = "result" if batch == 9 else "state"
    victim = chunks_of(tmp_path, array)[4]
    content = bytearray(victim.read_bytes())
    if fault == "cut":
        victim.write_bytes(content[:-9])
    elif fault == "missing":
        victim.unlink()
    elif fault == "flipped":
        content[len(content) // 2] ^= 4
        victim.write_bytes(content)
    else:
        victim.write_bytes(chunks_of(tmp_path, array)[0].read_bytes())
    lost: list[object] = []
    report = run(spec, listeners=[lost.append])
    assert report.exit_code == 0
    assert sum(isinstance(event, TileLost) for event in lost) == 1
    assert same(read_result(tmp_path / "out.zarr"), expected)


@pytest.mark.thorough
@pytest.mark.parametrize("array", ["result", "state"])
@pytest.mark.parametrize("fault", ["missing", "cut", "flipped"])
def test_damaged_metadata_are_written_anew_on_resume(tmp_path, image, expected, array, fault):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", run={"batch": 4})
    with pytest.raises(Interrupt):
        run(spec, listeners=[stop_after(26)])
    for victim in (tmp_path / "out.zarr.run").glob(f"run-*/{array}/**/zarr.json"):
        content = victim.read_bytes()
        victim.unlink() if fault == "missing" else victim.write_bytes(
            content[:-9] if fault == "cut" else content.replace(b"4", b"5")
        )
    report = run(spec)
    assert report.exit_code == 0
    assert report.data["tiles_resumed"] > 20
    assert same(read_result(tmp_path / "out.zarr"), expected)


def test_a_run_that_finished_no_tile_blocks_nothing(tmp_path, image, expected, monkeypatch):
    monkeypatch.setattr(address, "ANSWER_SECONDS", 1.0)
    source = save_source(tmp_path, image)
    with pytest.raises(ValueError, match="No scheduler answers"):
        run(
            small_spec(
                source,
                tmp_path / "out.zarr",
                steps=[{"operator": "heat", "steps": 2}],
                run={"cluster": "tcp://127.0.0.1:1"},
            )
        )
    with pytest.raises(ValueError, match="no cluster 'nowhere'"):
        run(small_spec(source, tmp_path / "out.zarr", run={"cluster": "nowhere"}))
    run(small_spec(source, tmp_path / "out.zarr"))
    assert same(read_result(tmp_path / "out.zarr"), expected)


def test_a_cluster_that_does_not_answer_loses_nothing_that_was_measured_before(tmp_path, image, monkeypatch):
    monkeypatch.setattr(address, "ANSWER_SECONDS", 1.0)
    steps = [{"operator": "perona-malik", "contrast": {"quantile": 0.5}, "steps": 3}]
    source, target = save_source(tmp_path, image), tmp_path / "out.zarr"
    with pytest.raises(Interrupt):
        run(small_spec(source, target, steps=steps), listeners=[stop_after(20)])
    with pytest.raises(RefusedError, match="No scheduler answers"):
        run(small_spec(source, target, steps=steps, run={"cluster": "tcp://127.0.0.1:1"}))
    assert run(small_spec(source, target, steps=steps)).data["tiles_resumed"] >= 20


def test_a_statistic_that_the_user_must_settle_leaves_a_copy_of_the_source_where_it_is(tmp_path):
    imageio.imwrite(tmp_path / "flat.png", np.full((70, 90), 7, np.uint8))
    steps = [{"operator": "perona-malik", "contrast": {"quantile": 0.5}, "steps": 3}]
    with pytest.raises(ValueError, match="out of range"):
        run(small_spec(str(tmp_path / "flat.png"), tmp_path / "out.zarr", steps=steps))
    assert list((tmp_path / "out.zarr.run").glob("run-*/copy/zarr.json"))
    np.save(tmp_path / "flat.npy", np.full((70, 90), 7, np.uint8))
    with pytest.raises(ValueError, match="out of range"):
        run(small_spec(str(tmp_path / "flat.npy"), tmp_path / "other.zarr", steps=steps))
    assert not (tmp_path / "other.zarr.run").exists()


def test_only_one_process_works_on_a_target(tmp_path, image):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    with Workdir(spec.workdir).lock(spec.sink.uri), pytest.raises(BusyError, match="Another process"):
        run(spec)
    assert not (tmp_path / "out.zarr").exists()
    assert not (tmp_path / "out.zarr.run").exists()


# ---- faults


def test_a_failing_tile_is_tried_again(tmp_path, image, expected, flaky_source):
    spec = small_spec(flaky_source(save_source(tmp_path, image), failures=2), tmp_path / "out.zarr")
    events: list[object] = []
    report = run(spec, listeners=[events.append])
    assert report.exit_code == 0
    assert report.data["retries"] >= 1
    assert any(isinstance(e, TileFailed) for e in events)
    assert same(read_result(tmp_path / "out.zarr"), expected)


def test_a_tile_that_keeps_failing_is_named_and_the_rest_is_done(tmp_path, image, expected, flaky_source):
    source = flaky_source(save_source(tmp_path, image), failures=10_000, at=(100, 100))
    spec = small_spec(source, tmp_path / "out.zarr", run={"retries": 1, "batch": 9})
    report = run(spec)
    assert report.exit_code == 3
    assert any("y 64:128, x 64:128" in failure["region"] for failure in report.data["failed"])
    assert "the medium is worn out" in report.data["failed"][0]["error"]
    assert not (tmp_path / "out.zarr").exists()
    assert report.data["tiles_done"] > report.data["tiles"] // 2
    flaky_source.mend()
    assert run(spec).exit_code == 0
    assert same(read_result(tmp_path / "out.zarr"), expected)


# ---- refusals


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"run": {"memory": "10MiB"}}, "only .* are allowed"),
        ({"steps": [{"operator": "perona-malik", "contrast": {"quantile": 0.5}, "steps": 2}]}, "contrast"),
        ({"source": {"axes": "zyx"}}, "axes"),
        ({"image": {"ndim": 3}}, "z axis"),
        ({"sink": {"dtype": "uint8"}, "source": {"nodata": -1}}, "nodata"),
        ({"steps": [{"operator": "stain-separation"}]}, "takes 3 channels, the image has 1"),
    ],
)
def test_a_refused_run_leaves_nothing(tmp_path, sections, message):
    source = save_source(tmp_path, np.full((90, 80), 7, np.float32))
    before = everything_below(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(small_spec(source, tmp_path / "out.zarr", **sections))
    left = [name for name in everything_below(tmp_path) if name not in before]
    assert [name for name in left if not name.startswith("out.zarr.run")] == []
    assert not (tmp_path / "out.zarr.run" / "run.json").exists()


def test_an_image_of_nothing_but_nodata_is_refused(tmp_path):
    source = save_source(tmp_path, np.full((190, 180), np.nan, np.float32))
    with pytest.raises(ValueError, match="Every pixel"):
        run(small_spec(source, tmp_path / "out.zarr"))
    assert everything_below(tmp_path) == ["source.npy"]


def test_a_folder_with_files_of_something_else_is_no_place_for_a_run(tmp_path, image):
    source = save_source(tmp_path, image)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    spec = small_spec(source, tmp_path / "out.zarr", run={"workdir": str(folder)})
    for overwrite in (False, True):
        with pytest.raises(OccupiedError, match=r"it holds letter\.txt"):
            run(spec, overwrite=overwrite)
    assert [child.name for child in folder.iterdir()] == ["letter.txt"]


def test_places_that_a_run_would_remove_are_refused(tmp_path, image):
    (tmp_path / "work").mkdir()
    (tmp_path / "out.zarr").mkdir()
    source = save_source(tmp_path / "work", image)
    workdir = {"workdir": str(tmp_path / "work")}
    with pytest.raises(RefusedError, match="lie inside each other"):
        run(small_spec(source, tmp_path / "out.zarr", run=workdir))
    source = save_source(tmp_path, image)
    with pytest.raises(RefusedError, match="which the run writes too"):
        run(small_spec(source, tmp_path / "work" / "out.zarr", run=workdir))
    inner = [{"name": "source", "uri": str(tmp_path / "out.zarr" / "inner.zarr")}]
    with pytest.raises(RefusedError, match="which the run writes too"):
        run(small_spec(source, tmp_path / "out.zarr", outputs=inner), overwrite=True)
    with pytest.raises(RefusedError, match="lie inside each other"):
        preview(small_spec(source, tmp_path / "out.zarr"), "0:9,0:9", f"{source}/part.zarr")


def test_a_target_inside_the_source_is_refused(tmp_path):
    array = zarr.create_array(str(tmp_path / "in.zarr"), shape=(80, 80), dtype="f4", chunks=(40, 40))
    array[:] = 1
    before = everything_below(tmp_path)
    for target in (tmp_path / "in.zarr", tmp_path / "in.zarr" / "out.zarr"):
        with pytest.raises(RefusedError, match=r"inside each other|exists already"):
            run(small_spec(str(tmp_path / "in.zarr"), target))
    assert everything_below(tmp_path) == before


# ---- preview, verify, status


@pytest.mark.parametrize("roi", ["100:200,33:133", ":64,:", "202:203,186:187"])
def test_a_preview_has_the_bits_of_the_full_run(tmp_path, image, expected, roi):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", run={"batch": None})
    preview(spec, roi, str(tmp_path / "part.zarr"))
    region = tuple(slice(*(int(v) if v else None for v in part.split(":"))) for part in roi.split(","))
    assert same(read_result(tmp_path / "part.zarr"), np.ascontiguousarray(expected[region]))
    assert everything_below(tmp_path)[-1].startswith("source")


@pytest.mark.thorough
def test_a_preview_measures_over_the_whole_image(tmp_path, image):
    steps = [{"operator": "perona-malik", "contrast": {"quantile": 0.9}, "steps": 5}]
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr", steps=steps)
    preview(spec, "100:164,100:164", str(tmp_path / "part.zarr"))
    whole = do.evolve(image, do.PeronaMalik(contrast={"quantile": 0.9}), steps=5)
    assert same(read_result(tmp_path / "part.zarr"), np.ascontiguousarray(whole[100:164, 100:164]))


@pytest.mark.parametrize("roi", ["1:2", "5:5,0:9", "0:9,0:458", "a:b,0:9", "0:1,0:1,0:1"])
def test_a_region_that_is_none_is_refused(roi):
    from pipelines.image.info import ImageInfo

    info = ImageInfo((331, 457), np.dtype("f4"), "yx", (64, 64))
    with pytest.raises(ValueError, match="--roi"):
        parse_roi(roi, info)


def test_verify_catches_one_flipped_bit_in_one_chunk(tmp_path, image):
    run(small_spec(save_source(tmp_path, image), tmp_path / "out.zarr"))
    assert verify(str(tmp_path / "out.zarr"), samples=4)["ok"]
    chunk = sorted(path for path in (tmp_path / "out.zarr").rglob("c/*/*") if path.is_file())[7]
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    checked = verify(str(tmp_path / "out.zarr"), samples=0)
    assert not checked["ok"]
    assert len(checked["problems"]) == 1


def test_verify_catches_a_changed_value_behind_a_good_checksum(tmp_path, image):
    run(small_spec(save_source(tmp_path, image), tmp_path / "out.zarr"))
    node = zarr.open(str(tmp_path / "out.zarr"))
    array = node if isinstance(node, zarr.Array) else node[next(iter(node.array_keys()))]
    array[100, 150] = np.nextafter(array[100, 150], np.float32(np.inf))
    (problem,) = verify(str(tmp_path / "out.zarr"), samples=0)["problems"]
    assert "y 64:128, x 128:187" in problem


def test_verify_needs_a_run(tmp_path, image):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    with pytest.raises(NoRunError, match="There is no run"):
        verify(str(tmp_path / "out.zarr"))
    run(spec)
    shutil.rmtree(tmp_path / "out.zarr")
    with pytest.raises(RefusedError, match="is gone, or not complete"):
        verify(str(tmp_path / "out.zarr"))


def test_status_tells_how_far_a_run_is(tmp_path, image):
    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    with pytest.raises(Interrupt):
        run(spec, listeners=[stop_after(21)])
    half = status(str(tmp_path / "out.zarr"))
    assert half["done"] >= 21
    assert not half["complete"]
    run(spec)
    full = status(str(tmp_path / "out.zarr"))
    assert full["complete"]
    assert full["done"] == full["tiles"]
