"""Say how a run went: what was done, measured and chosen, beside what was planned."""

from __future__ import annotations

import itertools
import platform
from datetime import datetime
from typing import Any

from diffusion_ops.blocks.statistic import Tally
from pipelines.image.window import format_region
from pipelines.kinds.adapt import Adapt
from pipelines.kinds.measure import Measure
from pipelines.plan.plan import Plan
from pipelines.run.decisions import Decisions
from pipelines.run.ready_tiles import Frontier
from pipelines.spec.spec import Spec
from pipelines.tasks.memory import PeakMemory
from pipelines.tasks.version import code_version

Place = tuple[int, int]
"""(stage, tile)."""


class Record:
    """What is known of a run while it goes on.

    Attributes
    ----------
    spec : Spec
    plan : Plan
    frontier : Frontier
        Which tiles are done.
    tallies, told, bound : dict
        What stages measured so far; what tiles told that is not added up; the numbers of statistics, per position.
    decisions : Decisions
        What was decided on the way.
    tries, failed : dict
        Per tile: how often it failed, and of what it finally did.
    began, seconds : dict
        When a stage began, how long it took.
    workers : dict
        Peak resident memory per process.
    memory : PeakMemory
    dashboard : str
        Address of the pages that showed the workers, "" without any.
    full : str
        What to say where no space is left.
    tuning : tuple of dict
        What chose itself before the plan was made, and why.
    """

    def __init__(self, spec: Spec, plan: Plan) -> None:
        self.spec, self.plan = spec, plan
        self.frontier = Frontier(plan.stages)
        self.tallies: dict[int, dict[str, Tally]] = {}
        self.told: dict[int, list[Tally]] = {}
        self.bound: dict[int, dict[str, float]] = {}
        self.decisions = Decisions(plan, self.frontier)
        self.tries: dict[Place, int] = {}
        self.failed: dict[Place, str] = {}
        self.began: dict[int, float] = {}
        self.seconds: dict[int, float] = {}
        self.workers: dict[int, int] = {}
        self.memory = PeakMemory()
        self.dashboard = self.full = ""
        self.tuning: tuple[dict[str, Any], ...] = ()


def make_report(run: Record, start: datetime, seconds: float, resumed: int) -> dict[str, Any]:
    """Return all that is known at the end of a run, as JSON values."""
    complete = not run.frontier.left
    predicted = run.plan.memory_total
    return {
        "complete": complete,
        "target": run.spec.sink.uri,
        "science": run.plan.science,
        "digest": run.plan.digest,
        "code": code_version(),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "started": start.isoformat(timespec="seconds"),
        "seconds": seconds,
        "tiles": run.plan.tiles,
        "tiles_done": run.plan.tiles - run.frontier.left,
        "tiles_resumed": resumed,
        "retries": sum(run.tries.values()),
        "problem": run.full,
        "dashboard": run.dashboard,
        "failed": [_failure(run, place, error) for place, error in run.failed.items()],
        "statistics": [
            {"title": stage.title, "position": stage.work.position, "values": run.bound[stage.work.position]}
            for number, stage in enumerate(run.plan.stages)
            if isinstance(stage.work, Measure) and run.frontier.complete(number)
        ],
        "energies": [_energy(run, number) for number in sorted(run.decisions.energies)],
        "tuning": list(run.tuning),
        "adaptive": [_adaptive(run, number) for number in sorted(run.decisions.history)],
        "stopped": {str(position): steps for position, steps in run.decisions.stopped.items()},
        "memory": {
            "predicted": predicted,
            "measured": run.memory.peak,
            "limit": run.plan.memory_limit,
            "workers": {str(process): peak for process, peak in run.workers.items()},
        },
        "stages": [
            {"title": stage.title, "tiles": len(stage.grid), "seconds": run.seconds.get(number)}
            for number, stage in enumerate(run.plan.stages)
        ],
        "spec": run.spec.model_dump(mode="json"),
        "plan": run.plan.summary(),
    }


def _energy(run: Record, number: int) -> dict[str, Any]:
    look = run.plan.stages[number].look
    assert look is not None
    return {"position": look.position, "steps": look.steps, "energy": run.decisions.energies[number]}


def _adaptive(run: Record, number: int) -> dict[str, Any]:
    """Return the batches of an adaptive stage: their steps, errors in tolerances, and whether they counted."""
    work, history = run.plan.stages[number].work, run.decisions.history[number]
    assert isinstance(work, Adapt)
    batches = [
        {"step": before.tau, "error": after.error, "accepted": after.accepted, "time": float(after.done)}
        for before, after in itertools.pairwise(history)
    ]
    return {"position": work.position, "batches": batches}


def _failure(run: Record, place: Place, error: str) -> dict[str, Any]:
    stage = run.plan.stages[place[0]]
    region = format_region(stage.grid.region(place[1]), run.plan.frames.axes)
    return {"stage": stage.title, "tile": place[1], "region": region, "error": error}
