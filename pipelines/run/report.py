"""Make the report of a run: what was done, measured and chosen, beside what was planned."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipelines.image.window import format_region
from pipelines.plan.plan import Plan
from pipelines.record.ready_tiles import TileId
from pipelines.record.state import RunState
from pipelines.spec.spec import Spec
from pipelines.tasks.memory import PeakMemory
from pipelines.tasks.values import Outcome
from pipelines.tasks.version import code_version
from pipelines.tasks.work import KINDS


class Measured:
    """Measurements of a run: its memory, and the time of its stages.

    Attributes
    ----------
    memory : PeakMemory
        Memory of the driver and its child processes.
    workers : dict
        Peak resident memory per process.
    began, seconds : dict
        Start and duration of each stage.
    dashboard : str
        Address of the pages that showed the workers, "" without any.
    left_out : dict
        How workers that got no task differ, by their addresses.
    problem : str
        Reason why the run cannot continue, "" where it can.
    ended_by : str
        Why it has ended although it could continue, "" where it has not.
    """

    def __init__(self) -> None:
        self.memory = PeakMemory()
        self.workers: dict[int, int] = {}
        self.began: dict[int, float] = {}
        self.seconds: dict[int, float] = {}
        self.left_out: Mapping[str, str] = {}
        self.dashboard = self.problem = self.ended_by = ""

    def begin(self, stage: int) -> None:
        """Note that the first tile of a stage was submitted."""
        self.began.setdefault(stage, time.perf_counter())

    def finish(self, stage: int) -> float:
        """Note that a stage is complete, and return how long it took."""
        self.seconds[stage] = time.perf_counter() - self.began.get(stage, time.perf_counter())
        return self.seconds[stage]

    def take(self, outcome: Outcome) -> None:
        """Note the memory of the process that did a tile."""
        self.workers[outcome.process] = max(outcome.memory_bytes, self.workers.get(outcome.process, 0))

    def end(self, start: datetime, seconds: float, resumed: int, absent_chunks: int | None) -> None:
        """Note how long the run took, how many tiles were done before, and how many chunks the source lacks."""
        self.start, self.total_seconds, self.resumed = start, seconds, resumed
        self.absent_chunks = absent_chunks


def make_report(
    spec: Spec, plan: Plan, state: RunState, measured: Measured, tuning: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the report at the end of a run, as JSON values."""
    return {
        "complete": len(state.published) == len(plan.outputs),
        "target": spec.sink.uri,
        "science": plan.science,
        "digest": plan.digest,
        "code": code_version(),
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "started": measured.start.isoformat(timespec="seconds"),
        "seconds": measured.total_seconds,
        "tiles": plan.tiles,
        "tiles_done": plan.tiles - state.tiles.left,
        "tiles_resumed": measured.resumed,
        "absent_chunks": measured.absent_chunks,
        "retries": sum(state.tries.values()),
        "problem": measured.problem,
        "ended_by": measured.ended_by,
        "dashboard": measured.dashboard,
        "workers_left_out": dict(measured.left_out),
        "failed": [_failure(plan, state, tile, error) for tile, error in state.failed.items()],
        "tuning": list(tuning),
        **_sections(state),
        "memory": {
            "predicted": plan.memory_total,
            "measured": measured.memory.peak,
            "limit": plan.memory_limit,
            "workers": {str(process): peak for process, peak in measured.workers.items()},
        },
        "stages": [
            {"title": stage.title, "tiles": len(stage.grid), "seconds": measured.seconds.get(number)}
            for number, stage in enumerate(state.stages)
        ],
        "spec": spec.model_dump(mode="json"),
        "plan": plan.summary(),
    }


def _sections(state: RunState) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of the stages, by the sections of their kinds of work."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for kind in KINDS.values() for name in kind.sections}
    for number, stage in enumerate(state.stages):
        for section, entry in stage.work.report(stage.title, state.concluded(number)).items():
            found[section].append(dict(entry))
    return found


def _failure(plan: Plan, state: RunState, tile: TileId, error: str) -> dict[str, Any]:
    stage = state.stages[tile[0]]
    region = format_region(stage.grid.region(tile[1]), plan.frames.axes)
    return {"stage": stage.title, "tile": tile[1], "region": region, "error": error}


def _system() -> str:
    # Asked for more, `platform` starts a process, which for a moment counts as much memory as this one.
    return f"{platform.system()} {platform.release()} {platform.machine()}"
