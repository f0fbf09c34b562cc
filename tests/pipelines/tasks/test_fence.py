"""Tasks of an epoch that is over write nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zarr.storage import LocalStore

from pipelines.store.arrays import Chunking, create_array
from pipelines.store.guarded import MissingChunkError
from pipelines.store.places import place_of
from pipelines.store.publish import put_files
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


# ---- in a store


class _Overtaken(Fence):
    """A fence at which, once a task has passed it, another process takes over and writes."""

    def require(self) -> None:
        if not asked:
            asked.append(self)
            place, path = place_of(self.path)
            place.write(path, b"second")
            with behind(Fence(self.path, "second")):
                PIXELS[0].write(REGION, np.full((4, 4), 2, np.float32))
            return
        super().require()


asked: list[Fence] = []
PIXELS: list[ZarrPixels] = []
REGION = (slice(0, 4), slice(0, 4))


def stored_array(root: str, tmp_path: Path) -> ZarrPixels:
    create_array(str(tmp_path), "a", (4, 4), np.dtype("f4"), Chunking((2, 2)), axes="yx", compression="none")
    put_files(tmp_path, root)
    return ZarrPixels(root, "a", "yx", "yx")


@pytest.mark.parametrize("written", [False, True])
def test_a_late_task_replaces_nothing_in_a_store(objects, tmp_path: Path, written: bool) -> None:
    root, epoch = f"{objects.bucket}/{tmp_path.name}", f"{objects.bucket}/{tmp_path.name}-epoch"
    pixels = stored_array(root, tmp_path)
    place, path = place_of(epoch)
    place.write(path, b"first")
    if written:
        with behind(Fence(epoch, "first")):
            pixels.write(REGION, np.ones((4, 4), np.float32))
        assert (pixels.read(REGION) == 1).all()
    asked.clear()
    PIXELS[:] = [pixels]
    with pytest.raises(FencedOffError, match="it is second now"), behind(_Overtaken(epoch, "first")):
        pixels.write(REGION, np.zeros((4, 4), np.float32))
    assert (pixels.read(REGION) == 2).all()


def test_a_chunk_that_a_store_has_not_is_no_fill_value(objects, tmp_path: Path) -> None:
    root = f"{objects.bucket}/{tmp_path.name}"
    pixels = stored_array(root, tmp_path)
    with pytest.raises(MissingChunkError, match=f"{root}/a/c/./. is missing"):
        pixels.read(REGION)
    pixels.write(REGION, np.ones((4, 4), np.float32))
    place, path = place_of(f"{root}/a/c/1/1")
    place.delete([path])
    assert (pixels.read((slice(0, 2), slice(0, 4))) == 1).all()
    with pytest.raises(MissingChunkError, match=r"c/1/1 is missing"):
        pixels.read(REGION)
    with pytest.raises(ValueError, match="does not cover whole chunks"):
        pixels.write((slice(0, 3), slice(0, 4)), np.ones((3, 4), np.float32))
