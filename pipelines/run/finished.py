"""Compare what the targets of a finished run hold with what the run has written there, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipelines.events import Listener, StageStarted, TileDone, tell
from pipelines.image.kept_sources import cached_source
from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec
from pipelines.image.window import Region, format_region
from pipelines.plan.graph import Known
from pipelines.plan.plan import Geometry, Output, Plan
from pipelines.plan.search import lay_out_part, make_plan
from pipelines.plan.stage import Stage
from pipelines.record.checksums import Checksums
from pipelines.record.journal import Published
from pipelines.record.workdir import Workdir
from pipelines.run.status import reading
from pipelines.spec.spec import Spec
from pipelines.store.addresses import is_remote, require_local, shown
from pipelines.store.publish import content_checksum, part_of
from pipelines.tasks.memory import tree_memory
from pipelines.tasks.pixels import Pixels, SourcePixels, ZarrPixels, forget_arrays
from pipelines.tasks.values import checksum


@dataclass(frozen=True)
class Damage:
    """A tile of a target that is not as it was written, or the file or the metadata of a target.

    Attributes
    ----------
    output : int
        Number of the result.
    text : str
        What is wrong, for people.
    stage, tile : int
        Stage that has written the tile, and its number there; -1 for a file as a whole, or metadata.
    """

    output: int
    text: str
    stage: int = -1
    tile: int = -1


@dataclass(frozen=True)
class TargetPixels(ZarrPixels):
    """An array of a target, among things of others."""

    @property
    def writing(self) -> Path:
        """Hidden folder beside the target."""
        return part_of(require_local(self.root))


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, from its folder.

    Attributes
    ----------
    spec : Spec
    plan : Plan
        Plan of the run, made again for the source as it is now.
    same : bool
        True where source and program are those of the run.
    known : Known
        Numbers that the run has found.
    crcs : Checksums
        Of each tile of each stage.
    contents : dict
        Checksum of the file, or of the metadata, of each result.
    """

    spec: Spec
    plan: Plan
    same: bool
    known: Known
    crcs: Checksums
    contents: dict[int, int]

    @classmethod
    def read(cls, folder: Workdir, run: dict[str, Any], report: dict[str, Any]) -> FinishedRun:
        """Return the run of a folder.

        Raises
        ------
        DamagedError
        """
        forget_arrays()
        with reading(folder.uri):
            spec = Spec.model_validate(run["spec"])
            plan = make_plan(
                spec, cached_source(spec.source).info, Geometry(tuple(run["tile"]), run["batch"])
            )
            crcs, contents = Checksums(), {}
            for event in folder.journal.events(repair=False):
                crcs.note(event)
                if isinstance(event, Published):
                    contents[event.output] = event.crc
            return cls(spec, plan, plan.science == run.get("science"), _known(report), crcs, contents)

    # ---- what the targets hold

    def results(self) -> Iterator[tuple[int, int, Stage, Pixels]]:
        """Yield the stages that wrote results: output, number, stage, and the pixels that the target holds now."""
        for number, stage in enumerate(self.plan.stages):
            output, written = self.plan.output_of(stage), stage.work.writes
            if output is not None and written is not None:
                level = [v.path for v in self.plan.outputs[output].levels].index(written.path)
                pixels = self.written(self.plan.outputs[output], level)
                if pixels is not None:
                    yield output, number, stage, pixels

    def written(self, output: Output, level: int) -> Pixels | None:
        """Return a level of a target; None for coarser levels of a file, for a file in a store, and for a table."""
        if output.is_table:
            return None
        if output.is_zarr:
            return self.array(output, level)
        axes, target = self.plan.frames.axes, output.spec.uri
        if level or is_remote(target):
            return None
        spec = SourceSpec(uri=target, level=level)
        stored = open_source(spec).info
        # Other axes of as many are named by the run; a file of one channel or plane may leave that axis out.
        if len(stored.axes) == len(axes) and stored.canonical_axes != axes:
            spec = SourceSpec(uri=target, axes=output.levels[0].info.axes)
        return SourcePixels(spec, axes)

    def array(self, output: Output, level: int) -> TargetPixels:
        """Return the array of a level of a target that is a hierarchy."""
        found = output.levels[level]
        return TargetPixels(output.spec.uri, found.path, found.info.axes, self.plan.frames.axes)

    def damages(self, listeners: Sequence[Listener]) -> Iterator[Damage]:
        """Read all results and yield what is not as it was written."""
        for number, output in enumerate(self.plan.outputs):
            expected = self.contents.get(number)
            if expected is None:
                continue
            found = content_checksum(output.spec.uri)
            if found is None:
                yield Damage(number, f"{shown(output.spec.uri)} is gone")
                return
            if found != expected:
                what = "its metadata differ" if output.is_zarr else "the file differs"
                yield Damage(number, f"{shown(output.spec.uri)}: {what} from what the run wrote")
        for number, position, stage, pixels in self.results():
            tell(listeners, StageStarted(position, f"check {stage.title}", len(stage.grid)))
            for tile in range(len(stage.grid)):
                text = self._difference(position, stage, tile, pixels)
                if text:
                    region = format_region(stage.grid.region(tile), self.plan.frames.axes)
                    yield Damage(number, f"{stage.title}, {region}: {text}", position, tile)
                tell(listeners, TileDone(position, tile, 0, 0, 0.0, 0, tree_memory()))

    def _difference(self, number: int, stage: Stage, tile: int, pixels: Pixels) -> str:
        crc = self.crcs.get(number, tile)
        if crc is None:
            return "not in the journal"
        try:
            found = checksum(pixels.read(stage.grid.region(tile)))
        except Exception as error:  # any codec's error means a damaged chunk
            return f"cannot be read ({type(error).__name__}: {error})"
        return "" if found == crc else "differs from what the run wrote"

    # ---- what they should hold

    def recompute(self, region: Region) -> NDArray[Any]:
        """Return a region of the main result, computed from the source as a preview is.

        Raises
        ------
        PlanError
            Where it cannot be computed without the whole image.
        """
        work = lay_out_part(self.spec, self.plan.source, region, self.known)
        inside = tuple(slice(0, s.stop - s.start) for s in region)
        values: NDArray[Any] | None = work.compute(work.window(inside)).values
        assert values is not None
        return values


def _known(report: dict[str, Any]) -> Known:
    """Return the numbers that a run has found, from its report."""
    bound: dict[int, dict[str, float]] = {}
    for entry in report["statistics"]:
        bound.setdefault(entry["position"], {}).update(entry["values"])
    return Known(
        bound,
        {entry["position"]: entry["steps"] for entry in report["stopped"]},
        {entry["position"]: accepted_steps(entry) for entry in report["adaptive"]},
    )


def accepted_steps(adaptive: dict[str, Any]) -> list[float]:
    """Return the sizes of the adaptive steps that counted, from what the report says of them."""
    return [batch["step"] for batch in adaptive["batches"] if batch["accepted"]]
