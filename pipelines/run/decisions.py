"""Decide what only shows while a run goes on: when an operator stops, and how large its next steps are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.adaptive import Control
from pipelines.kinds.adapt import ERROR, Adapt
from pipelines.kinds.evolve import ENERGY, Evolve
from pipelines.plan.plan import Look, Plan, Stage
from pipelines.run.ready_tiles import Frontier
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.work import Work


class Decisions:
    """What was decided so far, from the tallies of complete stages alone: so it is found again from the journal.

    Attributes
    ----------
    energies : dict
        Energy after stages that look at it.
    stopped : dict
        Steps after which operators stopped early, per position.
    history : dict
        Controls of adaptive stages, one after another.
    """

    def __init__(self, plan: Plan, frontier: Frontier) -> None:
        self.plan, self.frontier = plan, frontier
        self.energies: dict[int, float] = {}
        self.stopped: dict[int, int] = {}
        self.history: dict[int, list[Control]] = {}
        self._changed: dict[int, Stage] = {}
        self._replaced: dict[int, list[ZarrPixels]] = {}
        for number, stage in enumerate(plan.stages):
            if isinstance(stage.work, Adapt):
                self.history[number] = [stage.work.control]

    def stage(self, number: int) -> Stage:
        """Return a stage as it is now: what it reads and writes may have been decided since the plan."""
        return self._changed.get(number, self.plan.stages[number])

    def replaced(self, number: int) -> list[ZarrPixels]:
        """Return the arrays of a stage's last two rounds: one is read by the next, and the other may go."""
        return self._replaced.get(number, [])[-2:]

    def round(self, number: int) -> int:
        """Return how many times a stage was done before and is done again."""
        history = self.history.get(number, [])
        return max(0, len(history) - 1 - (history[-1].finished if history else 0))

    def conclude(self, number: int, tallies: Mapping[str, Tally]) -> dict[str, float]:
        """Take the tallies of a complete stage, and return the number that they come to, for people."""
        stage = self.stage(number)
        if stage.look is not None:
            return self._look(number, stage.look, tallies)
        if isinstance(stage.work, Adapt) and not self.history[number][-1].finished:
            return self._step(number, stage, stage.work, tallies)
        return {}

    def _look(self, number: int, look: Look, tallies: Mapping[str, Tally]) -> dict[str, float]:
        """Note the energy after a piece of an operator's steps, and stop it where that hardly falls any more."""
        (statistic,) = self.plan.stages[number].work.statistics.values()
        energy = self.energies[number] = statistic.value(tallies[ENERGY])
        before = None if look.before is None else self.energies.get(look.before)
        tolerance = None if look.position in self.stopped else look.tolerance
        if before is not None and tolerance is not None and before - energy < tolerance * abs(before):
            self._stop(number, look)
        return {ENERGY: energy}

    def _stop(self, number: int, look: Look) -> None:
        """Skip what is left of an operator; the stage that ends it reads what there is now."""
        self.stopped[look.position] = look.steps
        for skipped in range(number + 1, look.closing):
            self.frontier.skip(skipped)
        self._hand_on(number, look.closing)

    def _step(self, number: int, stage: Stage, work: Adapt, tallies: Mapping[str, Tally]) -> dict[str, float]:
        """Choose the next steps, and let the stage begin again with them until its time is reached."""
        (statistic,) = work.statistics.values()
        error = statistic.value(tallies[ERROR])
        control = work.control.after(error)
        self.history[number].append(control)
        if control.finished:
            self._hand_on(number, number + 1, work)
        else:
            self._changed[number] = replace(stage, work=work.following(control))
            self._replaced.setdefault(number, []).append(work.target)
            self.frontier.forget(number)
        return {ERROR: error, "step": work.control.tau, "time": float(control.done)}

    def _hand_on(self, number: int, closing: int, work: Work | None = None) -> None:
        """Let a stage that only ends an operator read what another one has written."""
        made, end = work or self.plan.stages[number].work, self.plan.stages[closing]
        assert isinstance(end.work, Evolve)
        assert made.writes is not None
        inputs = end.work.inputs.moved(made.writes, made.carries)
        after = (number, *(i for i in end.after if i not in range(number, closing)))
        self._changed[closing] = replace(end, work=replace(end.work, inputs=inputs), after=after)
