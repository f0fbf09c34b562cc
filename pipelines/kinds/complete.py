"""Complete the result of an operator over the whole image, such as joined edges: tally tiles, then complete them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.fields import cast_all, give_back, working_dtype
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.completion import Completion, refuse_narrow_type
from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region, Window, extent, one_frame, window_of
from pipelines.plan.stages import ChainRequest, ChainWork, Image, lay_out_chain
from pipelines.store.places import local_copy
from pipelines.tasks.inputs import Reading, constant
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, File, Told, Work

COMPLETE_RATE = 3.0e7
"""Values per second of one core that are tallied or completed; measured with components of edges."""

SIDE_CELL_BYTES = 28
"""Bytes of a tally per cell at the side of a tile, its share of lines included: as many as were measured with a
chessboard; 23 with a random mask, and 20 with rings."""

LABEL_BYTES = np.dtype(np.int64).itemsize
"""Bytes of a label before it gets the type of the result."""

TOLD = "told"
"""Name of the tally of a tile."""

LARGEST = "largest"
"""Name of the largest value of the completed image."""


@dataclass(frozen=True)
class _Tiles:
    """The result of an operator, tile by tile, with the frames along a first axis of their own.

    Attributes
    ----------
    reads : Reading
    frames : Frames
    completion : Completion
    """

    reads: Reading
    frames: Frames
    completion: Completion

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all frames together; an empty one lies between any two, so that none touch."""
        frames = self.frames
        axes = zip(frames.axes, frames.shape, strict=True)
        count = math.prod(n for a, n in axes if a not in frames.together)
        return (2 * count, *frames.spatial_part(frames.shape))

    def held_bytes(self, grid: Grid) -> int:
        """Return the bytes of the largest tile and its completion, for which thin ones have many side cells."""
        cells, spatial = math.prod(grid.largest), self.frames.spatial
        inside = math.prod(
            max(0, n - 2) if axis in spatial and count > 1 else n
            for axis, n, count in zip(self.frames.axes, grid.largest, grid.counts, strict=True)
        )
        held = self.reads.dtype.itemsize + self.completion.cell_bytes
        return cells * held + (cells - inside) * self.completion.side_bytes

    def each(self, window: Window) -> Iterator[tuple[Window, NDArray[Any], tuple[int, ...]]]:
        """Yield every frame of a tile: its window, its pixels, and the index of its first cell."""
        for index in self.frames.each(extent(window.write)):
            part = one_frame(window, index)
            origin = (s.start for s in self.frames.spatial_part(part.write))
            yield part, self.reads.fields(self.frames, part.write), (2 * self.frames.number(part), *origin)

    def rehearse(self) -> None:
        """Complete a few cells, which compiles the kernels of the completion or loads them."""
        self.completion.rehearse(self.reads.dtype, len(self.shape))


@KINDS.register("tell")
@dataclass(frozen=True)
class Tell(Work):
    """Tally what the other tiles need to know of each tile, and merge the tallies into a file.

    Attributes
    ----------
    tiles : _Tiles
    merged : str
        Path of the file of merged tallies.
    position : int, optional
        Position of the step that is completed, whose type of result must hold the largest value; None where only the
        merged tallies are wanted.
    """

    tiles: _Tiles
    merged: str
    position: int | None = None

    collects = True

    @classmethod
    def make(cls, **parts: Any) -> Tell:
        """Return the work from what is read, its frames, the completion and the file."""
        merged = parts.pop("merged")
        return cls(_Tiles(**parts), merged)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The result of the operator."""
        return (self.tiles.reads.pixels,)

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the tile, and the arrays of its labelling."""
        total, more = math.prod(grid.shape), self.tiles.reads.pixels.cell_bytes
        memory = self.tiles.held_bytes(grid) + math.prod(grid.largest) * more + self.codec_bytes
        return Cost(memory, total * self.tiles.reads.dtype.itemsize, 0, seconds=total / COMPLETE_RATE)

    @property
    def kernels_bytes(self) -> int:
        """Memory of the kernels of the completion."""
        return self.tiles.completion.kernels_bytes

    def rehearse(self, walls: bool) -> None:
        """Complete a few cells."""
        self.tiles.rehearse()

    def told_bytes(self, grid: Grid) -> int:
        """Return the bytes that the tallies of all tiles take, where no more is told than of a chessboard.

        Of an image whose side cells are all components of their own, such as a grey one, it is up to twice as much;
        then the run stops and says so.
        """
        spatial = [a in self.tiles.frames.spatial for a in self.tiles.frames.axes]
        cells = math.prod(grid.shape)
        cut = sum(
            2 * (n - 1) * cells // m for n, m, s in zip(grid.counts, grid.shape, spatial, strict=True) if s
        )
        return cut * SIDE_CELL_BYTES

    def compute(self, window: Window) -> Done:
        """Return the tally of the tile."""
        tally, read_bytes = Tally(), 0
        for _, tile, origin in self.tiles.each(window):
            tally = tally + self.tiles.completion.tally(tile, origin, self.tiles.shape)
            read_bytes += tile.nbytes
        return Done(None, {TOLD: tally}, read_bytes)

    def conclude(self, told: Told) -> Conclusion:
        """Return the file of merged tallies, and the largest value that they lead to."""
        merged = self.tiles.completion.merge(told.each, self.tiles.shape)
        bound = {}
        if self.position is not None:
            bound[self.position] = {LARGEST: float(self.tiles.completion.largest(merged))}
        return Conclusion(bound=bound, files=(File(self.merged, merged),))


