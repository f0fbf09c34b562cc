"""Kill a graph of steps at any time: the same is decided again, and all results have the same bytes."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.run.verify import verify
from tests.pipelines.run.test_never_lost import command, kill_all, linux, tiles_in_journal, wait_for_tiles
from tests.pipelines.runs import ragged_image

SPEC = """
source: {{uri: source.npy}}
steps:
  - {{name: noisy, operator: random-noise, level: 5, seed: 3}}
  - {{name: outline, operator: heat, octave: 1, time: 4}}
  - {{name: calm, operator: perona-malik, contrast: {{quantile: 0.6}}, input: noisy, time: 2,
     schedule: {{adaptive: 2.0}}}}
  - {{name: crisp, operator: coherence-enhancing, contrast: 8, guide: outline, mask: source, time: 2}}
  - {{name: edges, operator: canny}}
  - {{name: flat, operator: total-variation, weight: 6, input: crisp, steps: 60, until: {{energy: 1.0e-2, every: 6}}}}
  - {{name: grown, operator: gray-scott, white: 200, steps: 6}}
outputs:
  - {{name: edges, uri: {name}-edges.zarr}}
  - {{name: noisy, residual: true, uri: {name}-removed.zarr}}
  - {{name: flat, dtype: float64, uri: {name}-flat.ome.zarr}}
sink: {{uri: {name}.zarr, chunk: 128}}
run: {{tile: 128, batch: 4, threads: 2, cluster: {cluster}, memory: 3GiB}}
"""

RESULTS = ("{}.zarr", "{}-edges.zarr", "{}-removed.zarr", "{}-flat.ome.zarr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    np.save(folder / "source.npy", ragged_image((330, 390)))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(folder) -> tuple[list[dict[str, bytes]], int]:
    """Return the files of every result of a run that nobody disturbed, and how many tiles its journal holds."""
    finish(write_spec(folder, "whole"))
    return results(folder, "whole"), tiles_in_journal(folder, "whole")


def write_spec(folder: Path, name: str, cluster: str = "threads") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SPEC.format(name=name, cluster=cluster))
    return path


def finish(spec: Path) -> None:
    last = subprocess.run(command(spec), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr


def results(folder: Path, name: str) -> list[dict[str, bytes]]:
    """Return the bytes of all chunks of every result, by their paths inside it."""
    roots = [folder / result.format(name) for result in RESULTS]
    return [
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("c/**/*") if path.is_file()}
        for root in roots
    ]


def kill_often(folder: Path, name: str, cluster: str, kills: int, tiles: int) -> None:
    """Kill a run again and again, each time somewhere in what is left of it, and let the last one finish.

    The last kill comes while the results are put into their places.
    """
    spec, chance = write_spec(folder, name, cluster), random.Random(name)
    for left in range(kills, 0, -1):
        # Nobody reads what it says; a pipe that is full would stop it.
        process = subprocess.Popen(
            command(spec), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        done = tiles_in_journal(folder, name)
        some = chance.randint(0, 2 * (tiles - done) // (left + 1))
        wait_for_tiles(folder, name, tiles if left == 1 else done + some, process)
        time.sleep(chance.random() * (0.3 if left == 1 else 0.05))
        kill_all(process)
    finish(spec)


@linux
@pytest.mark.slow
def test_a_killed_graph_ends_with_the_same_bytes(folder, uninterrupted):
    expected, tiles = uninterrupted
    kill_often(folder, "killed", "threads", 4, tiles)
    assert all(expected)
    assert results(folder, "killed") == expected
    assert verify(str(folder / "killed.zarr"), samples=2)["ok"]


@linux
@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["threads", "local"])
def test_graphs_killed_many_times_end_with_the_same_bytes(folder, uninterrupted, cluster):
    expected, tiles = uninterrupted
    for round_ in range(3):
        name = f"{cluster}-{round_}"
        kill_often(folder, name, cluster, 12, tiles)
        assert results(folder, name) == expected
