"""The demonstration: a real image without a download, a result with pyramid, a picture."""

import json
from pathlib import Path

import pytest
import pywt.data
import zarr
from skimage.io import imread
from typer.testing import CliRunner

from pipelines.cli import demo
from pipelines.cli.command import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demonstration that has run."""
    folder = tmp_path_factory.mktemp("here") / "demo"
    result = CliRunner().invoke(app, ["demo", str(folder)])
    assert result.exit_code == 0, result.stderr
    assert "Try next:" in result.stdout
    assert str(folder / "before_after.png") in result.stdout
    return folder


def test_the_result_has_a_pyramid(folder):
    group = zarr.open_group(folder / "denoised.ome.zarr", mode="r")
    levels = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [group[level["path"]].shape[-1] for level in levels] == [512, 256, 128]


def test_the_picture_shows_before_and_after(folder):
    picture, photograph = imread(folder / "before_after.png"), imread(folder / "aerial.png")
    assert (photograph == pywt.data.aero()).all()
    assert picture.shape == (512, 1024 + 8, 3)
    assert (picture[:, :512] == photograph[..., None]).all()
    assert (picture[:, :512] != picture[:, 520:]).mean() > 0.5


def test_again_does_nothing_and_says_so(folder):
    result = CliRunner().invoke(app, ["demo", str(folder), "--json"])
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["run_finished", "demo_finished"]
    assert Path(events[-1]["report"]).exists()


def test_what_the_user_changed_stays(tmp_path):
    demo.prepare(tmp_path)
    text = (tmp_path / "spec.yaml").read_text().replace("time: 4 ", "time: 1 ")
    (tmp_path / "spec.yaml").write_text(text)
    assert demo.prepare(tmp_path).steps[0].time == 1
    assert (tmp_path / "spec.yaml").read_text() == text


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        demo.prepare(tmp_path / "demo")
    assert (tmp_path / "demo").read_text() == "mine"
