"""Say of each result of a spec what it will hold: type, channels, nodata, labels, levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from diffusion_ops.blocks.fields import check_nodata, result_dtype
from diffusion_ops.evolution.operator import OPERATORS
from pipelines.image.frames import Frames
from pipelines.image.info import ImageInfo, crop, with_channels
from pipelines.image.sink import Level, Sink, SinkSpec, open_sink
from pipelines.image.window import Region
from pipelines.plan.graph import is_source
from pipelines.plan.plan import Output
from pipelines.spec.spec import OutputSpec, Spec
from pipelines.spec.step import StepSpec
from pipelines.store.arrays import choose_chunks


@dataclass(frozen=True)
class Outputs:
    """The results of a spec over a source, or of a region of it."""

    spec: Spec
    source: ImageInfo
    frames: Frames
    roi: Region | None

    def all(self) -> Iterator[Output]:
        """Yield the result and the further outputs."""
        result = self._output(self.spec.sink, "result", self.spec.steps[-1].name, self.spec.sink.dtype)
        yield self._with_labels(result) if result.is_table else result
        for number, spec in enumerate(self.spec.outputs if self.roi is None else (), start=1):
            # Tiles cover whole chunks of all results: by default these are alike.
            spec = spec.model_copy(update={"chunk": spec.chunk or self.spec.sink.chunk})
            if spec.residual:
                self._require_as_many_channels(spec.name)
            yield self._output(spec, f"result-{number}", spec.name, spec.dtype)

    def _with_labels(self, table: Output) -> Output:
        """Return a table that is the result, with the labels that it is made from, which stay in the run's folder."""
        if self.roi is not None:
            raise ValueError(
                f"{table.spec.uri} is a table, which a region has none of. Give an image as the output of the region."
            )
        info = table.info
        layout = choose_chunks(info.axes, info.shape, table.spec.chunk)
        level = Level("labels", info.replace(chunks=layout.unit), layout.chunks, (1,) * len(info.axes))
        return replace(table, levels=(level,))

    def _require_as_many_channels(self, name: str) -> None:
        last = self.spec.steps[-1].name
        before, after = self._channels(name), self._channels(last)
        if before != after:
            raise ValueError(
                f"The residual of {name} is not possible: it has {before} channels, and the result of {last} has "
                f"{after}. Give a step with {after}, or write {name} itself with residual: false."
            )

    def _output(self, spec: SinkSpec, folder: str, step: str, wanted: str | None) -> Output:
        way = [s.make_operator() for s in self._way_to(step)]
        dtype = (
            way[-1].result_type(self.source.dtype, wanted) if way else result_dtype(self.source.dtype, wanted)
        )
        info = self.source if self.roi is None else crop(self.source, self.roi)
        if isinstance(spec, OutputSpec) and spec.residual:
            # A difference of labels names nothing.
            info = info.replace(labels=False)
        elif way:
            labels = info.labels or way[-1].gives_labels
            info = info.replace(labels=labels, nodata=way[-1].result_nodata(info.nodata))
        check_nodata(info.nodata, dtype, "result")
        info = with_channels(info.replace(dtype=dtype), self._channels(step), step)
        sink = open_sink(spec, info)
        if self.roi is None:
            sink.require_place(info)
        lines = bool(way) and way[-1].gives_lines
        _require_what_it_holds(sink, step, info.labels, lines)
        if sink.is_table and wanted is None:
            # Nobody sees the labels themselves: a type that can count them, with NaN at walls.
            info = info.replace(dtype=np.dtype(np.float64))
        new = any(operator.new_quantity for operator in way)
        fill = way[-1].fill_value(info.dtype, self.source.nodata) if new else None
        return Output(
            spec,
            folder,
            info,
            sink.levels(info),
            is_zarr=sink.is_zarr,
            is_table=sink.is_table,
            format=type(sink).__name__,
            library_bytes=sink.library_bytes,
            fill=fill,
        )

    def _channels(self, name: str) -> int:
        """Return the number of channels of a step's result, which changes only where channels are joint."""
        channels = self.source.size("c")
        if "c" not in self.frames.together:
            return channels
        for step in self._way_to(name):
            channels = step.make_operator().result_channels(channels)
        return channels

    def _way_to(self, name: str) -> list[StepSpec]:
        by_name, way = {step.name: step for step in self.spec.steps}, []
        while name in by_name:
            way.append(by_name[name])
            name = by_name[name].input
        return way[::-1]


def _require_what_it_holds(sink: Sink, step: str, labels: bool, lines: bool) -> None:
    """Refuse a table of what has no regions or no lines, and an image for means where there are none."""
    if sink.is_table and not labels:
        able = ", ".join(name for name, operator in OPERATORS.items() if operator.gives_labels)
        raise ValueError(
            f"{sink.spec.uri}: {step} is no label image. A table needs one: the result of {able}."
        )
    if sink.lines_only and not lines:
        able = ", ".join(name for name, operator in OPERATORS.items() if operator.gives_lines)
        raise ValueError(
            f"{sink.spec.uri}: {step} has no lines. This format needs them: the result of {able}. Regions go into .csv."
        )
    if not is_source(sink.spec.of) and (lines or not sink.is_table):
        raise ValueError(
            f"{sink.spec.uri}: `of: {sink.spec.of}` is the image whose means a table of regions has, and this is "
            "no such table. Remove `of`."
        )
