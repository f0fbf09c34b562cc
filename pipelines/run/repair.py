"""Compute again what is damaged at the targets of a finished run, and only that where it can be computed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pipelines.events import Listener, TileLost, tell
from pipelines.image.window import Region, format_region
from pipelines.plan.search import PlanError
from pipelines.record.lease import lease
from pipelines.refusal import RefusedError
from pipelines.run.finished import Damage, FinishedRun
from pipelines.run.publication import list_target, unlisted
from pipelines.run.run import run as run_spec
from pipelines.run.status import open_run, reading
from pipelines.store.addresses import is_remote, shown
from pipelines.store.publish import remove_local
from pipelines.store.targets import require_no_labels
from pipelines.tasks.process import prepare_process
from pipelines.tasks.values import checksum
from pipelines.tasks.work import Work


def repair(target: str, listeners: Sequence[Listener] = (), workdir: str | None = None) -> dict[str, Any]:
    """Compute damaged tiles of a finished run again, and return what was damaged and what was done.

    Tiles of a Zarr result, and of its pyramid, are computed alone, in one pass from the source, on a disk and in a
    store. Where that cannot be, because the result is a file, has lost its metadata, or depends on the whole image, the
    run is done again as a whole.

    Raises
    ------
    RefusedError
        Where there is no finished run of this target, or its source or the program has changed since: then the same
        bits cannot be made.
    """
    prepare_process()
    folder, run = open_run(target, workdir)
    with reading(folder.uri):
        report = folder.read("report.json")
        if report is None or not report["complete"]:
            raise RefusedError(
                f"The run of {target} is not complete. `diffuse run` goes on with it, and does damaged tiles again."
            )
    finished = FinishedRun.read(folder, run, report)
    if not finished.same:
        raise RefusedError(
            f"The source or the program has changed since the run of {target}, so the same bits cannot be made. Make "
            "the result anew with `diffuse run --overwrite`."
        )
    lost = unlisted(finished.plan)
    for sink in lost.values():
        list_target(sink)
    damages = list(finished.damages(listeners))
    reason = _obstacle(finished, damages)
    if damages and not reason:
        with folder.lock(run["target"]), lease(run["target"], folder.uri):
            reason = _Mending(finished, listeners).mend(damages)
    if reason:
        require_no_labels(run["target"], f"has to be made anew as a whole ({reason})")
        again = run_spec(finished.spec, overwrite=True, listeners=listeners)
        done = again.exit_code == 0
    else:
        done = True
    return {
        "ok": done,
        "target": run["target"],
        "damaged": [*lost, *(damage.text for damage in damages)],
        "tiles": 0 if reason else len(damages),
        "whole": reason,
    }


def _obstacle(finished: FinishedRun, damages: Sequence[Damage]) -> str:
    """Return why damages cannot be mended tile by tile, "" where they can."""
    for damage in damages:
        output = finished.plan.outputs[damage.output]
        if damage.tile < 0:
            return damage.text
        if not output.is_zarr:
            return f"{shown(output.spec.uri)} is no Zarr hierarchy"
        if damage.output:
            return f"{shown(output.spec.uri)} is a further output"
    return ""


class _Mending:
    """The tiles of the main result, written where they were."""

    def __init__(self, finished: FinishedRun, listeners: Sequence[Listener]) -> None:
        self._finished, self._listeners = finished, listeners
        self._output = finished.plan.outputs[0]
        self._levels = [level.path for level in self._output.levels]

    def mend(self, damages: Sequence[Damage]) -> str:
        """Compute and write tiles, the finest level first; return why that cannot be, "" where it was done."""
        try:
            for damage in sorted(damages, key=lambda one: one.stage):
                reason = self._mend(damage)
                if reason:
                    return reason
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            if not is_remote(self._output.spec.uri):
                remove_local(self._finished.array(self._output, 0).writing)
        return ""

    def _mend(self, damage: Damage) -> str:
        plan = self._finished.plan
        stage = plan.stages[damage.stage]
        written, region = stage.work.writes, stage.grid.region(damage.tile)
        assert written is not None
        tell(
            self._listeners,
            TileLost(damage.stage, damage.tile, stage.title, format_region(region, plan.frames.axes)),
        )
        level = self._levels.index(written.path)
        try:
            values = (
                self._finished.recompute(region) if level == 0 else self._reduced(stage.work, level, region)
            )
        except PlanError as error:
            return str(error)
        if checksum(values) != self._finished.crcs.get(damage.stage, damage.tile):
            return f"{damage.text}; computed again it is not what the run wrote either"
        self._finished.array(self._output, level).write(region, values)
        return ""

    def _reduced(self, work: Work, level: int, region: Region) -> NDArray[Any]:
        """Return a region of a level of the pyramid, from the finer level at the target."""
        work = work.moved(self._finished.array(self._output, level - 1), None)
        values: NDArray[Any] | None = work.compute(work.window(region)).values
        assert values is not None
        return values
