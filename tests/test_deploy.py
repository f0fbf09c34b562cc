"""The example specs are valid, and do on real images what they say."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, read_canonical
from pipelines.run.run import run
from pipelines.spec.spec import Spec, load_spec

DEPLOY = Path(__file__).parents[1] / "deploy"
SPECS = sorted(DEPLOY.glob("*.yaml"))

REAL = {
    "slide": ("slide", "CMU-1-Small-Region.svs"),
    "satellite": ("satellite", "landsat8_rgb_uint16_nodata0.tif"),
    "nuclei": ("medical", "xy_8bit__nuclei_PLK1_control.ome.zarr"),
    "sar": ("satellite", "s1_slc_complex_int16.tif"),
    "photograph": ("denoise", "RNI6", "Vinegar.png"),
}
MADE = {"texture"}
"""Specs whose result owes nothing to an image."""

LANDSAT = ("satellite", "landsat8_rgb_uint16_nodata0.tif")
FOUND = {
    "fluorescence_nuclei": (("medical", "xy_8bit__nuclei_PLK1_control.ome.zarr"), (5, 60)),
    "stained_nuclei": (("segment", "DSB2018", "HEb_320x256_00ae65c1.png"), (40, 120)),
    "slide_nuclei": (("slide", "CMU-1-Small-Region.svs"), (500, 5000)),
    "fields": (LANDSAT, (300, 3000)),
}
"""Specs that number objects, images, and how many objects there are, about."""


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_spec_is_valid_and_listed(path: Path) -> None:
    assert load_spec(path).steps
    assert f"({path.name})" in (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert path.stem in REAL.keys() | MADE | FOUND.keys() | {"fill"}


@pytest.mark.documents
@pytest.mark.parametrize("name", REAL)
def test_spec_calms_a_real_image(name: str, tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    spec = _carry_out(name, shared_data(*REAL[name]), tmp_path)
    before, after = open_source(spec.source), open_source(SourceSpec(uri=spec.sink.uri))
    assert [after.info.size(a) for a in "tczyx"] == [before.info.size(a) for a in "tczyx"]
    assert after.info.spacing == before.info.spacing
    assert after.info.georeference == before.info.georeference
    assert after.info.nodata == before.info.nodata
    first, second = (_corner(source) for source in (before, after))
    assert _roughness(second) < 0.9 * _roughness(first)


@pytest.mark.documents
def test_texture_grows_all_over(tmp_path: Path) -> None:
    marks = tmp_path / "black.npy"
    np.save(marks, np.zeros((256, 256), np.uint8))
    maze = open_source(SourceSpec(uri=_carry_out("texture", marks, tmp_path).sink.uri))
    pixels = read_canonical(maze, {})
    parts = [part for half in np.split(pixels, 2, axis=-1) for part in np.split(half, 2, axis=-2)]
    assert all(part.min() < 30 and part.max() > 150 for part in parts)


@pytest.mark.documents
@pytest.mark.parametrize(
    "name", [n if n == "fluorescence_nuclei" else pytest.param(n, marks=pytest.mark.slow) for n in FOUND]
)
def test_spec_numbers_the_objects_of_a_real_image(
    name: str, tmp_path: Path, shared_data: Callable[..., Path]
) -> None:
    image, (least, most) = FOUND[name]
    spec = _carry_out(name, shared_data(*image), tmp_path)
    labels = read_canonical(open_source(SourceSpec(uri=spec.sink.uri)), {})
    (table,) = tmp_path.glob("*.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert least < len(rows) < most
    numbers, cells = np.unique(labels[labels > 0], return_counts=True)
    assert [(int(row["label"]), int(row["cells"])) for row in rows] == list(
        zip(numbers.tolist(), cells.tolist(), strict=True)
    )


@pytest.mark.documents
@pytest.mark.slow
def test_gaps_of_a_scene_are_filled(tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    spec = _carry_out("fill", shared_data(*LANDSAT), tmp_path)
    before, after = (
        read_canonical(open_source(one), {}) for one in (spec.source, SourceSpec(uri=spec.sink.uri))
    )
    known = (before != 0).all(axis=0)
    assert known.mean() < 0.7
    assert (after != 0).all()
    assert np.array_equal(after[:, known], before[:, known])


def _carry_out(name: str, image: Path, folder: Path) -> Spec:
    """Run a spec of `deploy/` in another folder, over another image."""
    path = DEPLOY / f"{name}.yaml"
    text = path.read_text(encoding="utf-8").replace(Path(load_spec(path).source.uri).name, str(image))
    (folder / path.name).write_text(text, encoding="utf-8")
    spec = load_spec(folder / path.name)
    assert run(spec).exit_code == 0
    return spec


def _corner(source: Any) -> Any:
    rows, columns = (slice(source.info.size(a) // 2 - 100, source.info.size(a) // 2 + 100) for a in "yx")
    return read_canonical(source, {"y": rows, "x": columns}).astype(float)


def _roughness(pixels: Any) -> float:
    return float(np.abs(np.diff(pixels)).mean())
