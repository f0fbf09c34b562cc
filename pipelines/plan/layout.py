"""Lay out the stages of a run for one tile and batch: copies, statistics, batches, levels of steps, results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffusion_ops.blocks.fields import working_dtype
from pipelines.image.info import ImageInfo
from pipelines.image.pyramid import reduced_shape
from pipelines.image.source import SourceSpec
from pipelines.image.window import Grid
from pipelines.kinds.copy import Copy
from pipelines.kinds.enlarge import Enlarge
from pipelines.kinds.evolve import ComputedPixels, Evolve
from pipelines.kinds.reduce import Reduce
from pipelines.kinds.subtract import Subtract
from pipelines.plan.chain import Chain
from pipelines.plan.graph import Segment, is_source
from pipelines.plan.plan import Output, Stage
from pipelines.plan.stages import Image, StageList
from pipelines.tasks.inputs import FloatPixels, Inputs, Reading
from pipelines.tasks.pixels import Pixels, SourcePixels
from pipelines.tasks.work import Frames, Work


@dataclass
class Staging:
    """The stages of a run, laid out one after another.

    Attributes
    ----------
    source : ImageInfo
    source_spec : SourceSpec
    list : StageList
        Where the stages go.
    segments : tuple of Segment
    outputs : tuple of Output
    images : dict
        What steps made, by name and level.
    """

    source: ImageInfo
    source_spec: SourceSpec
    list: StageList
    segments: tuple[Segment, ...]
    outputs: tuple[Output, ...]
    images: dict[tuple[str, int], Image] = field(default_factory=dict)

    @property
    def frames(self) -> Frames:
        """Which axes diffuse together, on the finest level."""
        return self.list.frames

    def lay_out(self) -> tuple[Stage, ...]:
        """Return all stages."""
        self._read_source()
        for segment in self.segments[:-1]:
            self._chain(segment, None)
        self._chain(self.segments[-1], self.outputs[0])
        self._pyramid(self.outputs[0])
        for output in self.outputs[1:]:
            self._further(output)
            self._pyramid(output)
        return tuple(self.list.stages)

    # ---- the source, and other levels of it and of steps

    def _read_source(self) -> None:
        axes = self.frames.axes
        pixels: Pixels = SourcePixels(self.source_spec, axes)
        stages: tuple[int, ...] = ()
        shape = tuple(self.source.size(a) for a in axes)
        if not self.source.by_region:
            copy = self.list.array("copy", "")
            work = Copy(pixels, self.source.dtype, copy)
            stages = (self.list.add("copy the source into Zarr", work, Grid(shape, shape)),)
            pixels = copy
        channels = self.source.size("c") if "c" in self.frames.together else 1
        self.original = Reading(pixels, self.source.dtype, self.source.nodata, channels)
        self._source = Image(self.original, shape, stages)

    def _image(self, name: str, level: int) -> Image:
        """Return the result of a step, or the source, on a level: halved or enlarged where it is on another."""
        if is_source(name) and level == 0:
            return self._source
        if (name, level) in self.images:
            return self.images[name, level]
        own = 0 if is_source(name) else next(s.level for s in self.segments if s.name == name)
        image = self._halved(name, level) if level > own else self._enlarged(name, level)
        self.images[name, level] = image
        return image

    def _halved(self, name: str, level: int) -> Image:
        finer = self._image(name, level - 1)
        factors = tuple(2 if a in self.frames.spatial else 1 for a in self.frames.axes)
        shape = reduced_shape(finer.shape, factors)
        reading, working = finer.reading, working_dtype(finer.reading.dtype)
        target = self.list.array("state", f"{name}@level{level}")
        pixels, nodata = FloatPixels(reading, self.frames), None
        work = Reduce(pixels, working, target, factors, finer.shape, False, nodata)
        return self._kept(f"halve {name} to level {level}", work, shape, finer.stages, reading.channels)

    def _enlarged(self, name: str, level: int) -> Image:
        coarser = self._image(name, level + 1)
        like = self._image("source", level)
        target = self.list.array("state", f"{name}@level{level}")
        reading = coarser.reading
        work = Enlarge(
            reading.pixels,
            like.reading,
            self.frames,
            reading.dtype,
            target,
            coarser.shape,
        )
        shape = self.list.with_channels(like.shape, reading.channels)
        title = f"enlarge {name} to level {level}"
        return self._kept(title, work, shape, coarser.stages, reading.channels, needs=like.stages)

    def _kept(
        self,
        title: str,
        work: Work,
        shape: tuple[int, ...],
        after: tuple[int, ...],
        channels: int,
        needs: tuple[int, ...] = (),
    ) -> Image:
        """Return what a work makes: computed as it is read for a part of the image, else written by a stage."""
        if self.list.roi is not None:
            return Image(Reading(ComputedPixels(work), work.dtype, None, channels), shape, after)
        number = self.list.add(title, work, self.list.grid(shape), after, needs)
        assert work.writes is not None
        return Image(Reading(work.writes, work.dtype, None, channels), shape, (number,))

    # ---- chains of operators

    def _chain(self, segment: Segment, output: Output | None) -> None:
        """Lay out a chain of operators; its last batch writes the output, if any."""
        frames = self.frames.at(segment.level)
        begin = self._image(segment.input, segment.level)
        beside = {
            word: self._image(name, segment.level)
            for word, name in (("guide", segment.guide), ("mask", segment.mask))
            if name
        }
        run = Chain(self.list, self.original, segment, frames, begin, beside, output)
        self.images[segment.name, segment.level] = run.lay_out()

    # ---- results

    def _further(self, output: Output) -> None:
        """Write another step's result, or what was removed from it."""
        spec: Any = output.spec
        image = self._image(spec.name, 0)
        shape = tuple(output.info.size(a) for a in self.frames.axes)
        target = self.list.level(output, 0)
        if spec.residual:
            final = self.images[self.segments[-1].name, 0]
            reading = replace(final.reading, nodata=self.frames.nodata)
            work: Work = Subtract(
                image.reading, reading, self.original, self.frames, output.info.dtype, target
            )
            title, after = f"what was removed from {spec.name}", (*image.stages, *final.stages)
        else:
            inputs = Inputs(image.reading)
            work = Evolve(inputs, target, self.frames, (), (), output.info.dtype, image.shape)
            work = replace(work, original=self.list.original(output, self.original))
            title, after = f"write {spec.name}", image.stages
        self.list.add(title, work, self.list.grid(shape), after)

    def _pyramid(self, output: Output) -> None:
        """Halve a result as often as its sink has levels."""
        finest = len(self.list.stages) - 1
        for number, level in enumerate(output.levels[1:], start=1):
            finer, axes = output.levels[number - 1].info, level.info.axes
            unit = self._canonical(axes, level.info.chunks)
            shape = self._canonical(axes, level.info.shape)
            half = (max(1, t // 2) for t in self.list.geometry.tile)
            tile = tuple(math.ceil(min(t, n) / u) * u for t, n, u in zip(half, shape, unit, strict=True))
            work = Reduce(
                self.list.level(output, number - 1),
                output.info.dtype,
                self.list.level(output, number),
                self._canonical(axes, level.factors),
                self._canonical(finer.axes, finer.shape),
                self.source.labels,
                output.info.nodata,
            )
            self.list.add(f"pyramid level {number}", work, Grid(shape, tile), (finest + number - 1,))

    def _canonical(self, axes: str, values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[axes.index(a)] for a in self.frames.axes)
