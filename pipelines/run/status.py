"""Read the status of a run from its folder alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.run.journal import Finished
from pipelines.run.workdir import Workdir
from pipelines.store.targets import is_complete


class NoRunError(ValueError):
    """No run was begun for this target."""


def open_run(target: str, workdir: str | None = None) -> tuple[Workdir, dict[str, Any]]:
    """Return the folder and the identity of the run of a target.

    Raises
    ------
    NoRunError
    """
    path = workdir or (target if target.endswith(".run") else target.rstrip("/") + ".run")
    folder = Workdir(path)
    run = folder.read("run.json")
    if run is None:
        raise NoRunError(
            f"There is no run of {target}: {path}/run.json does not exist. "
            "Give the target of a `diffuse run`, or its folder where run.workdir was set."
        )
    return folder, run


def status(target: str, workdir: str | None = None) -> dict[str, Any]:
    """Return the status of the run of a target: finished tiles per stage, report, target.

    Raises
    ------
    NoRunError
    """
    folder, run = open_run(target, workdir)
    stages = [{**stage, "done": 0} for stage in run["plan"]["stages"]]
    seen = [np.zeros(stage["tiles"], bool) for stage in stages]
    for event in folder.journal.events(repair=False):
        if isinstance(event, Finished):
            seen[event.stage][event.tile] = True
        else:
            seen[event.stage][slice(None) if event.tile is None else event.tile] = False
    for stage, tiles in zip(stages, seen, strict=True):
        stage["done"] = int(tiles.sum())
    report, running = folder.read("report.json") or {}, folder.is_locked()
    workers = (folder.read("workers.json") or {}) if running else {}
    return {
        "target": run["target"],
        "complete": bool(report.get("complete")) and is_complete(run["target"]),
        "tiles": run["plan"]["tiles"],
        "done": sum(stage["done"] for stage in stages),
        "stages": stages,
        "failed": report.get("failed", []),
        "problem": report.get("problem", ""),
        "running": running,
        "dashboard": workers.get("dashboard", ""),
        "workdir": str(folder.path),
        "report": report,
    }
