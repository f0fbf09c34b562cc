"""Read the status of a run from its folder alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.record.journal import Forgotten
from pipelines.record.workdir import RUN, DamagedError, Workdir
from pipelines.refusal import RefusedError
from pipelines.store.addresses import beside_target, shown, within
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
    path = workdir or (target if target.endswith(".run") else beside_target(target))
    folder = Workdir(path)
    with reading(path):
        run = folder.begun
    if run is None:
        raise NoRunError(
            f"There is no run of {shown(target)}: {shown(within(path, RUN))} does not exist. "
            "Give the target of a `diffuse run`, or its folder where run.workdir was set."
        )
    return folder, run


def status(target: str, workdir: str | None = None) -> dict[str, Any]:
    """Return the status of the run of a target: finished tiles per stage, speed, time left, report, target.

    Nothing is written, and all is read from files: another process, or another machine that sees the folder, may ask.

    Raises
    ------
    NoRunError
    """
    folder, run = open_run(target, workdir)
    with reading(folder.uri):
        return _status(folder, run)


def _status(folder: Workdir, run: dict[str, Any]) -> dict[str, Any]:
    stages = [{**stage, "done": 0} for stage in run["plan"]["stages"]]
    seen = [np.zeros(stage["tiles"], bool) for stage in stages]
    for told in folder.journal.glance():
        if isinstance(told, np.ndarray):
            for number in np.unique(told[:, 0]):
                seen[number][told[told[:, 0] == number, 1]] = True
        elif isinstance(told, Forgotten):
            seen[told.stage][slice(None) if told.tile is None else told.tile] = False
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
        **_speed(folder, stages, workers.get("left")),
        "dashboard": workers.get("dashboard", ""),
        "workdir": shown(folder.uri),
        "report": report,
    }


def _speed(
    folder: Workdir, stages: Sequence[Mapping[str, Any]], left: Sequence[int] | None
) -> dict[str, Any]:
    """Return how fast the process that works on a run is, when it will end, and how old the latest tile is.

    Times are those of two files: one was written when the process began, with the tiles that were `left` then, the
    other grows with every tile. So one clock tells both, whichever machine asks.
    """
    began, latest = folder.changed("workers.json"), folder.journal.changed()
    found: dict[str, Any] = {"tiles_per_second": None, "seconds_left": None, "seconds_since_tile": None}
    if latest is None or began is None or left is None or latest <= began:
        return found
    found["seconds_since_tile"] = max(0.0, time.time() - latest)
    now = [stage["tiles"] - stage["done"] for stage in stages]
    # A tile of one stage may cost a hundred of another: what the plan expects of each says what is left.
    costs = [stage["expected_seconds"] / max(1, stage["tiles"]) for stage in stages]
    done = [max(0, before - after) for before, after in zip(left, now, strict=True)]
    found["tiles_per_second"] = sum(done) / (latest - began)
    work = sum(cost * count for cost, count in zip(costs, done, strict=True))
    if work > 0:
        ahead = sum(cost * count for cost, count in zip(costs, now, strict=True))
        found["seconds_left"] = ahead / work * (latest - began)
    return found


def cancel(target: str, workdir: str | None = None) -> dict[str, Any]:
    """Ask the process that works on a target to take no more tiles; return the status, and whether one was asked.

    Raises
    ------
    NoRunError
    """
    folder, _ = open_run(target, workdir)
    standing = status(target, workdir)
    if standing["running"]:
        folder.ask_to_stop()
    return {**standing, "asked": standing["running"]}
