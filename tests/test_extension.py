"""A new operator and a new format need one file each, and nothing else: no import, no list, no other change."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

GRAYMAP = '''
"""Portable graymaps (.pgm): a header in words, then bytes."""

from pathlib import Path

import numpy as np

from pipelines.image.identity import file_identity
from pipelines.image.info import ImageInfo
from pipelines.image.levels import reordered
from pipelines.store.publish import published_file, scratch_folder
from pipelines.image.sink import SINKS, Level, Sink
from pipelines.image.source import SOURCES, Source
from pipelines.image.levels import create_level
from pipelines.store.arrays import choose_chunks, open_array


@SOURCES.register("graymap")
class GraymapSource(Source):
    """One plane of bytes."""

    extensions = (".pgm",)
    about = "portable graymap"

    def __init__(self, spec):
        self._path = Path(spec.uri)
        _, width, height, _ = self._path.read_bytes().split(maxsplit=4)[:4]
        self._shape = int(height), int(width)
        identity = file_identity(spec)
        self.info = ImageInfo(self._shape, np.dtype("uint8"), "yx", self._shape, identity=identity)

    @classmethod
    def claims(cls, uri):
        path = Path(uri)
        return 10 if path.is_file() and path.read_bytes()[:2] == b"P5" else 0

    @classmethod
    def open(cls, spec):
        return cls(spec)

    def read(self, region):
        cells = self._shape[0] * self._shape[1]
        return np.frombuffer(self._path.read_bytes()[-cells:], np.uint8).reshape(self._shape)[region]


@SINKS.register("graymap")
class GraymapSink(Sink):
    """One plane of bytes."""

    extensions = (".pgm",)
    about = "portable graymap"

    def levels(self, info):
        layout = choose_chunks("yx", (info.size("y"), info.size("x")), self.spec.chunk)
        return (Level("pixels", reordered(info, "yx").replace(chunks=layout.unit), layout.chunks, (1, 1)),)

    def create(self, root, info, levels):
        create_level(root, levels[0], self.spec.compression)

    def finish(self, root, info, levels, target, memory):
        pixels = np.asarray(open_array(root, "pixels")[...])
        with scratch_folder(root) as scratch, published_file(target, scratch) as part:
            header = f"P5 {pixels.shape[1]} {pixels.shape[0]} 255\\n".encode()
            Path(part).write_bytes(header + pixels.tobytes())
'''


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of both packages and two more files: the site's operator, and a format."""
    folder = tmp_path_factory.mktemp("extended")
    for package in ("diffusion_ops", "pipelines"):
        shutil.copytree(ROOT / package, folder / package)
    page = (ROOT / "notebooks" / "guides" / "new_operator.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (operator,) = (block for block in blocks if '@register("fisher")' in block)
    (folder / "diffusion_ops" / "operators" / "fisher.py").write_text(operator, encoding="utf-8")
    (folder / "pipelines" / "formats" / "graymap.py").write_text(GRAYMAP, encoding="utf-8")
    pixels = (np.random.default_rng(0).random((61, 47)) * 200).astype(np.uint8)
    (folder / "in.pgm").write_bytes(b"P5 47 61 255\n" + pixels.tobytes())
    return folder


def python(folder: Path, *arguments: str, code: int = 0) -> str:
    """Return what Python prints with the packages of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + (done.stderr if code else "")


def diffuse(folder: Path, *arguments: str, code: int = 0) -> str:
    """Return what the command prints with the packages of a folder."""
    return python(folder, "-m", "pipelines.cli.command", *arguments, code=code)


def test_lists_and_schema_find_them(extended: Path) -> None:
    operators = json.loads(diffuse(extended, "list", "operators", "--json"))
    (fisher,) = (entry for entry in operators if entry["name"] == "fisher")
    assert fisher["parameters"][0]["unit"] == "1 / time"
    formats: dict[str, Any] = json.loads(diffuse(extended, "list", "formats", "--json"))
    assert all("graymap" in [entry["name"] for entry in entries] for entries in formats.values())
    assert '"const": "fisher"' in diffuse(extended, "schema")
    assert "'fisher'" in diffuse(extended, "apply", "fischer", "in.pgm", "no.pgm", "--time", "1", code=2)


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
    plan = json.loads(diffuse(extended, "plan", "spec.yaml", "--json"))
    assert plan["tiles"] >= 12
    assert plan["source"]["shape"] == [61, 47]
    diffuse(extended, "run", "spec.yaml")
    assert diffuse(extended, "verify", "out.pgm")
    script = """
import numpy as np
import diffusion_ops as do
before, after = (np.frombuffer(open(name, "rb").read()[-61 * 47:], np.uint8).reshape(61, 47) for name in
                 ("in.pgm", "out.pgm"))
assert np.array_equal(do.evolve(before, do.Fisher(r=0.0001), time=2, dtype="uint8"), after)
"""
    python(extended, "-W", "error", "-c", script)
