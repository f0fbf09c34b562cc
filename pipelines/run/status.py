"""Read the status of a run from its folder alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipelines.record.journal import Finished, Forgotten
from pipelines.record.workdir import DamagedError, Workdir
from pipelines.refusal import RefusedError
from pipelines.store.addresses import outside
from pipelines.store.targets import is_complete


class NoRunError(RefusedError):
    """No run was begun for this target."""


@contextlib.contextmanager
def reading(path: object) -> Iterator[None]:
    """Refuse a folder of a run whose files are empty, cut short, or hold something else than a run writes.

    Raises
    ------
    DamagedError
    """
    try:
        yield
    except RefusedError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DamagedError(
            f"The folder {path} of the run is damaged: its files cannot be understood ({type(error).__name__}: "
            f"{error}). Start the run anew with `diffuse run SPEC --overwrite`, or remove the folder."
        ) from error


def open_run(target: str, workdir: str | None = None) -> tuple[Workdir, dict[str, Any]]:
    """Return the folder and the identity of the run of a target.

    Raises
    ------
    NoRunError
    """
    path = workdir or (target if target.endswith(".run") else outside(target) + ".run")
    folder = Workdir(path)
    with reading(path):
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
    with reading(folder.path):
        return _status(folder, run)


def _status(folder: Workdir, run: dict[str, Any]) -> dict[str, Any]:
    stages = [{**stage, "done": 0} for stage in run["plan"]["stages"]]
    seen = [np.zeros(stage["tiles"], bool) for stage in stages]
    for event in folder.journal.events(repair=False):
        if isinstance(event, Finished):
            seen[event.stage][event.tile] = True
        elif isinstance(event, Forgotten):
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
