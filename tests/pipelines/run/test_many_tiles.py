"""What the driver and Dask's scheduler hold does not grow with the tiles that are done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.bench_dask import measure_many
from tests.pipelines.run.test_never_lost import linux

IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is room: there a tile takes workers a third of the time."""
    if not IN_MEMORY.is_dir() or shutil.disk_usage(IN_MEMORY).free < 1 << 30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as found:
        yield Path(found)


@linux
@pytest.mark.parametrize(
    ("tiles", "driver", "scheduler"),
    [
        pytest.param(50_000, 250, 250, marks=pytest.mark.thorough),
        # 23 were measured of Dask's scheduler, 1 kB per task of some 45 tiles; a fifth are names of its last
        # 100,000 tasks.
        pytest.param(1_000_000, 4, 40, marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_tiles(folder: Path, tiles: int, driver: float, scheduler: float) -> None:
    """By few bytes per tile: a kilobyte for each would show, and in the driver of a million one for each task, too."""
    found = measure_many(folder, tiles)
    assert found.tiles == tiles
    assert len(found.driver.tiles) > 50
    assert found.driver.growth(tiles) < driver, found.text()
    assert found.scheduler.growth(tiles) < scheduler, found.text()
