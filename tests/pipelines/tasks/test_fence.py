"""Tasks of an epoch that is over write nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zarr.storage import LocalStore

from pipelines.store.arrays import Chunking, create_array
from pipelines.tasks.fence import Fence, FencedOffError, behind, require_own_epoch
from pipelines.tasks.pixels import ZarrPixels


def test_writes_pass_only_while_their_epoch_lasts(tmp_path: Path) -> None:
    epoch = tmp_path / "epoch"
    epoch.write_text("first")
    root = str(tmp_path / "run-0" / "state")
    create_array(root, "a", (4, 4), np.dtype("f4"), Chunking((4, 4)), axes="yx", compression="none")
    pixels, region = ZarrPixels(root, "a", "yx", "yx"), (slice(0, 4), slice(0, 4))
    with behind(Fence(str(epoch), "first")):
        pixels.write(region, np.ones((4, 4), np.float32))
        epoch.write_text("second")
        with pytest.raises(FencedOffError, match="it is second now"):
            pixels.write(region, np.zeros((4, 4), np.float32))
    assert (pixels.read(region) == 1).all()
    assert not list((tmp_path / "run-0" / "writing").iterdir())


def test_a_missing_epoch_is_over_and_without_a_fence_all_pass(tmp_path: Path) -> None:
    require_own_epoch()
    with behind(Fence(str(tmp_path / "epoch"), "first")), pytest.raises(FencedOffError, match="none"):
        require_own_epoch()
    require_own_epoch()


def test_an_array_that_is_gone_takes_no_chunk(tmp_path: Path) -> None:
    root = tmp_path / "run-0" / "state"
    create_array(str(root), "a", (4, 4), np.dtype("f4"), Chunking((4, 4)), axes="yx", compression="none")
    pixels, region = ZarrPixels(str(root), "a", "yx", "yx"), (slice(0, 4), slice(0, 4))

    def published() -> None:
        root.rename(tmp_path / "target.zarr")

    with pytest.raises(FileNotFoundError), behind(_Acting(published)):
        pixels.write(region, np.ones((4, 4), np.float32))
    assert not root.exists()
    assert not (tmp_path / "target.zarr" / "a" / "c").exists()
    assert LocalStore(tmp_path / "target.zarr").root.exists()


class _Acting(Fence):
    """A fence at which something else happens: between writing and moving of a chunk."""

    def __init__(self, act: object) -> None:
        object.__setattr__(self, "act", act)

    def require(self) -> None:
        self.act()  # type: ignore[attr-defined]