@KINDS.register("complete")
@dataclass(frozen=True)
class Complete(ChainWork):
    """Complete tiles with the merged tallies of all tiles.

    Attributes
    ----------
    tiles : _Tiles
    merged : str
        Path of the file of merged tallies.
    target : ZarrPixels
    dtype : numpy dtype
    position : int
        Position of the operator among the steps.
    original : Reading or None
        Image whose values invalid pixels get back, where the target is a result.
    """

    tiles: _Tiles
    merged: str
    target: ZarrPixels
    dtype: np.dtype[Any]
    position: int
    original: Reading | None = None

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the passes of the operators, then the stage that tallies, then the stage that completes."""
        completion = request.chain.legs[-1].operator.completion()
        assert completion is not None
        request.refuse_part(
            f"has to {completion.title} over the whole image, so a part alone cannot be computed. "
            "Run the spec first, or ask for the result before that, such as with joined: false."
        )
        left = lay_out_chain(replace(request, output=None), "evolve")
        position = request.chain.positions[-1]
        stages, path = request.stages, f"{request.stages.folder}/merged/{request.chain.name}.npy"
        tiles = _Tiles(left.reading, request.frames, replace(completion, framed=True))
        told = stages.add(
            f"{completion.title}: tell", Tell(tiles, path, position), stages.grid(left.shape), left.stages
        )
        dtype = request.final_dtype(working_dtype(left.reading.dtype))
        target = request.target(stages.following, request.output)
        work = cls(tiles, path, target, dtype, position, request.final_original())
        grid = stages.grid(request.final_shape(left.shape))
        stage = stages.add(completion.title, work, grid, left.stages, (told,))
        return Image(Reading(target, dtype, None, left.reading.channels), left.shape, (stage,))

    def bind(self, values: Mapping[int, Mapping[str, float]]) -> Self:
        """Return the work as it is.

        Raises
        ------
        ValueError
            For a type that cannot hold the largest value, before any tile is completed.
        """
        largest = values.get(self.position, {}).get(LARGEST)
        if largest is not None:
            refuse_narrow_type(int(largest), self.dtype)
        return self

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The result of the operator, and the image whose values invalid pixels get back."""
        original = () if self.original is None else (self.original.pixels,)
        return (self.tiles.reads.pixels, *original)

    @property
    def writes(self) -> ZarrPixels:
        """The completed tiles."""
        return self.target

    def window(self, region: Region) -> Window:
        """Return the region itself."""
        return window_of(region, tuple(s.stop for s in region), (0,) * len(region))

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the tile with the arrays of the labelling, or with the labels, the walls and the result."""
        total, cells, item = math.prod(grid.shape), math.prod(grid.largest), self.dtype.itemsize
        original = 0 if self.original is None else self.original.stored_itemsize
        finishing = self.tiles.reads.dtype.itemsize + LABEL_BYTES + 2 + 2 * item + original
        memory = max(self.tiles.held_bytes(grid), cells * finishing) + self.codec_bytes
        read = total * self.tiles.reads.dtype.itemsize
        return Cost(memory, read, total * item, seconds=total / COMPLETE_RATE)

    @property
    def kernels_bytes(self) -> int:
        """Memory of the kernels of the completion."""
        return self.tiles.completion.kernels_bytes

    def rehearse(self, walls: bool) -> None:
        """Complete a few cells."""
        self.tiles.rehearse()

    def compute(self, window: Window) -> Done:
        """Return the completed tile."""
        values, read_bytes = np.empty(extent(window.write), self.dtype), 0
        merged = np.load(local_copy(self.merged), mmap_mode="r")
        frames = self.tiles.frames.each(values.shape)
        for index, (part, tile, origin) in zip(frames, self.tiles.each(window), strict=True):
            state = self.tiles.completion.complete(tile, origin, self.tiles.shape, merged)
            done = self._finished(state, ~np.isnan(tile[0]), part.write)
            values[index] = done.reshape(values[index].shape)
            read_bytes += tile.nbytes
        return Done(values, read_bytes=read_bytes)

    def _finished(self, state: NDArray[Any], valid: NDArray[np.bool_], part: Region) -> NDArray[Any]:
        """Return labels as the result's type; invalid pixels get the values of the original, or NaN in a state."""
        frames, whole = self.tiles.frames, state.view(np.uint8) if state.dtype == bool else state
        original = self.original or constant(math.nan)
        done = cast_all(whole, self.dtype, original.nodata)
        give_back(done, original.fields(frames, part), valid, original.nodata)
        return done
