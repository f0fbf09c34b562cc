"""Search tile, batch and threads of the fastest plan that fits into the memory, before a pixel is read."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_ops.evolution.arguments import split_batches
from pipelines.image.frames import Frames
from pipelines.image.info import ImageInfo, digest, with_channel_axis
from pipelines.image.window import Region, extent
from pipelines.plan.beside import read_beside
from pipelines.plan.graph import Known, is_source, make_chains
from pipelines.plan.layout import Layout
from pipelines.plan.outputs import Outputs
from pipelines.plan.plan import Begun, Geometry, Output, Plan, library_bytes, new_folder
from pipelines.plan.prediction import (
    expected_seconds,
    least_memory,
    predict_memory,
    worker_memory,
)
from pipelines.plan.stage import Stage
from pipelines.plan.stages import NotAloneError, Stages
from pipelines.refusal import RefusedError, refusing
from pipelines.spec.spec import Spec
from pipelines.store.arrays import SPATIAL
from pipelines.tasks.memory import KERNELS_BYTES
from pipelines.tasks.pixels import decoding_bytes
from pipelines.tasks.version import code_version
from pipelines.tasks.work import Work

SIDES = {2: (256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192), 3: (32, 64, 96, 128, 192, 256, 384, 512)}
"""Tile sides that are tried, by number of spatial axes; each is rounded up to whole chunks of the result."""

USUAL_SIDE, MANY_THREADS = 4096, 64
"""Longest side that is tried, and the number of threads from which longer ones are tried too. Longer sides pay only
where many threads wait for the driver. With this limit the memory of a run does not grow with the image, once its tiles
are the largest; those of twice the height are one more step."""

EACH_TILES = 4
"""Tiles that each thread must have at least where tiles of twice the height are tried: with fewer of them one thread
reads and writes less often while another computes, and more waits for the last one."""

PASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 1024)
"""Numbers of passes over the data that are tried."""

MOST_TILES = 20_000_000
"""Largest number of tiles of all stages: the driver keeps a byte for each, and takes hours to hand out so many."""


class PlanError(RefusedError):
    """A plan that cannot be carried out; the message has the numbers and what would fit."""


@refusing()
def make_plan(
    spec: Spec,
    source: ImageInfo,
    geometry: Geometry | None = None,
    roi: Region | None = None,
    known: Known | None = None,
    begun: Begun | None = None,
    tuned: bool = False,
    loaded: bool = False,
) -> Plan:
    """Return the best plan that fits.

    Parameters
    ----------
    spec : Spec
    source : ImageInfo
    geometry : Geometry, optional
        Tile and batch; searched where they are not given.
    roi : tuple of slice, optional
        Part of the image that the result holds, per canonical axis; it is computed in one pass.
    known : Known, optional
        Numbers that an earlier run has found.
    begun : Begun, optional
        An unfinished run; its tile, batch and folder are kept where its result has the same digest `science`.
    tuned : bool
        True where the driver chooses times by itself, and holds kernels from then on.
    loaded : bool
        True where this process has made no kernels, and need not.

    Raises
    ------
    PlanError
        Where no plan fits into the memory, with the numbers and what would fit.
    ValueError
        For images that cannot be diffused or held by the sink.
    """
    search = _Search(spec, source, roi, known or Known(), loaded)
    if begun is not None and begun.science == search.science:
        geometry, search.folder = begun.geometry, begun.folder
    if tuned and search.processes:
        search.extra_bytes += KERNELS_BYTES
    return search.plan(geometry)


@refusing()
def lay_out_part(
    spec: Spec,
    source: ImageInfo,
    roi: Region,
    known: Known,
) -> Work:
    """Return the work that makes a region of the result in one pass, without a limit of memory; see `make_plan`."""
    # A source that cannot be read by region is read whole for each region: no run copies it into Zarr first.
    search = _Search(spec, source.replace(by_region=True), roi, known)
    target = search.stages(geometry := Geometry(search.unit, 1)).level(search.outputs[0], 0)
    return next(stage.work for stage in search.lay_out(geometry) if stage.work.writes == target)


@dataclass(frozen=True)
class _Candidate:
    """A geometry that fits, its stages, and how fast it is expected to be with as many threads as fit."""

    geometry: Geometry
    stages: tuple[Stage, ...]
    threads: int
    seconds: float


class _Search:
    """A search over candidates; its attributes are the same for all of them."""

    def __init__(
        self,
        spec: Spec,
        source: ImageInfo,
        roi: Region | None,
        known: Known,
        loaded: bool = False,
    ) -> None:
        if any(step.make_operator().result_channels(1) > 1 for step in spec.steps):
            source = with_channel_axis(source)
        self.spec, self.source, self.roi, self.loaded = spec, source, roi, loaded
        # Random: whatever a given-up run still writes, it never writes into the arrays of another one.
        self.folder = new_folder()
        self.frames = make_frames(spec, source)
        self.axes = source.canonical_axes
        self.chains = make_chains(spec, self.frames, known)
        self.outputs = tuple(Outputs(spec, source, self.frames, roi).all())
        self.result = self.outputs[0].info
        self.shape = tuple(self.result.size(a) for a in self.axes)
        units = [self._unit(output) for output in self.outputs if output.levels]
        self.unit = tuple(math.lcm(*some) for some in zip(*units, strict=True))
        cluster = spec.run.cluster
        self.processes = 0 if cluster.in_process else spec.run.tasks
        dashboard_bytes = cluster.dashboard_bytes if spec.run.dashboard else 0
        self.extra_bytes = library_bytes(self.outputs) + dashboard_bytes
        self.external = {uri: read_beside(uri, source, self.frames.spatial) for uri in spec.beside}
        beside = [one.identity for one in self.external.values()]
        self.science = digest(
            spec.science(), source.identity, code_version(), self.shape, extent(roi) if roi else "", *beside
        )

    def _unit(self, output: Output) -> tuple[int, ...]:
        """Return the smallest extent of one write into a result, per canonical axis."""
        finest = output.levels[0].info
        return self._canonical(finest.axes, finest.chunks)

    def _canonical(self, axes: str, values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[axes.index(a)] for a in self.axes)

    def plan(self, geometry: Geometry | None) -> Plan:
        found = self._fastest([geometry] if geometry else self._geometries(self._tiles()))
        tiles = max(len(stage.grid) for stage in found.stages)
        if geometry is None and self.spec.run.tile is None and tiles >= 2 * EACH_TILES * found.threads:
            found = self._fastest(self._geometries([self._taller(found.geometry.tile)]), found)
        return Plan(
            source=self.source,
            outputs=self.outputs,
            frames=self.frames,
            stages=found.stages,
            geometry=found.geometry,
            threads=found.threads,
            processes=min(found.threads, self.processes),
            memory_limit=self.spec.run.memory,
            extra_bytes=self.extra_bytes,
            notes=tuple(self._notes(found.stages, found.threads)),
            digest=digest(self.science, found.geometry.tile, found.geometry.batch),
            science=self.science,
            folder=self.folder,
            loaded=self.loaded,
        )

    def _fastest(self, candidates: Iterable[Geometry], best: _Candidate | None = None) -> _Candidate:
        """Return the candidate that is expected to take the least time, or `best` where none takes less.

        Raises
        ------
        PlanError
            Where there is none.
        """
        least: tuple[int, Geometry] | None = None
        fewest: tuple[int, Geometry] | None = None
        for candidate in candidates:
            stages = self.lay_out(candidate)
            tiles = sum(math.prod(stage.grid.counts) for stage in stages)
            if fewest is None or tiles < fewest[0]:
                fewest = (tiles, candidate)
            if tiles > MOST_TILES:
                continue
            need = least_memory(stages, min(1, self.processes), self.loaded) + self.extra_bytes
            if least is None or need < least[0]:
                least = (need, candidate)
            threads = self._most_threads(stages)
            if threads:
                seconds = expected_seconds(stages, threads)
                if best is None or seconds < best.seconds:
                    best = _Candidate(candidate, stages, threads, seconds)
        if best is None:
            assert fewest is not None
            raise PlanError(self._too_many(*fewest) if least is None else self._refusal(*least))
        return best

    def _most_threads(self, stages: Sequence[Stage]) -> int:
        """Return the largest number of threads whose memory is allowed, 0 where there is none."""
        worker = self.spec.run.cluster.worker_bytes
        if worker is not None and worker_memory(stages) > worker:
            return 0
        memory = self.spec.run.memory

        def taken(threads: int) -> int:
            processes = min(threads, self.processes)
            return predict_memory(stages, threads, processes, memory, self.loaded) + self.extra_bytes

        return bisect.bisect_right(range(1, self.spec.run.tasks + 1), memory, key=taken)

    # ---- candidates

    def _geometries(self, tiles: Iterable[tuple[int, ...]]) -> Iterator[Geometry]:
        total = max(1, *(chain.steps for chain in self.chains))
        wanted = total if self.roi is not None else self.spec.run.batch
        batches = [wanted] if wanted else self._batches(total)
        for tile in tiles:
            for batch in batches:
                yield Geometry(tile, batch)

    def _batches(self, total: int) -> list[int]:
        """Return numbers of steps per pass to try; of those that cut the chains alike, the first."""
        found: dict[Any, int] = {}
        for batch in _unique(math.ceil(total / n) for n in PASSES):
            parts = (split_batches(part, batch) for chain in self.chains for part in chain.parts)
            cuts = tuple(
                tuple(tuple((leg.begins, leg.first, leg.steps) for leg in legs) for legs in part)
                for part in parts
            )
            found.setdefault(cuts, batch)
        return list(found.values())

    def _tiles(self) -> list[tuple[int, ...]]:
        wanted = self.spec.run.tile
        if wanted is not None:
            sides: dict[Any, int] = (
                dict(wanted) if isinstance(wanted, dict) else dict.fromkeys(SPATIAL, wanted)
            )
            return [self._tile({a: sides.get(a, 1) for a in SPATIAL})]
        longest = max(SIDES[2]) if self.spec.run.tasks >= MANY_THREADS else USUAL_SIDE
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

    def _taller(self, tile: tuple[int, ...]) -> tuple[int, ...]:
        """Return a tile of about twice the rows (planes), whose halo is smaller for its size.

        Rows stay as they are: many steps at a time only fit into the cache while rows are short.
        """
        sides = dict(zip(self.axes, tile, strict=True))
        first = self.frames.spatial[0]
        return self._tile({**sides, first: self._even(min(2 * sides[first], max(SIDES[2])))[first]})

    def stages(self, geometry: Geometry) -> Stages:
        """Return an empty collection of stages."""
        return Stages(self.frames, f"{self.spec.workdir}/{self.folder}", geometry, self.roi)

    def lay_out(self, geometry: Geometry) -> tuple[Stage, ...]:
        """Return the stages for a tile and a batch."""
        readings = {uri: one.reading for uri, one in self.external.items()}
        layout = Layout(
            self.source, self.spec.source, self.stages(geometry), self.chains, self.outputs, readings
        )
        try:
            return layout.lay_out()
        except NotAloneError as error:
            raise PlanError(str(error)) from None

    # ---- words

    def _refusal(self, need: int, geometry: Geometry) -> str:
        limit, chunk = self.spec.run.memory, self.source.chunk_bytes
        worker, process = self.spec.run.cluster.worker_bytes, worker_memory(self.lay_out(geometry))
        if worker is not None and process > worker:
            tile = " x ".join(map(str, geometry.tile))
            return (
                f"A worker of the cluster has {worker:,} bytes, but a process with the smallest task (tile {tile} of "
                f"{self.axes}, {geometry.batch} steps per pass) needs {process:,}. Give each worker at least "
                f"--cluster-option memory={math.ceil(process / 2**20)}MiB, or make chunks of the result smaller "
                "(sink.chunk)."
            )
        if need - decoding_bytes(chunk) + decoding_bytes(0) <= limit:
            sides = " x ".join(map(str, self.source.chunks))
            return (
                f"One chunk of the source is {sides} = {chunk:,} bytes decoded, and is decoded as a whole: with it the "
                f"run needs {need:,} bytes with one thread, but only {limit:,} are allowed. Allow at least "
                f"--memory {math.ceil(need / 2**20)}MiB, or rewrite the source with smaller chunks."
            )
        tile = " x ".join(map(str, geometry.tile))
        return (
            f"The run needs {need:,} bytes with one thread and the smallest tile ({tile} cells of {self.axes}, "
            f"{geometry.batch} steps per pass), but only {limit:,} are allowed. Allow at least "
            f"--memory {math.ceil(need / 2**20)}MiB, or make chunks of the result smaller (sink.chunk)."
        )

    def _too_many(self, tiles: int, geometry: Geometry) -> str:
        tile = " x ".join(map(str, geometry.tile))
        size = " x ".join(f"{n:,}" for n in self.shape)
        return (
            f"The run needs {tiles:,} tiles ({tile} cells of {self.axes} each, {geometry.batch} steps per pass) for an "
            f"image of {size} cells. Allowed: at most {MOST_TILES:,}. Check that the image is that large; if so, read "
            "a coarser level (source.level), or give larger tiles (run.tile) and their memory (run.memory)."
        )

    def _notes(self, stages: Sequence[Stage], threads: int) -> Iterator[str]:
        if not self.source.by_region:
            yield "The source cannot be read by region: it is read whole and copied into Zarr first."
        if threads < self.spec.run.tasks:
            yield f"Only {threads} of {self.spec.run.tasks} threads fit into the memory."
        for leg in (leg for chain in self.chains for leg in chain.legs):
            if leg.operator.controlled_by in ("once", "convergence"):
                continue
            if leg.adaptive is not None:
                yield (
                    f"{leg.operator.name} takes adaptive steps: the numbers are those of one batch of them, and how "
                    "many there will be only shows on the way."
                )
            if not leg.operator.keeps_maximum:
                yield f"{leg.operator.name} may leave the range of the image's values."
            elif any(cycle.inertial and cycle.steps > 1 for cycle in leg.cycles):
                yield (
                    f"{leg.operator.name} takes FSI cycles, which may leave the range of the image's "
                    f"values by up to a fifth "
                    "of a jump; schedule: explicit keeps it."
                )


def make_frames(spec: Spec, source: ImageInfo) -> Frames:
    """Return which axes diffuse together, and their spacing.

    Raises
    ------
    ValueError
        For label images, and for 3-D diffusion of an image without z.
    """
    reading = [step for step in spec.steps if is_source(step.input)]
    if source.labels and not all(step.make_operator().takes_labels for step in reading):
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
        source.canonical_axes,
        spatial,
        tuple(spacing),
        spec.image.channels == "joint",
        source.nodata,
        tuple(source.size(a) for a in source.canonical_axes),
    )


def _unique(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
