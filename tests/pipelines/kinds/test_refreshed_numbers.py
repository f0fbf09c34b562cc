"""A run whose numbers are measured again and again is stopped anywhere, goes on, and ends in the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import data

import diffusion_ops as do
from pipelines.events import Event, TileDone
from pipelines.run.run import run
from tests.pipelines.runs import read_result, save_source, small_spec

COINS = data.coins()[:130, :150]
STEPS = [
    {"name": "phases", "operator": "threshold-dynamics", "every": 2, "steps": 5},
    {"name": "objects", "operator": "components"},
]


class Stop:
    """Stop a run after some tiles."""

    def __init__(self, tiles: int) -> None:
        self.left = tiles

    def __call__(self, event: Event) -> None:
        self.left -= isinstance(event, TileDone)
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.thorough
def test_it_goes_on_from_any_tile(tmp_path: Path) -> None:
    source = save_source(tmp_path, COINS)
    expected = do.evolve(
        COINS, [do.ThresholdDynamics(every=2), do.Components()], steps=[5, None], dtype="uint16"
    )
    tables = set()
    for stop in (1, 31, 62):
        folder = tmp_path / str(stop)
        folder.mkdir()
        spec = small_spec(
            source,
            folder / "a.zarr",
            steps=STEPS,
            sink={"dtype": "uint16"},
            outputs=[{"name": "objects", "uri": str(folder / "a.csv")}],
            run={"batch": 1, "tile": 64},
        )
        interrupted = False
        try:
            interrupted = run(spec, listeners=[Stop(stop)]).exit_code != 0
        except KeyboardInterrupt:
            interrupted = True
        assert interrupted
        assert run(spec).data["complete"]
        assert np.array_equal(read_result(folder / "a.zarr"), expected)
        tables.add((folder / "a.csv").read_bytes())
    assert len(tables) == 1
