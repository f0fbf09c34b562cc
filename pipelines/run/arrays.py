"""Create the arrays of a run, and remove those that no stage reads any more."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipelines.image.sink import Sink, open_sink
from pipelines.plan.plan import SOURCE_LISTING, Output, Plan
from pipelines.plan.stage import Stage
from pipelines.record.state import RunState
from pipelines.record.workdir import Workdir
from pipelines.store.addresses import is_remote, within
from pipelines.store.arrays import Chunking, choose_chunks, create_array
from pipelines.store.listings import Listing
from pipelines.store.places import place_of
from pipelines.store.publish import put_files, remove_local
from pipelines.store.targets import MARKER, exists, remove_below
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import NewArray
from pipelines.tasks.work import File


class RunArrays:
    """The arrays of a run, some of which become its results.

    Attributes
    ----------
    folder : str
        Path or address of all arrays of this run and of no other.
    sinks : list of Sink
        Formats of the results.
    """

    def __init__(self, plan: Plan, workdir: Workdir) -> None:
        self.plan, self.folder = plan, within(workdir.uri, plan.folder)
        self.sinks = [open_sink(output.spec, output.info) for output in plan.outputs]
        self._made: set[ZarrPixels] = set()
        """Arrays of the run that may exist, except those of results."""
        self._seen: set[ZarrPixels] = set()
        """Arrays in a store that exist: nobody else removes them, and each look is a request."""

    # ---- before tiles are done

    def create_results(self) -> None:
        """Create the arrays of the results; a crash in the middle leaves only a temporary folder, or no root."""
        for sink, output in zip(self.sinks, self.plan.outputs, strict=True):
            root = within(self.folder, output.folder)
            if exists(within(root, MARKER) if is_remote(root) else root):
                continue
            with self._new_result(sink, output) as fresh:
                if is_remote(root):
                    put_files(fresh, root)
                else:
                    fresh.rename(root)

    def hand_over(self, listing: Listing) -> None:
        """Write the listing of the source, so that no worker lists it again: a second for 100,000 local chunks."""
        listing.keep(within(self.folder, SOURCE_LISTING))

    @contextlib.contextmanager
    def _new_result(self, sink: Sink, output: Output) -> Iterator[Path]:
        with self._temporary("result.tmp") as fresh:
            sink.create(str(fresh), output.info, output.levels)
            yield fresh

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        """Yield a path on a disk of this machine at which nothing is; what is there in the end is removed."""
        with contextlib.ExitStack() as lasting:
            if is_remote(self.folder):
                path = Path(lasting.enter_context(tempfile.TemporaryDirectory(prefix="diffuse-")), name)
            else:
                path = Path(self.folder, name)
                path.parent.mkdir(exist_ok=True)
                shutil.rmtree(path, ignore_errors=True)
            yield path
            shutil.rmtree(path, ignore_errors=True)

    def renew_metadata(self, stages: Iterable[Stage]) -> None:
        """Put the metadata of what a resumed run takes over in order: with other metadata, no tile could be done again.

        Parameters
        ----------
        stages : iterable of Stage
            Stages whose arrays are taken over.
        """
        for sink, output in zip(self.sinks, self.plan.outputs, strict=True):
            root = within(self.folder, output.folder)
            if exists(root):
                with self._new_result(sink, output) as fresh:
                    put_files(fresh, root)
        for stage in stages:
            for array in stage.work.arrays(stage.grid):
                if exists(array.pixels.address) and self.plan.output_of(stage) is None:
                    self._create(array)

    def create(self, stage: Stage) -> None:
        """Create the arrays that a stage writes, where they do not exist."""
        for array in stage.work.arrays(stage.grid):
            if not self._exists(array.pixels):
                if not is_remote(array.pixels.root):
                    remove_local(Path(array.pixels.address))
                self._create(array)

    def _create(self, array: NewArray) -> None:
        """Write the metadata of an array, where they are not there already."""
        with self._temporary("state.tmp") as fresh:
            _create(array, str(fresh))
            put_files(fresh, array.pixels.root)

    def _note(self, pixels: ZarrPixels) -> None:
        results = {within(self.folder, output.folder) for output in self.plan.outputs}
        if pixels.root not in results:
            self._made.add(pixels)

    def _exists(self, pixels: ZarrPixels) -> bool:
        if pixels in self._seen:
            return True
        found = pixels.exists
        if found and is_remote(pixels.root):
            self._seen.add(pixels)
        return found

    def written(self, stage: Stage) -> bool:
        """Return whether the arrays that a stage writes exist."""
        return all(self._exists(array.pixels) for array in stage.work.arrays(stage.grid))

    def lacks_round(self, state: RunState, number: int) -> bool:
        """Return whether a stage cannot continue its round, because an array of the round before is gone."""
        if not state.rounds[number] or state.tiles.complete(number):
            return False
        left = [stage for n, stage in enumerate(state.stages) if not state.tiles.complete(n)]
        still_made = {array.pixels for stage in left for array in stage.work.arrays(stage.grid)}
        read = [p for p in state.stages[number].work.stored if p.root.startswith(f"{self.folder}/")]
        return any(not self._exists(pixels) for pixels in read if pixels not in still_made)

    @staticmethod
    def write(file: File) -> None:
        """Write a file that tasks of later stages read, complete or not at all."""
        data = io.BytesIO()
        np.save(data, file.values)
        place, path = place_of(file.path)
        place.write(path, data.getvalue())

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
            if self._exists(pixels):
                self._seen.discard(pixels)
                _remove(pixels.address)
        self._made &= needed

    def remove(self) -> None:
        """Remove everything that is left, when the results are published."""
        _remove(self.folder)


def _remove(uri: str) -> None:
    """Remove what nobody needs any more; what resists does no harm."""
    if is_remote(uri):
        with contextlib.suppress(OSError):
            remove_below(uri)
    else:
        shutil.rmtree(uri, ignore_errors=True)


def _create(array: NewArray, root: str) -> None:
    create_array(
        root,
        array.pixels.path,
        array.shape,
        array.dtype,
        Chunking(state_chunks(array.pixels.axes, array.tile, array.shape)),
        axes=array.pixels.axes,
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
