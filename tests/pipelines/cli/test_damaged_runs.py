"""Verbs over the folder of a run whose files are damaged: a sentence that says what to do, and no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.run.run import run
from pipelines.spec.spec import make_spec
from tests.pipelines.cli.test_command import diffuse

DAMAGE = {
    "empty": lambda text: b"",
    "cut": lambda text: text[: len(text) // 2],
    "binary": lambda text: b"\xff\xfe\x00" * 50,
    "list": lambda text: b"[1, 2]",
    "number": lambda text: b"3",
    "other keys": lambda text: b'{"a": 1}',
    "deep": lambda text: b"[" * 100_000,
    "wrong types": lambda text: json.dumps(dict.fromkeys(json.loads(text), "x")).encode(),
    "nulls": lambda text: json.dumps(dict.fromkeys(json.loads(text))).encode(),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    np.save(folder / "image.npy", np.random.default_rng(5).integers(0, 255, (60, 70), np.uint8))
    data = {
        "source": {"uri": "image.npy"},
        "steps": [{"operator": "heat", "steps": 2}],
        "sink": {"uri": "out.zarr"},
        "run": {"threads": 1},
    }
    assert run(make_spec(data, folder)).exit_code == 0
    return folder


@pytest.mark.parametrize("name", ["run.json", "report.json"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_of_a_run_is_said(finished, tmp_path, kind, name):
    folder = Path(shutil.copytree(finished / "out.zarr.run", tmp_path / "out.zarr.run"))
    file = folder / name
    file.write_bytes(DAMAGE[kind](file.read_bytes()))
    for verb in ("status", "verify"):
        result = diffuse(verb, str(tmp_path / "out.zarr"))
        assert result.exit_code in (0, 2), (verb, result.stderr)
        assert "Unexpected" not in result.stderr
        if name == "run.json" and (verb == "status" or kind != "wrong types"):
            assert "is damaged" in result.stderr
            assert "--overwrite" in result.stderr


@pytest.mark.parametrize(
    "line", [b"{", b"\xff\n", b"[]\n", b'{"stage": 9, "tile": 0, "crc": 1}\n', b'{"a": 1}\n']
)
def test_a_damaged_journal_is_said(finished, tmp_path, line):
    folder = Path(shutil.copytree(finished / "out.zarr.run", tmp_path / "out.zarr.run"))
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(line)
    result = diffuse("status", str(tmp_path / "out.zarr"))
    assert result.exit_code in (0, 2), result.stderr
    assert "Unexpected" not in result.stderr


def test_a_folder_of_a_run_that_is_a_file_is_said(tmp_path):
    (tmp_path / "out.zarr.run").write_text("notes")
    assert diffuse("status", str(tmp_path / "out.zarr")).exit_code == 2
