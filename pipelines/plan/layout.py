"""Lay out the stages of a run for one tile and batch: copies, statistics, batches, levels of steps, results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffusion_ops.blocks.fields import working_dtype
from pipelines.image.frames import Frames
from pipelines.image.info import ImageInfo
from pipelines.image.pyramid import reduced_shape
from pipelines.image.sink import TABLE
from pipelines.image.source import SourceSpec
from pipelines.image.window import Grid
from pipelines.plan.graph import Chain, is_source
from pipelines.plan.plan import SOURCE_LISTING, Output
from pipelines.plan.stage import Stage
from pipelines.plan.stages import ChainRequest, Image, Stages, lay_out_chain
from pipelines.tasks.inputs import ComputedPixels, FloatPixels, Inputs, Reading
from pipelines.tasks.pixels import Pixels, SourcePixels
from pipelines.tasks.work import KINDS, Work


@dataclass
class Layout:
    """The stages of a run, laid out one after another.

    Attributes
    ----------
    source : ImageInfo
    source_spec : SourceSpec
    stages : Stages
        Stages that are laid out so far.
    chains : tuple of Chain
    outputs : tuple of Output
    external : mapping of str to Reading
        What lies beside the source, by address.
    images : dict
        Results of steps, by name and level.
    """

    source: ImageInfo
    source_spec: SourceSpec
    stages: Stages
    chains: tuple[Chain, ...]
    outputs: tuple[Output, ...]
    external: Mapping[str, Reading] = field(default_factory=dict)
    images: dict[tuple[str, int], Image] = field(default_factory=dict)

    @property
    def frames(self) -> Frames:
        """Which axes diffuse together, on the finest level."""
        return self.stages.frames

    def lay_out(self) -> tuple[Stage, ...]:
        """Return all stages."""
        self._read_source()
        for chain in self.chains[:-1]:
            self._chain(chain, None)
        last, main = self.chains[-1], self.outputs[0]
        self._chain(last, main)
        self._pyramid(main)
        if main.is_table:
            self._table(main, last.name)
        for output in self.outputs[1:]:
            self._further(output)
            self._pyramid(output)
        return tuple(self.stages.stages)

    # ---- the source, and other levels of it and of steps

    def _read_source(self) -> None:
        axes = self.frames.axes
        pixels: Pixels = SourcePixels.of(
            self.source_spec, self.source, f"{self.stages.folder}/{SOURCE_LISTING}"
        )
        stages: tuple[int, ...] = ()
        shape = tuple(self.source.size(a) for a in axes)
        if not self.source.by_region:
            copy = self.stages.array("copy", "")
            work = KINDS["copy"].make(reads=pixels, dtype=self.source.dtype, target=copy)
            stages = (self.stages.add("copy the source into Zarr", work, Grid(shape, shape)),)
            pixels = copy
        channels = self.source.size("c") if "c" in self.frames.together else 1
        self.original = Reading(pixels, self.source.dtype, self.source.nodata, channels)
        self._source = Image(self.original, shape, stages)

    def _image(self, name: str, level: int) -> Image:
        """Return the result of a step, or the source, on a level, halved or enlarged from its own level."""
        if is_source(name) and level == 0:
            return self._source
        if (name, level) in self.images:
            return self.images[name, level]
        own = 0 if is_source(name) else next(s.level for s in self.chains if s.name == name)
        image = self._halved(name, level) if level > own else self._enlarged(name, level)
        self.images[name, level] = image
        return image

    def _halved(self, name: str, level: int) -> Image:
        finer = self._image(name, level - 1)
        factors = tuple(2 if a in self.frames.spatial else 1 for a in self.frames.axes)
        shape = reduced_shape(finer.shape, factors)
        reading, working = finer.reading, working_dtype(finer.reading.dtype)
        target = self.stages.array("state", f"{name}@level{level}")
        work = KINDS["reduce"].make(
            reads=FloatPixels(reading, self.frames),
            dtype=working,
            target=target,
            factors=factors,
            fine_shape=finer.shape,
            labels=False,
            nodata=None,
        )
        return self._kept(f"halve {name} to level {level}", work, shape, finer.stages, reading.channels)

    def _enlarged(self, name: str, level: int) -> Image:
        coarser = self._image(name, level + 1)
        like = self._image("source", level)
        target = self.stages.array("state", f"{name}@level{level}")
        reading = coarser.reading
        work = KINDS["enlarge"].make(
            reads=reading.pixels,
            like=like.reading,
            frames=self.frames,
            dtype=reading.dtype,
            target=target,
            coarse_shape=coarser.shape,
        )
        shape = self.stages.with_channels(like.shape, reading.channels)
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
        """Return the image that a work makes: written by a stage, or computed when read where a region is wanted."""
        if self.stages.roi is not None:
            return Image(Reading(ComputedPixels(work), work.dtype, None, channels), shape, after)
        number = self.stages.add(title, work, self.stages.grid(shape), after, needs)
        assert work.writes is not None
        return Image(Reading(work.writes, work.dtype, None, channels), shape, (number,))

    # ---- chains of operators

    def _chain(self, chain: Chain, output: Output | None) -> None:
        """Lay out a chain of operators that ends in `output`, or in a state."""
        frames = self.frames.at(chain.level)
        begin = self._image(chain.input, chain.level)
        beside = {word: self._beside(name, chain.level) for word, name in chain.beside.items()}
        request = ChainRequest(self.stages, self.original, chain, frames, begin, beside, output)
        self.images[chain.name, chain.level] = lay_out_chain(request)

    def _beside(self, name: str, level: int) -> Image:
        """Return what a chain reads beside its input: the result of a step, or what lies at an address."""
        if name not in self.external:
            return self._image(name, level)
        if level:
            raise ValueError(
                f"{name} is read beside the image itself, so the step's octave is 0. Remove octave."
            )
        return Image(self.external[name], self._source.shape)

    # ---- results

    def _further(self, output: Output) -> None:
        """Add the stage of a further output: a step's result or its residual."""
        spec: Any = output.spec
        if output.is_table:
            self._table(output, spec.name)
            return
        image = self._image(spec.name, 0)
        shape = tuple(output.info.size(a) for a in self.frames.axes)
        target = self.stages.level(output, 0)
        if spec.residual:
            final = self.images[self.chains[-1].name, 0]
            reading = replace(final.reading, nodata=self.outputs[0].info.nodata)
            work = KINDS["subtract"].make(
                first=image.reading,
                second=reading,
                original=self.original,
                frames=self.frames,
                dtype=output.info.dtype,
                target=target,
            )
            title, after = f"what was removed from {spec.name}", (*image.stages, *final.stages)
        else:
            work = KINDS["evolve"].make(
                inputs=Inputs(image.reading),
                target=target,
                frames=self.frames,
                legs=(),
                positions=(),
                dtype=output.info.dtype,
                image_shape=image.shape,
                original=self.stages.original(output, self.original),
            )
            title, after = f"write {spec.name}", image.stages
        self.stages.add(title, work, self.stages.grid(shape), after)

    def _table(self, output: Output, name: str) -> None:
        """Add the stage of a table of the regions of a label image, or let the stage that has one write it."""
        labels = self._image(name, 0)
        table = f"{self.stages.folder}/{output.folder}/{TABLE}"
        if labels.table is not None:
            stage = self.stages.stages[labels.table]
            self.stages.stages[labels.table] = replace(stage, work=stage.work.with_table(table))
            return
        values = self._image(output.spec.of, 0)
        work = KINDS["tabulate"].make(
            labels=labels.reading,
            values=values.reading,
            frames=self.frames,
            table=table,
        )
        after = tuple(dict.fromkeys((*labels.stages, *values.stages)))
        self.stages.add(f"measure the regions of {name}", work, self.stages.grid(labels.shape), after)

    def _pyramid(self, output: Output) -> None:
        """Add one stage per further level of a result."""
        finest = len(self.stages.stages) - 1
        for number, level in enumerate(output.levels[1:], start=1):
            finer, axes = output.levels[number - 1].info, level.info.axes
            unit = self._canonical(axes, level.info.chunks)
            shape = self._canonical(axes, level.info.shape)
            half = (max(1, t // 2) for t in self.stages.geometry.tile)
            tile = tuple(math.ceil(min(t, n) / u) * u for t, n, u in zip(half, shape, unit, strict=True))
            work = KINDS["reduce"].make(
                reads=self.stages.level(output, number - 1),
                dtype=output.info.dtype,
                target=self.stages.level(output, number),
                factors=self._canonical(axes, level.factors),
                fine_shape=self._canonical(finer.axes, finer.shape),
                labels=output.info.labels,
                nodata=output.info.nodata,
            )
            self.stages.add(f"pyramid level {number}", work, Grid(shape, tile), (finest + number - 1,))

    def _canonical(self, axes: str, values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[axes.index(a)] for a in self.frames.axes)
