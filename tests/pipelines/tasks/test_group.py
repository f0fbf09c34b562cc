"""Tiles of one task are done one after another; one that fails takes none with it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.image.window import Grid, Region, Window
from pipelines.tasks.admission.proof import own_proof
from pipelines.tasks.fence import Fence
from pipelines.tasks.group import Failure, OtherCodeError, perform_group
from pipelines.tasks.values import Cost, Done, Outcome
from pipelines.tasks.work import Work

GRID = Grid((40,), (10,))
FENCE = Fence("nowhere", "none")


@dataclass(frozen=True)
class Picky(Work):
    """Work that refuses the tile which begins at a cell."""

    refused: int = -1
    dtype = np.dtype("u1")
    sources = ()

    def cost(self, grid: Grid) -> Cost:
        return Cost(0, 0, 0)

    def window(self, region: Region) -> Window:
        return Window(region, region, region, ((0, 0),))

    def compute(self, window: Window) -> Done:
        if window.write[0].start == self.refused:
            raise OSError(errno.ENOSPC, "full")
        return Done(None, read_bytes=int(window.write[0].start))


def test_tiles_around_one_that_fails_are_done():
    first, failed, last = perform_group(
        own_proof().digest, FENCE, "stage", Picky(refused=20), GRID, [1, 2, 3]
    )
    assert isinstance(first, Outcome)
    assert isinstance(last, Outcome)
    assert (first.read_bytes, last.read_bytes) == (10, 30)
    assert failed == Failure("OSError: [Errno 28] full", errno.ENOSPC)


def test_a_full_disk_is_seen_behind_another_error():
    error = RuntimeError("writing failed")
    error.__cause__ = OSError(errno.EDQUOT, "quota")
    assert Failure.of(error).disk_full
    assert not Failure.of(RuntimeError("writing failed")).disk_full


def test_a_process_with_another_proof_does_nothing():
    with pytest.raises(OtherCodeError, match="Restart the worker"):
        perform_group("another", FENCE, "stage", Picky(), GRID, [0])
