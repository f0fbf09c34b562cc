"""Times that choose themselves: the same for any tile, kept when a run goes on, from samples alone."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

import diffusion_ops as do
from pipelines.cli.command import app
from pipelines.events import Choosing, Event, StageDone
from pipelines.image.info import ImageInfo
from pipelines.image.kept_sources import cached_source
from pipelines.image.source import SOURCES, Source
from pipelines.record.workdir import Workdir
from pipelines.run.preview import preview
from pipelines.run.run import run
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec, SpecError, make_spec
from pipelines.tuning import times
from pipelines.tuning.candidates import Question, tune_step
from pipelines.tuning.times import TuningError, settle_times
from tests.pipelines.runs import read_result, save_source
from tests.pipelines.source_files import write_geotiff, write_ome_zarr, write_picture

AUTO = {"operator": "perona-malik", "contrast": "auto", "time": "auto"}
linux = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def noisy(*shape: int, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    """Return a chequered wave with noise of 20 grey levels."""
    rows, columns = np.indices(shape)[-2:]
    clean = 120 + 30 * np.sin(rows / 11) + 40 * np.sign(np.sin(rows / 3 + 1) * np.sin(columns / 4 + 1))
    return (clean + np.random.default_rng(seed).normal(0, 20, shape)).astype(dtype)


def spec_of(source: Any, target: Any, *steps: dict[str, Any], **sections: Any) -> Spec:
    return make_spec(
        {
            "source": source if isinstance(source, dict) else {"uri": str(source)},
            "steps": list(steps) or [AUTO],
            "sink": {"uri": str(target), "chunk": 64},
            "run": {"tile": 64, "threads": 2, "memory": "2GiB", **sections.pop("run", {})},
            **sections,
        }
    )


def report_of(folder: Path, name: str = "out.zarr") -> dict[str, Any]:
    found = Workdir(str(folder / f"{name}.run")).read("report.json")
    assert found is not None
    return found


def settled(spec: Spec) -> list[Any]:
    return [step.time for step in settle_times(spec, cached_source(spec.source)).spec.steps]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often times are chosen."""
    calls: list[int] = []
    choose = times.tune_samples

    def counting(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return choose(*args, **options)

    monkeypatch.setattr(times, "tune_samples", counting)
    return calls


# ---- in a run


def test_a_run_takes_the_time_and_contrast_that_evolve_takes(tmp_path: Path) -> None:
    image = noisy(231, 257)
    image[40:60, 70:200] = np.nan
    operator = do.PeronaMalik(contrast="auto")
    chosen = do.tune(image, operator)
    assert run(spec_of(save_source(tmp_path, image), tmp_path / "out.zarr")).exit_code == 0
    (found,) = report_of(tmp_path)["tuning"]
    assert (found["time"], found["scores"]) == (chosen.time, list(chosen.curves[0].scores))
    assert (found["criterion"], found["noise"]) == ("sure", chosen.noise)
    assert found["times"][found["best"]] == found["time"]
    assert found["cells"] == image.size
    assert found["samples"] == [{"frame": 0, "region": [[0, 231], [0, 257]]}]
    expected = do.evolve(image, operator, time="auto")
    assert read_result(tmp_path / "out.zarr").tobytes() == expected.tobytes()
    result = verify(str(tmp_path / "out.zarr"), samples=4)
    assert result["ok"]
    assert result["windows"] == 4


@pytest.mark.parametrize(("tile", "threads", "batch"), [(64, 1, 1), (128, 2, 3), (512, 3, None)])
def test_the_choice_does_not_depend_on_how_it_is_carried_out(
    tmp_path: Path, tile: int, threads: int, batch: int | None
) -> None:
    image = noisy(200, 190)
    spec = spec_of(
        save_source(tmp_path, image),
        tmp_path / "out.zarr",
        run={"tile": tile, "threads": threads, "batch": batch},
    )
    assert settled(spec) == [do.tune(image, do.PeronaMalik(contrast="auto")).time]


@pytest.mark.parametrize("channels", ["joint", "separate"])
def test_channels_frames_and_spacing_are_as_the_spec_says(tmp_path: Path, channels: str) -> None:
    import xarray as xr

    image = noisy(3, 2, 70, 90)
    image[1] *= 3
    source = {"uri": save_source(tmp_path, image), "axes": "tcyx", "spacing": {"y": 2.0, "x": 1.0}}
    spec = spec_of(
        source, tmp_path / "out.zarr", {"operator": "heat", "time": "auto"}, image={"channels": channels}
    )
    frames = xr.DataArray(
        image if channels == "joint" else image.reshape(6, 70, 90),
        dims=("t", "c", "y", "x") if channels == "joint" else ("t", "y", "x"),
    )
    found = do.tune(frames, do.Heat(), spacing={"y": 2.0, "x": 1.0})
    chosen = settle_times(spec, cached_source(spec.source))
    assert chosen.tuning[0]["scores"] == found.curves[0].scores
    assert len(chosen.tuning[0]["samples"]) == (3 if channels == "joint" else 6)


@pytest.mark.thorough
def test_volumes_and_real_files_of_several_formats(tmp_path: Path) -> None:
    heat = {"operator": "heat", "time": "auto"}
    volume = noisy(20, 40, 50)
    spec = spec_of({"uri": save_source(tmp_path, volume), "axes": "zyx"}, tmp_path / "v.zarr", heat)
    assert settled(spec) == [do.tune(volume, do.Heat()).time]
    pixels = noisy(80, 96, dtype=np.uint8)
    expected = do.tune(pixels, do.Heat()).time
    for write in (write_ome_zarr, write_picture):
        source = write(tmp_path, pixels)
        assert settled(spec_of(source.uri, tmp_path / "o.zarr", heat, image={"ndim": 2}))[0] > 0
    flat = {"uri": write_picture(tmp_path, pixels).uri}
    assert settled(spec_of(flat, tmp_path / "p.zarr", heat)) == [expected]


def test_nodata_of_a_geotiff_is_no_value(tmp_path: Path) -> None:
    pixels = noisy(120, 130, dtype=np.int16)
    pixels[20:50, 30:90] = -999
    source = write_geotiff(tmp_path, pixels, nodata=-999)
    spec = spec_of(source.uri, tmp_path / "out.tif", {"operator": "heat", "time": "auto"})
    assert settled(spec) == [do.tune(pixels, do.Heat(), nodata=-999).time]
    assert run(spec).exit_code == 0


def test_each_step_of_a_chain_is_chosen_after_those_before_it(tmp_path: Path) -> None:
    image = noisy(150, 140)
    steps = (
        {"operator": "heat", "time": 0.2},
        {"operator": "perona-malik", "contrast": 20, "time": "auto"},
        {"operator": "heat", "name": "last", "time": "auto"},
    )
    spec = spec_of(save_source(tmp_path, image), tmp_path / "out.zarr", *steps)
    chain = [do.Heat(), do.PeronaMalik(contrast=20), do.Heat()]
    expected = do.evolve(image, chain, time=[0.2, "auto", "auto"])
    assert run(spec).exit_code == 0
    report = report_of(tmp_path)
    assert [one["step"] for one in report["tuning"]] == ["perona-malik", "last"]
    assert read_result(tmp_path / "out.zarr").tobytes() == expected.tobytes()
    assert verify(str(tmp_path / "out.zarr"), samples=3)["ok"]


def test_a_contrast_that_chooses_itself_is_measured_in_the_run(tmp_path: Path) -> None:
    image = noisy(150, 140)
    spec = spec_of(save_source(tmp_path, image), tmp_path / "out.zarr", {**AUTO, "time": 2})
    events: list[Event] = []
    assert run(spec, listeners=[events.append]).exit_code == 0
    (values,) = [e.values for e in events if isinstance(e, StageDone) and e.values]
    assert values["contrast"] > 0
    assert not [e for e in events if isinstance(e, Choosing)]
    assert (
        spec.science() != spec_of(save_source(tmp_path, image), "o.zarr", {**AUTO, "contrast": 3}).science()
    )
    whole = read_result(tmp_path / "out.zarr")
    assert whole.tobytes() == do.evolve(image, do.PeronaMalik(contrast="auto"), time=2).tobytes()
    assert verify(str(tmp_path / "out.zarr"), samples=3)["ok"]
    preview(spec, "30:90,20:100", str(tmp_path / "part.zarr"))
    assert read_result(tmp_path / "part.zarr").tobytes() == whole[30:90, 20:100].tobytes()


def test_a_region_has_the_bits_of_the_full_run(tmp_path: Path, counted: list[int]) -> None:
    spec = spec_of(save_source(tmp_path, noisy(150, 140)), tmp_path / "out.zarr")
    data = preview(spec, "30:90,20:100", str(tmp_path / "before.zarr"))
    assert data["tuning"][0]["time"] > 0
    run(spec)
    assert len(counted) == 2
    preview(spec, "30:90,20:100", str(tmp_path / "after.zarr"))
    assert len(counted) == 2, "the run's own choice is taken"
    whole = read_result(tmp_path / "out.zarr")[30:90, 20:100]
    for name in ("before", "after"):
        assert read_result(tmp_path / f"{name}.zarr").tobytes() == whole.tobytes()


def test_the_same_spec_chooses_once_and_another_one_again(tmp_path: Path, counted: list[int]) -> None:
    source = save_source(tmp_path, noisy(100, 90))
    spec = spec_of(source, tmp_path / "out.zarr")
    run(spec)
    first = report_of(tmp_path)
    assert run(spec).data == first
    assert len(counted) == 1
    number = spec_of(source, tmp_path / "out.zarr", {**AUTO, "time": first["tuning"][0]["time"]})
    assert run(number).data == first, "the number that was chosen means the same run"
    settled(spec_of(source, tmp_path / "out.zarr", {**AUTO, "conductance": "rational"}))
    assert len(counted) == 2
    np.save(source, noisy(100, 90, seed=1))
    settled(spec)
    assert len(counted) == 3


@pytest.mark.thorough
@linux
def test_a_killed_run_goes_on_with_its_choice(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", noisy(250, 300))
    (tmp_path / "scene.yaml").write_text(
        "source: {uri: image.npy}\n"
        "steps: [{operator: perona-malik, contrast: 30, time: auto, schedule: explicit},"
        " {operator: heat, steps: 25}]\n"
        "sink: {uri: out.zarr, chunk: 64}\nrun: {tile: 64, batch: 5, threads: 2}\n"
    )
    command = [sys.executable, "-m", "pipelines.cli.command", "run", str(tmp_path / "scene.yaml"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    done = 0
    for line in process.stdout:
        done += json.loads(line)["event"] == "tile_done"
        if done == 40:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate()
    begun = json.loads((tmp_path / "out.zarr.run" / "run.json").read_text())
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert not [e for e in events if e["event"] == "choosing"]
    report = events[-1]["report"]
    assert report["complete"]
    assert report["tiles_resumed"] >= 39
    assert report["tuning"] == begun["tuning"]
    assert begun["spec"]["steps"][0]["time"] == begun["tuning"][0]["time"]


# ---- large images


class EndlessSource(Source):
    """A million rows of noise that are made where they are read, and counted."""

    info = ImageInfo((1_000_000, 1_000_000), np.dtype(np.float32), "yx", (512, 512), identity="endless")
    read_bytes = 0
    largest = 0

    @classmethod
    def claims(cls, uri: str) -> int:
        return 100 if uri.endswith(".endless") else 0

    @classmethod
    def open(cls, spec: Any) -> Source:
        return cls()

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        shape = tuple(s.stop - s.start for s in region)
        values = noisy(*shape, seed=region[0].start + region[1].start)
        EndlessSource.read_bytes += values.nbytes
        EndlessSource.largest = max(EndlessSource.largest, values.nbytes)
        return values


def test_of_a_large_source_only_the_samples_are_read(tmp_path: Path) -> None:
    if "endless" not in SOURCES:
        SOURCES.register("endless")(EndlessSource)
    (tmp_path / "image.endless").touch()
    spec = spec_of(tmp_path / "image.endless", tmp_path / "out.zarr", {"operator": "heat", "time": "auto"})
    EndlessSource.read_bytes = 0
    chosen = settle_times(spec, cached_source(spec.source))
    assert EndlessSource.read_bytes == 16 * 256**2 * 4
    assert EndlessSource.largest == 256**2 * 4
    assert chosen.tuning[0]["cells"] == 16 * 256**2
    assert chosen.spec.steps[0].time == chosen.tuning[0]["time"] > 0.1


@pytest.mark.thorough
@linux
def test_a_run_after_a_choice_stays_under_its_prediction(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", noisy(2500, 2500))
    (tmp_path / "scene.yaml").write_text(
        "source: {uri: image.npy}\nsteps: [{operator: perona-malik, contrast: 30, time: auto}]\n"
        "sink: {uri: out.zarr}\nrun: {threads: 2}\n"
    )
    command = [sys.executable, "-m", "pipelines.cli.command", "run", str(tmp_path / "scene.yaml")]
    subprocess.run(command, capture_output=True, check=True)
    memory = report_of(tmp_path)["memory"]
    assert memory["measured"] <= memory["predicted"] * 1.1


# ---- progress


def test_the_choice_tells_how_far_it_is(tmp_path: Path) -> None:
    spec = spec_of(save_source(tmp_path, noisy(100, 90)), tmp_path / "out.zarr")
    events: list[Event] = []
    settle_times(spec, cached_source(spec.source), [events.append])
    parts = [event.part for event in events if isinstance(event, Choosing)]
    assert parts[0] == 0
    assert parts[-1] == 1
    assert parts == sorted(parts)


# ---- refusals


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (
            [
                {"operator": "heat", "name": "smooth", "time": 1},
                {
                    "operator": "edge-enhancing",
                    "contrast": 5,
                    "input": "source",
                    "guide": "smooth",
                    "time": "auto",
                },
            ],
            "reads a guide",
        ),
        (
            [
                {"operator": "heat", "name": "coarse", "time": 1, "octave": 1},
                {"operator": "heat", "time": "auto"},
            ],
            "works on a coarser octave",
        ),
        (
            [
                {"operator": "heat", "name": "till", "steps": 40, "until": {"energy": 0.1}},
                {"operator": "heat", "time": "auto"},
            ],
            "stops by the energy",
        ),
        (
            [{"operator": "gradient-magnitude", "name": "edges"}, {"operator": "heat", "time": "auto"}],
            "like the source",
        ),
    ],
)
def test_only_a_straight_chain_from_the_source_can_choose(
    tmp_path: Path, steps: list[dict[str, Any]], words: str
) -> None:
    spec = spec_of(save_source(tmp_path, noisy(100, 90)), tmp_path / "out.zarr", *steps)
    with pytest.raises(TuningError, match=words) as refused:
        run(spec)
    assert "straight chain of steps from the source" in str(refused.value)
    assert "as a number" in str(refused.value)
    assert not (tmp_path / "out.zarr.run").exists()


def test_an_image_without_noise_and_too_little_memory_are_refused(tmp_path: Path) -> None:
    flat = save_source(tmp_path, np.full((100, 90), 7, np.float32))
    with pytest.raises(TuningError, match=r"no noise.*diffuse tune"):
        run(spec_of(flat, tmp_path / "out.zarr"))
    with pytest.raises(TuningError, match=r"only 52,428,800 are allowed. Allow --memory"):
        run(spec_of(flat, tmp_path / "out.zarr", run={"memory": "50MiB"}))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"operator": "heat", "time": "auto", "steps": 3}, "Remove 'steps'"),
        ({"operator": "heat", "time": "auto", "dt": 0.1}, "Remove 'dt'"),
        ({"operator": "heat", "time": "auto", "schedule": "slow"}, "no schedule 'slow'"),
        ({"operator": "heat", "time": "soon"}, "time"),
        ({"operator": "canny", "time": "auto"}, "applied once"),
    ],
)
def test_what_contradicts_itself_is_refused_in_the_spec(step: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        spec_of("image.npy", "out.zarr", step)


# ---- the command

SPEC = """\
source: {uri: image.npy}
steps:
  - {operator: heat, name: calm, time: 0.1}
  - {operator: perona-malik, contrast: 30, conductance: rational, time: auto}
sink: {uri: out.ome.zarr}
run: {tile: 64, threads: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", noisy(150, 130))
    Path("scene.yaml").write_text(SPEC)
    return tmp_path


def diffuse(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_tune_prints_candidates_a_curve_and_lines_to_paste(folder: Path) -> None:
    result = diffuse("tune", "scene.yaml", "-p", "contrast=10,40,{quantile: 0.9}")
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    for part in (
        "calm (time 0.1)",
        "sure",
        "19,500 pixels in 1 sample",
        "dB PSNR",
        "RMS",
        "{quantile: 0.9}",
        "█",
    ):
        assert part in text
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("- {")]
    (folder / "next.yaml").write_text(SPEC.replace(SPEC.splitlines()[3].strip(), line))
    assert diffuse("plan", "next.yaml").exit_code == 0
    assert not list(folder.glob("out*"))


def test_tune_as_json_has_all_of_it(folder: Path) -> None:
    result = diffuse("tune", "scene.yaml", "-p", "contrast=10,40", "-p", "sigma=0,1", "--ensemble", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found["candidates"]) == 4
    scores = [one["score"] for one in found["candidates"]]
    assert scores == sorted(scores)
    best = found["candidates"][0]
    assert best["gain"] == pytest.approx(10 * math.log10(found["noise"] ** 2 / best["score"]))
    assert found["best"]["step"] | best["parameters"] == found["best"]["step"]
    assert found["best"]["step"]["time"] == best["time"] == best["times"][best["best"]]
    assert found["best"]["step"]["conductance"] == "rational"
    assert len(found["ensemble"]["members"]) == 12
    assert sum(one["weight"] for one in found["ensemble"]["members"]) == pytest.approx(1)
    assert found["ensemble"]["score"] <= min(one["score"] for one in found["ensemble"]["members"])
    assert found["work"] > 0
    assert found["seconds"] > 0


def test_tune_takes_the_step_before_and_the_image_itself(folder: Path) -> None:
    image = np.load("image.npy")
    first = json.loads(diffuse("tune", "scene.yaml", "--step", "calm", "--times", "0.5,2,1", "--json").stdout)
    found = do.tune(image, do.Heat(), times=[0.5, 1, 2])
    assert first["candidates"][0]["scores"] == list(found.curves[0].scores)
    assert first["best"]["yaml"] == f"- {{operator: heat, name: calm, time: {float(found.time)}}}"


@pytest.mark.parametrize("criterion", do.CRITERIA.names())
def test_every_criterion_can_be_asked_for(folder: Path, criterion: str) -> None:
    result = diffuse("tune", "scene.yaml", "--criterion", criterion, "--times", "0.5,1,2,4,8", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["criterion"] == criterion
    assert found["best"]["step"]["time"] in (0.5, 1, 2, 4, 8)
    assert diffuse("tune", "scene.yaml", "--criterion", criterion, "--times", "1,4").exit_code == 0


def test_one_sample_of_a_larger_image_can_be_enough(folder: Path) -> None:
    np.save("image.npy", noisy(300, 280))
    spec = make_spec({"source": {"uri": "image.npy"}, "sink": {"uri": "o.zarr"}, "steps": [AUTO]})
    found = tune_step(spec, cached_source(spec.source), Question(samples=1, times=(1.0, 4.0)))
    assert found["cells"] == 256**2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--step", "fine"), "--step 'fine' is not a step of the spec. Allowed: calm, perona-malik"),
        (("--times", "1,soon"), "--times '1,soon' are not times"),
        (("--times", "-1"), "Allowed: a number > 0"),
        (("--criterion", "beauty"), "beauty"),
        (("--noise", "0"), "noise=0.0 is not possible"),
        (("-p", "contrst=1,2"), "Did you mean 'contrast'?"),
        (("-p", "contrast"), "is not a parameter"),
        (("-p", "contrast=-1,2"), "contrast=-1 is not possible"),
        (("-p", "contrast=1", "-p", "contrast=2"), "is given twice"),
        (("-p", "time=1,2"), "--times"),
        (("--samples", "0"), "samples"),
        (("--memory", "50MiB"), "--memory"),
    ],
)
def test_bad_input_is_refused_in_words(folder: Path, words: tuple[str, ...], message: str) -> None:
    result = diffuse("tune", "scene.yaml", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not list(folder.glob("out*"))


def test_every_verb_takes_times_that_choose_themselves(folder: Path) -> None:
    planned = diffuse("plan", "scene.yaml")
    assert planned.exit_code == 0, planned.stderr
    assert "choose the time of perona-malik: time = " in planned.stdout
    ran = diffuse("run", "scene.yaml")
    assert ran.exit_code == 0, ran.stderr
    time = report_of(folder, "out.ome.zarr")["tuning"][0]["time"]
    assert f"time = {time:.6g} (sure on 1 sample" in ran.stdout
    assert json.loads(diffuse("plan", "scene.yaml", "--json").stdout)["tuning"][0]["time"] == time
    assert "complete already" in diffuse("run", "scene.yaml").stdout
    assert diffuse("verify", "out.ome.zarr", "--samples", "3").exit_code == 0
    region = diffuse("preview", "scene.yaml", "--roi", "0:70,20:60")
    assert region.exit_code == 0, region.stderr
    applied = diffuse("apply", "heat", "image.npy", "applied.zarr", "--time", "auto", "--threads", "1")
    assert applied.exit_code == 0, applied.stderr
    expected = do.tune(np.load("image.npy"), do.Heat()).time
    assert report_of(folder, "applied.zarr")["tuning"][0]["time"] == expected
    assert diffuse("apply", "heat", "image.npy", "b.zarr", "--time", "soon").exit_code == 2
