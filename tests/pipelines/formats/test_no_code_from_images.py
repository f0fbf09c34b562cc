"""An image may hold pickled objects, which would run code of whoever made it: it is refused, and nothing runs."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli.command import app

PICKLE, ZLIB = {"id": "pickle", "protocol": 5}, {"id": "zlib", "level": 1}


class Trap:
    """An object that makes a folder as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def save_array_of_zarr_2(path: Path, trap: bytes, filters: list[Any] | None, compressor: Any) -> None:
    path.mkdir()
    described = {
        "zarr_format": 2,
        "shape": [8, 8],
        "chunks": [8, 8],
        "dtype": "<f4",
        "fill_value": 0,
        "order": "C",
    }
    described |= {"filters": filters, "compressor": compressor}
    (path / ".zarray").write_text(json.dumps(described))
    (path / "0.0").write_bytes(trap)


def save_array_of_zarr_3(path: Path, trap: bytes, codec: str) -> None:
    (path / "c" / "0").mkdir(parents=True)
    described = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [8, 8],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 8]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": codec}],
    }
    (path / "zarr.json").write_text(json.dumps(described))
    (path / "c" / "0" / "0").write_bytes(trap)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "kind",
    [
        ([PICKLE], None),
        (None, PICKLE),
        ([ZLIB, PICKLE], None),
        ([ZLIB], PICKLE),
        "pickle",
        "numcodecs.pickle",
        "npy",
    ],
    ids=str,
)
def test_nothing_that_is_pickled_is_read(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sprung, source = tmp_path / "sprung", tmp_path / ("image.npy" if kind == "npy" else "image.zarr")
    trap = pickle.dumps(Trap(sprung))
    if kind == "npy":
        np.save(source, np.array([[Trap(sprung)]], object), allow_pickle=True)
    elif isinstance(kind, str):
        save_array_of_zarr_3(source, trap, kind)
    else:
        save_array_of_zarr_2(source, trap, *kind)
    result = CliRunner().invoke(app, ["apply", "heat", str(source), "out.zarr", "--time", "1"])
    assert result.exit_code == 2, result.output
    assert {path.name for path in tmp_path.iterdir()} == {source.name}
    pickle.loads(trap)
    assert sprung.is_dir(), "the trap works where it is read"
