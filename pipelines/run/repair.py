"""Compute again what is damaged at the targets of a finished run, and only that where it can be computed alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.events import Listener, TileLost, tell
from pipelines.image.window import format_region
from pipelines.plan.search import PlanError
from pipelines.record.lease import lease
from pipelines.record.workdir import Workdir
from pipelines.refusal import RefusedError
from pipelines.run.finished import Damage, FinishedRun
from pipelines.run.publication import list_target, unlisted
from pipelines.run.run import run as run_spec
from pipelines.run.status import open_run, reading
from pipelines.store.addresses import is_remote, require_local, shown
from pipelines.store.targets import require_no_labels
from pipelines.tasks.process import prepare_process
from pipelines.tasks.values import checksum


def repair(target: str, listeners: Sequence[Listener] = (), workdir: str | None = None) -> dict[str, Any]:
    """Compute damaged tiles of a finished run again, and return what was damaged and what was done.

    Tiles of a local Zarr result, and of its pyramid, are computed alone, in one pass from the source. Where that
    cannot be, because the result is a file, lies in a store, has lost its metadata, or depends on the whole image, the
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
    reason = _obstacle(finished, folder, damages)
    if damages and not reason:
        with folder.lock(run["target"]), lease(run["target"], folder.uri):
            reason = _Mending(finished, folder, listeners).mend(damages)
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


def _obstacle(finished: FinishedRun, folder: Workdir, damages: Sequence[Damage]) -> str:
    """Return why damages cannot be mended tile by tile, "" where they can."""
    for damage in damages:
        output = finished.plan.outputs[damage.output]
        if damage.tile < 0:
            return damage.text
        if is_remote(folder.uri):
            return f"the run's folder {shown(folder.uri)} is in a store"
        if is_remote(output.spec.uri) or not output.is_zarr:
            return f"{output.spec.uri} is no local Zarr hierarchy"
        if damage.output:
            return f"{output.spec.uri} is a further output"
    return ""


class _Mending:
    """The tiles of the main result, written where they were."""

    def __init__(self, finished: FinishedRun, folder: Workdir, listeners: Sequence[Listener]) -> None:
        self._finished, self._listeners = finished, listeners
        plan = finished.plan
        # The stages name their arrays inside the run's folder: there the target takes its old place for a while.
        self._folder = Path(folder.uri, plan.folder)
        self._link = self._folder / plan.outputs[0].folder
        self._target = require_local(plan.outputs[0].spec.uri)

    def mend(self, damages: Sequence[Damage]) -> str:
        """Compute and write tiles, the finest level first; return why that cannot be, "" where it was done."""
        self._folder.mkdir()
        try:
            os.symlink(Path(self._target).absolute(), self._link, target_is_directory=True)
            for damage in sorted(damages, key=lambda one: one.stage):
                reason = self._mend(damage)
                if reason:
                    return reason
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            self._link.unlink(missing_ok=True)
            for left in self._folder.iterdir():
                left.rmdir()
            self._folder.rmdir()
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
        try:
            values = (
                self._finished.recompute(region)
                if written.path == plan.levels[0].path
                else stage.work.compute(stage.work.window(region)).values
            )
        except PlanError as error:
            return str(error)
        assert values is not None
        if checksum(values) != self._finished.crcs.get(damage.stage, damage.tile):
            return f"{damage.text}; computed again it is not what the run wrote either"
        written.write(region, values)
        return ""
