"""The example specs are valid, and do on real images what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.open_source import open_source
from pipelines.run import run
from pipelines.source import SourceSpec, read_canonical
from pipelines.spec import load_spec

DEPLOY = Path(__file__).parents[1] / "deploy"
SPECS = sorted(DEPLOY.glob("*.yaml"))

REAL = {
    "slide": ("slide", "CMU-1-Small-Region.svs"),
    "satellite": ("satellite", "landsat8_rgb_uint16_nodata0.tif"),
    "nuclei": ("medical", "xy_8bit__nuclei_PLK1_control.ome.zarr"),
}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_spec_is_valid_and_listed(path: Path) -> None:
    assert load_spec(path).steps
    assert f"({path.name})" in (DEPLOY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_spec_calms_a_real_image(path: Path, tmp_path: Path, shared_data: Callable[..., Path]) -> None:
    image = shared_data(*REAL[path.stem])
    text = path.read_text(encoding="utf-8").replace(Path(load_spec(path).source.uri).name, str(image))
    (tmp_path / path.name).write_text(text, encoding="utf-8")
    spec = load_spec(tmp_path / path.name)
    assert run(spec).exit_code == 0
    before, after = open_source(spec.source), open_source(SourceSpec(uri=spec.sink.uri))
    assert [after.info.size(a) for a in "tczyx"] == [before.info.size(a) for a in "tczyx"]
    assert after.info.spacing == before.info.spacing
    assert after.info.georeference == before.info.georeference
    assert after.info.nodata == before.info.nodata
    first, second = (_corner(source) for source in (before, after))
    assert _roughness(second) < 0.9 * _roughness(first)


def _corner(source: Any) -> Any:
    rows, columns = (slice(source.info.size(a) // 2 - 100, source.info.size(a) // 2 + 100) for a in "yx")
    return read_canonical(source, {"y": rows, "x": columns}).astype(float)


def _roughness(pixels: Any) -> float:
    return float(np.abs(np.diff(pixels)).mean())
