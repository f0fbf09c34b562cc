"""Verify a result bit by bit: every tile against the journal, random windows against the source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.events import Listener, StageStarted, TileDone, tell
from pipelines.image.open_source import cached_source, open_source
from pipelines.image.source import SourceSpec
from pipelines.image.window import Region, format_region
from pipelines.plan.graph import Known
from pipelines.plan.plan import Geometry, Output, Plan, Stage
from pipelines.plan.search import PlanError, lay_out_part, make_plan
from pipelines.record.journal import Finished
from pipelines.refusal import RefusedError
from pipelines.run.status import open_run, reading
from pipelines.spec.spec import Spec
from pipelines.store.addresses import is_remote
from pipelines.store.targets import is_complete
from pipelines.tasks.memory import tree_memory
from pipelines.tasks.pixels import Pixels, SourcePixels, ZarrPixels
from pipelines.tasks.process import prepare_process
from pipelines.tasks.values import checksum

SIDE = 128
"""Side of a window that is computed again."""


def verify(
    target: str,
    samples: int = 16,
    listeners: Sequence[Listener] = (),
    workdir: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Check a finished result and return what was checked and what is wrong.

    Every tile of every level is read, which checks the chunks' checksums, and its CRC compared with the journal;
    then `samples` random windows are computed from the source in one pass and compared bit by bit.

    Raises
    ------
    RefusedError
        Where there is no finished run of this target.
    """
    prepare_process()
    folder, run = open_run(target, workdir)
    with reading(folder.path):
        report = folder.read("report.json")
        if report is None or not report["complete"] or not is_complete(run["target"]):
            raise RefusedError(
                f"The run of {target} is not complete. Finish it with `diffuse run`, then verify."
            )
        spec, geometry = Spec.model_validate(run["spec"]), Geometry(tuple(run["tile"]), run["batch"])
        finished = (e for e in folder.journal.events(repair=False) if isinstance(e, Finished))
        crcs = {(event.stage, event.tile): event.crc for event in finished}
        known = _known(report)
        plan = make_plan(spec, cached_source(spec.source).info, geometry)
    problems: list[str] = []
    notes: list[str] = []
    if plan.science != run.get("science"):
        notes.append("The source or the program has changed since the run; if bits differ, that may be why.")
    tiles = 0
    for number, stage, pixels in _results(plan):
        tell(listeners, StageStarted(number, f"check {stage.title}", len(stage.grid)))
        for tile in range(len(stage.grid)):
            tiles += 1
            problems += _check_tile(plan, number, stage, tile, pixels, crcs.get((number, tile)))
            tell(listeners, TileDone(number, tile, 0, 0, 0.0, 0, tree_memory()))
    windows = list(_random_windows(plan, samples, seed))
    try:
        problems += _check_windows(spec, plan, known, windows)
    except PlanError as error:
        windows = []
        notes.append(f"No window was computed again, all tiles were compared with the journal. {error}")
    return {
        "ok": not problems,
        "problems": problems,
        "notes": notes,
        "tiles": tiles,
        "windows": len(windows),
        "target": run["target"],
    }


def _results(plan: Plan) -> Iterator[tuple[int, Stage, Pixels]]:
    """Yield the stages that wrote the results, each with the pixels that its target holds now."""
    for number, stage in enumerate(plan.stages):
        written = stage.work.writes
        for output in plan.outputs:
            if written is not None and Path(written.root).name == output.folder:
                level = [v.path for v in output.levels].index(written.path)
                pixels = _written(plan, output, level)
                if pixels is not None:
                    yield number, stage, pixels


def _written(plan: Plan, output: Output, level: int) -> Pixels | None:
    """Return a level of a target; None for the coarser levels of a file."""
    axes, target = plan.frames.axes, output.spec.uri
    if output.is_zarr and not is_remote(target):
        return ZarrPixels(target, output.levels[level].path, output.levels[level].info.axes, axes)
    if level and not output.is_zarr:
        return None
    spec = SourceSpec(uri=target, level=level)
    stored = open_source(spec).info
    # Other axes of as many are named by the run; a file of one channel or plane may leave that axis out.
    if len(stored.axes) == len(axes) and stored.canonical_axes != axes:
        spec = SourceSpec(uri=target, axes=output.levels[0].info.axes)
    return SourcePixels(spec, axes)


def _check_tile(
    plan: Plan, number: int, stage: Stage, tile: int, pixels: Pixels, crc: int | None
) -> list[str]:
    region = stage.grid.region(tile)
    tile_name = f"{stage.title}, {format_region(region, plan.frames.axes)}"
    if crc is None:
        return [f"{tile_name}: not in the journal"]
    try:
        found = checksum(pixels.read(region))
    except Exception as error:  # any codec's error means a damaged chunk
        return [f"{tile_name}: cannot be read ({type(error).__name__}: {error})"]
    return [] if found == crc else [f"{tile_name}: differs from what the run wrote"]


def _random_windows(plan: Plan, samples: int, seed: int) -> Iterator[Region]:
    random = np.random.default_rng(seed)
    for _ in range(samples):
        region = []
        for a in plan.frames.axes:
            length = plan.result.size(a)
            side = SIDE if a in plan.frames.spatial else length if a in plan.frames.together else 1
            side = min(side, length)
            start = int(random.integers(0, length - side + 1))
            region.append(slice(start, start + side))
        yield tuple(region)


def _known(report: dict[str, Any]) -> Known:
    """Return the numbers that a run has found, from its report."""
    return Known(
        {entry["position"]: entry["values"] for entry in report["statistics"]},
        {entry["position"]: entry["steps"] for entry in report["stopped"]},
        {entry["position"]: accepted_steps(entry) for entry in report["adaptive"]},
    )


def _check_windows(spec: Spec, plan: Plan, known: Known, windows: Sequence[Region]) -> list[str]:
    """Compute windows from the source in one pass and compare them with the target."""
    pixels = _written(plan, plan.outputs[0], 0)
    assert pixels is not None
    problems = []
    for region in windows:
        expected = _recompute(spec, plan, region, known)
        name = format_region(region, plan.frames.axes)
        try:
            found = pixels.read(region)
        except Exception as error:  # any codec's error means a damaged chunk
            problems.append(f"window {name}: cannot be read ({type(error).__name__}: {error})")
            continue
        if not _same_bits(expected, found):
            different = int(np.sum(~((expected == found) | ((expected != expected) & (found != found)))))
            problems.append(
                f"window {name}: {different} of {math.prod(found.shape)} values differ from the source's result"
            )
    return problems


def accepted_steps(adaptive: dict[str, Any]) -> list[float]:
    """Return the sizes of the adaptive steps that counted, from what the report says of them."""
    return [batch["step"] for batch in adaptive["batches"] if batch["accepted"]]


def _recompute(spec: Spec, plan: Plan, region: Region, known: Known) -> NDArray[Any]:
    """Return a window of the result, computed from the source as a preview is."""
    work = lay_out_part(spec, plan.source, region, known)
    inside = tuple(slice(0, s.stop - s.start) for s in region)
    values: NDArray[Any] | None = work.compute(work.window(inside)).values
    assert values is not None
    return values


def _same_bits(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.dtype == second.dtype and checksum(first) == checksum(second)
