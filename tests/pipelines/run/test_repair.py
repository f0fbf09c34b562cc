"""What is damaged after or during a run is named, and done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.events import StageStarted, TileDone
from pipelines.refusal import RefusedError
from pipelines.run.repair import repair
from pipelines.run.run import run
from pipelines.run.verify import verify
from tests.pipelines.runs import contents_of, ragged_image, save_source, small_spec


@pytest.fixture
def image() -> np.ndarray:
    return ragged_image((300, 230))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def finished(folder: Path, image: np.ndarray, name: str, **sections: Any) -> tuple[Path, dict[str, bytes]]:
    run(small_spec(save_source(folder, image), folder / name, **sections))
    return folder / name, contents_of(folder / name)


@pytest.mark.parametrize("level", ["0", "1"])
@pytest.mark.parametrize("fault", ["flipped", "missing", "other values"])
def test_damaged_tiles_are_computed_alone(tmp_path: Path, image: np.ndarray, fault: str, level: str) -> None:
    quantile = {"operator": "perona-malik", "contrast": {"quantile": 0.9}, "steps": 9}
    sections = {"steps": [quantile], "sink": {"chunk": 64, "pyramid": 2}}
    target, before = finished(tmp_path, image, "out.ome.zarr", **sections)
    chunks = sorted(path for path in (target / level / "c").rglob("*") if path.is_file())
    if fault == "flipped":
        flip(chunks[1])
    elif fault == "missing":
        chunks[1].unlink()
    else:
        chunks[1].write_bytes(chunks[0].read_bytes())
    found = verify(str(target))
    assert not found["ok"]
    (problem, *_) = found["problems"]
    assert "x 64:1" in problem
    computed: list[object] = []
    done = repair(str(target), listeners=[computed.append])
    assert done["ok"]
    assert (done["tiles"], done["whole"]) == (1, "")
    assert contents_of(target) == before
    assert verify(str(target))["ok"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.ome.zarr",
        "out.ome.zarr.run",
        "source.npy",
    ]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "damage"),
    [("out.tif", ""), ("out.ome.zarr", "zarr.json"), ("out.ome.zarr", "0/zarr.json")],
)
def test_files_and_metadata_are_made_anew(tmp_path: Path, image: np.ndarray, name: str, damage: str) -> None:
    target, before = finished(tmp_path, image, name)
    flip(target / damage if damage else target)
    assert not verify(str(target))["ok"] if damage != "0/zarr.json" else True
    done = repair(str(target))
    assert done["ok"]
    assert done["whole"]
    assert contents_of(target) == before


def test_nothing_is_done_where_nothing_is_damaged(tmp_path: Path, image: np.ndarray) -> None:
    target, before = finished(tmp_path, image, "out.zarr")
    done = repair(str(target))
    assert (done["ok"], done["damaged"], done["tiles"], done["whole"]) == (True, [], 0, "")
    assert contents_of(target) == before


def test_another_source_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    target, _ = finished(tmp_path, image, "out.zarr")
    np.save(tmp_path / "source.npy", image + 1)
    with pytest.raises(RefusedError, match="has changed since"):
        repair(str(target))


def test_the_damage_of_a_run_that_is_not_finished_is_named(tmp_path: Path, image: np.ndarray) -> None:
    class StopError(Exception):
        pass

    def stop(event: object) -> None:
        if isinstance(event, TileDone) and event.stage == 1 and event.tile == 3:
            raise StopError

    spec = small_spec(save_source(tmp_path, image), tmp_path / "out.zarr")
    with pytest.raises(StopError):
        run(spec, listeners=[stop])
    whole = verify(spec.sink.uri)
    assert whole["ok"]
    assert whole["tiles"] > 5
    chunks = [p for p in Path(spec.workdir).glob("run-*/state/*/c/*/*") if p.is_file()]
    flip(chunks[2])
    checked: list[object] = []
    found = verify(spec.sink.uri, listeners=[checked.append])
    assert len(found["problems"]) == 1
    assert "damaged or gone" in found["problems"][0]
    assert any(isinstance(event, StageStarted) for event in checked)
    with pytest.raises(RefusedError, match="not complete"):
        repair(spec.sink.uri)
    assert run(spec).exit_code == 0
    assert verify(spec.sink.uri)["ok"]
