"""Decide everything in numbers before a pixel is read: tile, batches, halo, passes, memory, time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffusion_ops.advance import Leg
from diffusion_ops.fields import check_nodata, result_dtype, working_dtype
from diffusion_ops.problem import make_legs, split_batches
from pipelines.cluster import cluster_kind
from pipelines.image import SPATIAL, ImageInfo, crop, digest
from pipelines.kinds.copy import Copy
from pipelines.kinds.evolve import Evolve
from pipelines.kinds.measure import Measure
from pipelines.kinds.reduce import Reduce
from pipelines.open_sink import open_sink
from pipelines.pixels import Pixels, SourcePixels, ZarrPixels
from pipelines.plan import Geometry, Plan, Stage, expected_seconds, predict_memory
from pipelines.spec import Spec
from pipelines.version import code_version
from pipelines.window import Grid, Region, extent
from pipelines.work import Frames

SIDES = {2: (256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192), 3: (32, 64, 96, 128, 192, 256, 384, 512)}
"""Tile sides that are tried, by number of spatial axes; each is rounded up to whole chunks of the result."""

USUAL_SIDE, MANY_THREADS = 4096, 64
"""Longer sides gain next to nothing but where the driver's time for handing out tiles counts: with so many threads.
Without them the memory of a run is the same for an image and for one four times as large."""

PASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 1024)
"""Numbers of passes over the data that are tried."""


class PlanError(ValueError):
    """A plan that cannot be carried out; the message has the numbers and what would fit."""


def make_plan(
    spec: Spec,
    source: ImageInfo,
    geometry: Geometry | None = None,
    roi: Region | None = None,
    bound: Mapping[int, Mapping[str, float]] | None = None,
) -> Plan:
    """Return the best plan that fits.

    Parameters
    ----------
    spec : Spec
    source : ImageInfo
    geometry : Geometry, optional
        What an interrupted run used; chosen where it is not given.
    roi : tuple of slice, optional
        Part of the image that the result holds, per canonical axis; it is computed in one pass.
    bound : mapping, optional
        Statistics that are known already, per position in the chain.

    Raises
    ------
    PlanError
        Where no plan fits into the memory, with the numbers and what would fit.
    ValueError
        For images that cannot be diffused or held by the sink.
    """
    return _Planner(spec, source, roi, bound or {}).plan(geometry)


class _Planner:
    """What is the same for every candidate."""

    def __init__(
        self, spec: Spec, source: ImageInfo, roi: Region | None, bound: Mapping[int, Mapping[str, float]]
    ) -> None:
        self.spec, self.source, self.roi = spec, source, roi
        self.frames = make_frames(spec, source)
        self.axes = source.canonical_axes
        self.image_shape = tuple(source.size(a) for a in self.axes)
        dtype = result_dtype(source.dtype, spec.sink.dtype)
        check_nodata(source.nodata, dtype, "result")
        self.result = (source if roi is None else crop(source, roi)).replace(dtype=dtype)
        self.shape = tuple(self.result.size(a) for a in self.axes)
        self.sink = open_sink(spec.sink, self.result)
        self.levels = self.sink.levels(self.result)
        self.unit = self._canonical(self.levels[0].info.axes, self.levels[0].info.chunks)
        self.legs = chain_legs(spec, self.frames, bound)
        self.processes = 0 if cluster_kind(spec.run.cluster).in_process else spec.run.threads
        self.science = digest(
            spec.science(), source.identity, code_version(), self.shape, extent(roi) if roi else ""
        )

    def _canonical(self, axes: str, values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[axes.index(a)] for a in self.axes)

    def plan(self, geometry: Geometry | None) -> Plan:
        candidates = [geometry] if geometry else list(self._geometries())
        best: tuple[float, Geometry, int, tuple[Stage, ...]] | None = None
        least: tuple[int, Geometry] | None = None
        for candidate in candidates:
            stages = self._stages(candidate)
            extra = self.sink.library_bytes
            need = predict_memory(stages, 1, min(1, self.processes)) + extra
            if least is None or need < least[0]:
                least = (need, candidate)
            for threads in range(self.spec.run.threads, 0, -1):
                if (
                    predict_memory(stages, threads, min(threads, self.processes)) + extra
                    <= self.spec.run.memory
                ):
                    seconds = expected_seconds(stages, threads)
                    if best is None or seconds < best[0]:
                        best = (seconds, candidate, threads, stages)
                    break
        if best is None:
            assert least is not None
            raise PlanError(self._refusal(*least))
        _, chosen, threads, stages = best
        return Plan(
            source=self.source,
            result=self.result,
            levels=self.levels,
            frames=self.frames,
            stages=stages,
            geometry=chosen,
            threads=threads,
            processes=min(threads, self.processes),
            memory_limit=self.spec.run.memory,
            notes=tuple(self._notes(stages, threads)),
            digest=digest(self.science, chosen.tile, chosen.batch),
            science=self.science,
            library_bytes=self.sink.library_bytes,
            sink_is_zarr=self.sink.is_zarr,
        )

    # ---- candidates

    def _geometries(self) -> Iterator[Geometry]:
        total = max(1, sum(cycle.steps for leg in self.legs for cycle in leg.cycles))
        wanted = total if self.roi is not None else self.spec.run.batch
        batches = [wanted] if wanted else _unique(math.ceil(total / n) for n in PASSES)
        for tile in self._tiles():
            for batch in batches:
                yield Geometry(tile, batch)

    def _tiles(self) -> list[tuple[int, ...]]:
        wanted = self.spec.run.tile
        if wanted is not None:
            sides: dict[Any, int] = (
                dict(wanted) if isinstance(wanted, dict) else dict.fromkeys(SPATIAL, wanted)
            )
            return [self._tile({a: sides.get(a, 1) for a in SPATIAL})]
        longest = max(SIDES[2]) if self.spec.run.threads >= MANY_THREADS else USUAL_SIDE
        tried = (side for side in SIDES[len(self.frames.spatial)] if side <= longest)
        return _unique(self._tile(self._even(side)) for side in tried)

    def _even(self, side: int) -> dict[Any, int]:
        """Return sides of about this length that cut the image evenly, so that no task is left to wait for."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        return {a: math.ceil(sizes[a] / math.ceil(sizes[a] / side)) for a in self.frames.spatial}

    def _tile(self, sides: dict[Any, int]) -> tuple[int, ...]:
        """Return a tile of about these sides, of whole chunks of the result and whole joint channels."""
        tile = []
        for a, n, unit in zip(self.axes, self.shape, self.unit, strict=True):
            side = sides[a] if a in self.frames.spatial else n if a in self.frames.together else unit
            tile.append(math.ceil(min(side, n) / unit) * unit)
        return tuple(tile)

    # ---- stages

    def _stages(self, geometry: Geometry) -> tuple[Stage, ...]:
        stages: list[Stage] = []
        image: Pixels = SourcePixels(self.spec.source, self.axes)
        grid = Grid(self.shape, geometry.tile)
        if not self.source.by_region:
            copy = self._array("copy", "")
            whole = Grid(self.image_shape, self.image_shape)
            stages.append(
                Stage("copy the source into Zarr", Copy(image, self.source.dtype, copy), whole, None)
            )
            image = copy
        reads, read_dtype = image, self.source.dtype
        start = len(stages) - 1 if stages else None
        batches = split_batches(self.legs, geometry.batch) or [()]
        if self.roi is not None and len(batches) > 1:
            raise PlanError(
                f"{batches[1][0].operator.name} measures the whole result of the step before it, so a "
                f"part alone cannot be "
                "computed. Run the spec first, or give a number instead of the statistic."
            )
        state, after = working_dtype(self.source.dtype), start
        evolving: list[int] = []
        measured: set[int] = set()
        for number, batch in enumerate(batches):
            first, last = number == 0, number == len(batches) - 1
            legs = self._positions(batch)
            # Three states at most lie on disk: what this batch reads, what it writes, and what the next one writes.
            needs: tuple[int, ...] = (evolving[-2],) if number > 1 else ()
            pending = batch[0].operator.statistics() if batch and legs[0] not in measured else {}
            if pending:
                title = f"measure {', '.join(pending)} for {batch[0].operator.name}"
                measure = Measure(reads, read_dtype, self.frames, pending, first)
                everywhere = Grid(self.image_shape, geometry.tile)
                stages.append(Stage(title, measure, everywhere, after, legs=legs[:1]))
                needs += (len(stages) - 1,)
                measured.add(legs[0])
            target = self._level(0) if last else self._array("state", str(number))
            dtype = self.result.dtype if last else state
            work = Evolve(
                reads,
                read_dtype,
                target,
                self.frames,
                batch,
                image,
                first,
                last,
                dtype,
                self.roi,
                self.image_shape,
            )
            stages.append(Stage(_title(batch), work, grid, after, needs, legs))
            reads, read_dtype, after = target, dtype, len(stages) - 1
            evolving.append(after)
        stages += self._pyramid(geometry, after)
        return tuple(stages)

    def _positions(self, batch: tuple[Leg, ...]) -> tuple[int, ...]:
        """Return which operators of the chain a batch holds; steps of a spec never share an operator object."""
        return tuple(
            next(i for i, leg in enumerate(self.legs) if leg.operator is part.operator) for part in batch
        )

    def _pyramid(self, geometry: Geometry, after: int | None) -> list[Stage]:
        stages: list[Stage] = []
        assert after is not None
        for number, level in enumerate(self.levels[1:], start=1):
            finer = self.levels[number - 1].info
            axes = level.info.axes
            unit = self._canonical(axes, level.info.chunks)
            shape = self._canonical(axes, level.info.shape)
            half = (max(1, t // 2) for t in geometry.tile)
            tile = tuple(math.ceil(min(t, n) / u) * u for t, n, u in zip(half, shape, unit, strict=True))
            work = Reduce(
                self._level(number - 1),
                self.result.dtype,
                self._level(number),
                self._canonical(axes, level.factors),
                self._canonical(finer.axes, finer.shape),
                self.source.labels,
                self.result.nodata,
            )
            stages.append(Stage(f"pyramid level {number}", work, Grid(shape, tile), after + number - 1))
        return stages

    def _level(self, number: int) -> ZarrPixels:
        level = self.levels[number]
        return ZarrPixels(f"{self.spec.workdir}/result", level.path, level.info.axes, self.axes)

    def _array(self, name: str, path: str) -> ZarrPixels:
        return ZarrPixels(f"{self.spec.workdir}/{name}", path, self.axes, self.axes)

    # ---- words

    def _refusal(self, need: int, geometry: Geometry) -> str:
        limit = self.spec.run.memory
        tile = " x ".join(map(str, geometry.tile))
        return (
            f"The run needs {need:,} bytes with one thread and the smallest tile ({tile} cells of {self.axes}, "
            f"{geometry.batch} steps per pass), but only {limit:,} are allowed. Allow at least "
            f"--memory {math.ceil(need / 2**20)}MiB, or make chunks of the result smaller (sink.chunk)."
        )

    def _notes(self, stages: Sequence[Stage], threads: int) -> Iterator[str]:
        if not self.source.by_region:
            yield "The source cannot be read by region: it is read whole and copied into Zarr first."
        if threads < self.spec.run.threads:
            yield f"Only {threads} of {self.spec.run.threads} threads fit into the memory."
        for leg in self.legs:
            if not leg.operator.keeps_maximum:
                yield f"{leg.operator.name} may leave the range of the image's values."
            elif any(cycle.inertial and cycle.steps > 1 for cycle in leg.cycles):
                yield (
                    f"{leg.operator.name} takes FSI cycles, which may leave the range of the image's "
                    f"values by up to a fifth "
                    "of a jump; schedule: explicit keeps it."
                )


def chain_legs(spec: Spec, frames: Frames, bound: Mapping[int, Mapping[str, float]]) -> tuple[Leg, ...]:
    """Return the legs of a spec's chain, with the statistics that are known bound into them."""
    legs = (
        leg
        for step in spec.chain()
        for leg in make_legs(step.make_operator(), frames.spacing, **step.times())
    )
    return tuple(Leg(leg.operator.bind(bound.get(i, {})), leg.cycles) for i, leg in enumerate(legs))


def make_frames(spec: Spec, source: ImageInfo) -> Frames:
    """Return which axes diffuse together, and their spacing.

    Raises
    ------
    ValueError
        For label images, and for 3-D diffusion of an image without z.
    """
    if source.labels:
        raise ValueError(
            "The image holds label numbers, whose mean means nothing. Diffuse the intensities instead."
        )
    depth = source.size("z")
    ndim = (3 if depth > 1 else 2) if spec.image.ndim == "auto" else spec.image.ndim
    if ndim == 3 and "z" not in source.axes:
        raise ValueError(
            f"image.ndim: 3 needs a z axis, the image has axes {source.axes!r}. Use ndim: 2 or source.axes."
        )
    spatial = SPATIAL[-ndim:]
    spacing = [source.spacing.get(a, 1.0) for a in spatial]
    if spec.image.spacing == "pixel":
        spacing = [h / min(spacing) for h in spacing]
    return Frames(
        source.canonical_axes, spatial, tuple(spacing), spec.image.channels == "joint", source.nodata
    )


def _title(batch: tuple[Leg, ...]) -> str:
    parts = (f"{leg.operator.name} ({sum(c.steps for c in leg.cycles)} steps)" for leg in batch)
    return ", ".join(parts) or "copy"


def _unique(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
