"""Create the arrays of a run, and remove those that no stage reads any more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.image.sink import Sink, open_sink
from pipelines.plan.plan import SOURCE_LISTING, Output, Plan
from pipelines.plan.stage import Stage
from pipelines.record.state import RunState
from pipelines.record.workdir import Workdir
from pipelines.store.arrays import Chunking, choose_chunks, create_array
from pipelines.store.listings import Listing
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import NewArray
from pipelines.tasks.work import File


class RunArrays:
    """The arrays of a run, some of which become its results.

    Attributes
    ----------
    folder : Path
        Folder of all arrays of this run and of no other.
    sinks : list of Sink
        Formats of the results.
    """

    def __init__(self, plan: Plan, workdir: Workdir) -> None:
        self.plan, self.folder = plan, workdir.path / plan.folder
        self.sinks = [open_sink(output.spec, output.info) for output in plan.outputs]
        self._made: set[ZarrPixels] = set()
        """Arrays of the run that may exist, except those of results."""

    # ---- before tiles are done

    def create_results(self) -> None:
        """Create the arrays of the results; a crash in the middle leaves only a temporary folder."""
        self.folder.mkdir(exist_ok=True)
        for sink, output in zip(self.sinks, self.plan.outputs, strict=True):
            folder = self.folder / output.folder
            if not folder.exists():
                os.replace(self._new_result(sink, output), folder)

    def hand_over(self, listing: Listing) -> None:
        """Write the listing of the source, so that no worker lists it again: a second for 100,000 local chunks."""
        listing.keep(self.folder / SOURCE_LISTING)

    def _new_result(self, sink: Sink, output: Output) -> Path:
        temporary = self.folder / "result.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        sink.create(str(temporary), output.info, output.levels)
        return temporary

    def renew_metadata(self, stages: Iterable[Stage]) -> None:
        """Put the metadata of what a resumed run takes over in order: with other metadata, no tile could be done again.

        Parameters
        ----------
        stages : iterable of Stage
            Stages whose arrays are taken over.
        """
        for sink, output in zip(self.sinks, self.plan.outputs, strict=True):
            if (self.folder / output.folder).is_dir():
                _renew(self._new_result(sink, output), self.folder / output.folder)
        fresh = self.folder / "state.tmp"
        for stage in stages:
            for array in stage.work.arrays(stage.grid):
                there = Path(array.pixels.root, array.pixels.path)
                if there.is_dir() and self.plan.output_of(stage) is None:
                    _create(replace(array, pixels=replace(array.pixels, root=str(fresh))))
                    _renew(fresh / array.pixels.path, there)
        shutil.rmtree(fresh, ignore_errors=True)

    @staticmethod
    def create(stage: Stage) -> None:
        """Create the arrays that a stage writes, where they do not exist."""
        for array in stage.work.arrays(stage.grid):
            if not array.pixels.exists:
                _create(array)

    def _note(self, pixels: ZarrPixels) -> None:
        results = {str(self.folder / output.folder) for output in self.plan.outputs}
        if pixels.root not in results:
            self._made.add(pixels)

    @staticmethod
    def written(stage: Stage) -> bool:
        """Return whether the arrays that a stage writes exist."""
        return all(array.pixels.exists for array in stage.work.arrays(stage.grid))

    def lacks_round(self, state: RunState, number: int) -> bool:
        """Return whether a stage cannot continue its round, because an array of the round before is gone."""
        if not state.rounds[number] or state.tiles.complete(number):
            return False
        left = [stage for n, stage in enumerate(state.stages) if not state.tiles.complete(n)]
        still_made = {array.pixels for stage in left for array in stage.work.arrays(stage.grid)}
        read = [p for p in state.stages[number].work.stored if self.folder in Path(p.root).parents]
        return any(not pixels.exists for pixels in read if pixels not in still_made)

    @staticmethod
    def write(file: File) -> None:
        """Write a file that tasks of later stages read, complete or not at all."""
        path = Path(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp.npy")
        np.save(temporary, file.values)
        temporary.replace(path)

    # ---- while tiles are done

    def drop(self, state: RunState) -> None:
        """Remove arrays of complete rounds and stages that no stage reads any more, not even for invalid pixels."""
        for stage in state.stages:
            for pixels in (*stage.work.stored, *(array.pixels for array in stage.work.arrays(stage.grid))):
                self._note(pixels)
        left = [stage for n, stage in enumerate(state.stages) if not state.tiles.complete(n)]
        needed = {pixels for stage in left for pixels in stage.work.stored}
        needed |= {array.pixels for stage in left for array in stage.work.arrays(stage.grid)}
        for pixels in self._made - needed:
            if pixels.exists:
                shutil.rmtree(Path(pixels.root, pixels.path), ignore_errors=True)
        self._made &= needed

    def remove(self) -> None:
        """Remove everything that is left, when the results are published."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _renew(fresh: Path, there: Path) -> None:
    """Let the files of a new hierarchy take the places of those that differ, and remove the rest of it."""
    for file in fresh.rglob("*"):
        old = there / file.relative_to(fresh)
        if file.is_file() and not (old.is_file() and old.read_bytes() == file.read_bytes()):
            old.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, old)
    shutil.rmtree(fresh)


def _create(array: NewArray) -> None:
    pixels = array.pixels
    shutil.rmtree(Path(pixels.root, pixels.path), ignore_errors=True)
    create_array(
        pixels.root,
        pixels.path,
        array.shape,
        array.dtype,
        Chunking(state_chunks(pixels.axes, array.tile, array.shape)),
        axes=pixels.axes,
        compression="none",
    )


def state_chunks(axes: str, tile: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks that divide a tile, about as large as those of a result.

    A window with a halo decodes all chunks that it touches: with chunks as large as tiles, 9 or 27 times its pixels.
    """
    usual = choose_chunks(axes, tile).chunks
    return tuple(_side(t, n, u) for t, n, u in zip(tile, shape, usual, strict=True))


def _side(tile: int, length: int, usual: int) -> int:
    """Return the divisor of a tile's side that is nearest to the usual side of a chunk."""
    if tile >= length:
        return min(tile, usual)
    divisors = (side for side in range(1, tile + 1) if tile % side == 0)
    return min(divisors, key=lambda side: max(side / usual, usual / side))
