"""Pictures of results: any image becomes colours, and an older picture is replaced."""

from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from pipelines.cli.picture import read_colours, side_by_side, write_picture
from pipelines.image.source import SourceSpec


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((7, 9), "yx"), ((7, 9, 3), "yxc"), ((2, 7, 9), "cyx"), ((5, 7, 9), "zyx"), ((4, 2, 7, 9), "tcyx")],
)
def test_any_axes_become_three_colours(tmp_path: Path, shape, axes):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.save(tmp_path / "a.npy", values)
    colours = read_colours(SourceSpec(uri=str(tmp_path / "a.npy"), axes=axes), 8)
    assert colours.shape == (7, 8, 3)
    assert colours.dtype == np.uint8
    assert colours[0, 1, 0] == values[tuple(1 if a == "x" else 0 for a in axes)]


def test_values_are_rounded_and_clipped_and_nan_is_black(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([[-3.0, 1.6, 300.0, np.nan]]))
    colours = read_colours(SourceSpec(uri=str(tmp_path / "a.npy")), 8)
    assert colours[0, :, 0].tolist() == [0, 2, 255, 0]


def test_pictures_stand_beside_each_other_and_replace_older_ones(tmp_path: Path):
    black, grey = np.zeros((4, 5, 3), np.uint8), np.full((4, 6, 3), 99, np.uint8)
    target = tmp_path / "both.png"
    write_picture(grey, target)
    write_picture(side_by_side([black, grey]), target)
    picture = imread(target)
    assert picture.shape == (4, 5 + 8 + 6, 3)
    assert (picture[:, 5:13] == 255).all()
    assert [path.name for path in tmp_path.iterdir()] == ["both.png"]
