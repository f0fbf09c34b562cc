"""A new operator and a new format need one file each, and nothing else: no import, no list, no other change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.plugin_examples import GRAYMAP, ROOT, diffuse, diffuse_each, guide_operator, python, save_graymap


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of both packages and more files: the guide's operators, and a format."""
    folder = tmp_path_factory.mktemp("extended")
    for package in ("diffusion_ops", "pipelines"):
        shutil.copytree(ROOT / package, folder / package)
    for name in ("fisher", "dilation"):
        file = folder / "diffusion_ops" / "operators" / f"{name}.py"
        file.write_text(guide_operator(name), encoding="utf-8")
    (folder / "pipelines" / "formats" / "graymap.py").write_text(GRAYMAP, encoding="utf-8")
    save_graymap(folder / "in.pgm")
    return folder


@pytest.mark.thorough
def test_lists_and_schema_find_them(extended: Path) -> None:
    asked = ("list operators --json", "list formats --json", "schema")
    listed, found, schema = diffuse_each(extended, *asked)
    (fisher,) = (entry for entry in json.loads(listed) if entry["name"] == "fisher")
    assert fisher["parameters"][0]["unit"] == "1 / time"
    formats: dict[str, Any] = json.loads(found)
    assert all("graymap" in [entry["name"] for entry in entries] for entries in formats.values())
    assert '"const": "fisher"' in schema
    assert "'fisher'" in diffuse(extended, "apply", "fischer", "in.pgm", "no.pgm", "--time", "1", code=2)


@pytest.mark.thorough
def test_containers_find_the_operator(extended: Path) -> None:
    script = """
import dask.array as da, numpy as np, xarray as xr
import diffusion_ops as do
image = np.random.default_rng(0).random((40, 31)).astype("float32")
whole = do.evolve(image, do.Fisher(r=0.5), time=3)
assert np.array_equal(do.evolve(da.from_array(image, (11, 13)), "fisher", steps=4).compute(),
                      do.evolve(image, do.Fisher(), steps=4))
assert np.array_equal(xr.DataArray(image, dims=("y", "x")).diffuse.fisher(r=0.5, time=3), whole)
print(do.Fisher.__module__)
"""
    assert python(extended, "-c", script) == "diffusion_ops.operators.fisher\n"


def test_specs_plans_runs_and_proofs_find_both(extended: Path) -> None:
    (extended / "spec.yaml").write_text(
        "source: {uri: in.pgm}\n"
        "steps: [{operator: fisher, r: 0.0001, time: 2}]\n"
        "sink: {uri: out.pgm, dtype: uint8, chunk: 16}\n"
        "run: {tile: 16, threads: 2}\n"
    )
    told, _, proof = diffuse_each(extended, "plan spec.yaml --json", "run spec.yaml", "verify out.pgm")
    plan = json.loads(told)
    assert plan["tiles"] >= 12
    assert plan["source"]["shape"] == [61, 47]
    assert proof
    script = """
import numpy as np
import diffusion_ops as do
before, after = (np.frombuffer(open(name, "rb").read()[-61 * 47:], np.uint8).reshape(61, 47) for name in
                 ("in.pgm", "out.pgm"))
assert np.array_equal(do.evolve(before, do.Fisher(r=0.0001), time=2, dtype="uint8"), after)
"""
    python(extended, "-W", "error", "-c", script)


@pytest.mark.slow
def test_a_compiled_operator_brings_samples_picture_row_and_stub(extended: Path) -> None:
    """What the guide says at its end, with its own file and nothing else; then every contract holds."""
    shutil.copytree(ROOT / "tests", extended / "tests")
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, extended)
    tests = [f"tests/test_contracts_{word}.py" for word in ("operators", "windows", "workspace")]
    assert " passed" in python(extended, "-m", "pytest", "-q", "-n", "0", "-k", "dilation", *tests)
    python(extended, "-m", "tests.pictures.make_pictures", "dilation")
    assert (extended / "notebooks" / "pictures" / "dilation.png").is_file()
    table = (extended / "README.md").read_text(encoding="utf-8")
    assert "`dilation`" in table
    assert "bright shapes grow at a constant speed | ![dilation]" in table
    python(extended, "-m", "tests.make_stubs")
    stub = (extended / "diffusion_ops" / "accessor.pyi").read_text(encoding="utf-8")
    assert "def dilation(\n        self,\n        speed: float = 1.0," in stub
