"""Verify a result bit by bit: every tile against the journal, random windows against the source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.events import Listener, StageStarted, TileDone, tell
from pipelines.image.kept_sources import cached_source
from pipelines.image.window import Region, format_region
from pipelines.plan.plan import Plan
from pipelines.plan.search import PlanError, make_plan
from pipelines.record.state import RunState
from pipelines.record.workdir import Workdir, unfinished
from pipelines.refusal import RefusedError
from pipelines.run.finished import FinishedRun
from pipelines.run.inspection import groups, needed_stages
from pipelines.run.publication import unlisted
from pipelines.run.status import open_run, reading
from pipelines.spec.spec import Spec
from pipelines.store.targets import is_complete
from pipelines.tasks.memory import tree_memory
from pipelines.tasks.pixels import Pixels
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
    """Check a run and return what was checked and what is wrong.

    Of a finished run every tile of every level is read, which checks the chunks' checksums, and its CRC compared with
    the journal; so are files as a whole, and the metadata of hierarchies. Then `samples` random windows are computed
    from the source in one pass and compared bit by bit. Of a run that is not finished the tiles that are done are
    compared with the journal.

    Raises
    ------
    RefusedError
        Where there is no run of this target, or one that is not finished and whose source or program has changed.
    """
    prepare_process()
    folder, run = open_run(target, workdir)
    with reading(folder.uri):
        report = folder.read("report.json")
        if report is None or not report["complete"]:
            return _verify_unfinished(folder, run, report, listeners)
    if not is_complete(run["target"]):
        raise RefusedError(f"{run['target']} is gone, or not complete. Make it anew with `diffuse run`.")
    finished = FinishedRun.read(folder, run, report)
    notes: list[str] = []
    if not finished.same:
        notes.append("The source or the program has changed since the run; if bits differ, that may be why.")
    problems = [*unlisted(finished.plan), *(damage.text for damage in finished.damages(listeners))]
    pixels = finished.written(finished.plan.outputs[0], 0)
    windows = [] if pixels is None else list(_random_windows(finished.plan, samples, seed))
    if pixels is None:
        what = "table" if finished.plan.outputs[0].is_table else "file in a store"
        notes.append(f"A {what} is compared as a whole with what the run has written.")
    try:
        problems += _check_windows(finished, pixels, windows)
    except PlanError as error:
        windows = []
        notes.append(f"No window was computed again, all tiles were compared with the journal. {error}")
    tiles = sum(len(stage.grid) for _, _, stage, _ in finished.results())
    return _result(run, problems, notes, tiles, len(windows))


def _result(
    run: dict[str, Any], problems: list[str], notes: list[str], tiles: int, windows: int
) -> dict[str, Any]:
    return {
        "ok": not problems,
        "problems": problems,
        "notes": notes,
        "tiles": tiles,
        "windows": windows,
        "target": run["target"],
    }


def _verify_unfinished(
    folder: Workdir, run: dict[str, Any], report: dict[str, Any] | None, listeners: Sequence[Listener]
) -> dict[str, Any]:
    """Compare the finished tiles of states and results in the making with the journal."""
    begun, spec = unfinished(run, report), Spec.model_validate(run["spec"])
    assert begun is not None
    plan = make_plan(spec, cached_source(spec.source).info, begun=begun)
    if plan.folder != begun.folder:
        raise RefusedError(
            f"The run of {run['target']} is not complete, and its source or the program has changed since. Start it "
            "anew with `diffuse run --overwrite`."
        )
    state = RunState(plan.stages)
    last = state.replay(folder.journal.events(repair=False))
    problems, tiles = [], 0
    for group in groups(state, needed_stages(state, plan), last):
        stage = state.stages[group.stage]
        tell(listeners, StageStarted(group.stage, f"check {stage.title}", len(stage.grid)))
        for tile, crc in group.crcs.items():
            tiles += 1
            if not group.is_whole(tile):
                region = format_region(stage.grid.region(tile), plan.frames.axes)
                problems.append(f"{stage.title}, {region}: damaged or gone (checksum {crc:08x})")
            tell(listeners, TileDone(group.stage, tile, 0, 0, 0.0, 0, tree_memory()))
    note = "The run is not complete. `diffuse run` goes on with it, and does damaged tiles again."
    return _result(run, problems, [note], tiles, 0)


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


def _check_windows(finished: FinishedRun, pixels: Pixels | None, windows: Sequence[Region]) -> list[str]:
    """Compute windows from the source in one pass and compare them with the target."""
    problems = []
    for region in windows:
        assert pixels is not None
        expected = finished.recompute(region)
        name = format_region(region, finished.plan.frames.axes)
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


def _same_bits(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.dtype == second.dtype and checksum(first) == checksum(second)
