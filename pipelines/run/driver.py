"""Resume from the journal, submit tiles to workers, journal their outcomes, and act on what stages conclude."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pipelines.events import (
    Connected,
    Listener,
    RunFinished,
    RunStarted,
    StageDone,
    StageStarted,
    TileDone,
    TileFailed,
    tell,
)
from pipelines.image.window import format_region
from pipelines.plan.plan import Plan, Stage
from pipelines.run.arrays import RunArrays
from pipelines.run.journal import Event, Finished, Forgotten
from pipelines.run.ready_tiles import TileId
from pipelines.run.report import Measured, make_report
from pipelines.run.state import RunState
from pipelines.run.submission import Submission
from pipelines.run.workdir import Workdir
from pipelines.spec.spec import Spec
from pipelines.store.addresses import is_address
from pipelines.tasks.admission import Admission
from pipelines.tasks.group import Failure
from pipelines.tasks.values import Outcome
from pipelines.tasks.work import Conclusion
from pipelines.tasks.workers import ClusterError, Workers, cluster_kind, connect


class UnusableStatisticError(ValueError):
    """A value of a statistic that an operator refuses; the user has to change the spec."""


class Driver:
    """One execution of a plan; `RunState` makes its decisions.

    Parameters
    ----------
    spec : Spec
    plan : Plan
    workdir : Workdir
    listeners : sequence of Listener
    tuning : sequence of dict
        Choices that were made before the plan, for the report.
    """

    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        workdir: Workdir,
        listeners: Sequence[Listener],
        tuning: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.spec, self.plan, self.workdir, self.listeners = spec, plan, workdir, listeners
        self.tuning = tuning
        self.state = RunState(plan.stages, spec.run.retries)
        self.arrays = RunArrays(plan, workdir)
        self.measured = Measured()

    def run(self) -> dict[str, Any]:
        """Run until no tile is left or none can start, and return the report's data.

        Raises
        ------
        UnusableStatisticError
            For a value of a statistic that an operator refuses.
        """
        start, clock = datetime.now(UTC), time.perf_counter()
        self._resume()
        resumed = self.plan.tiles - self.state.tiles.left
        tell(self.listeners, RunStarted(self.spec.sink.uri, self.plan.summary(), self.plan.tiles, resumed))
        try:
            with self.measured.memory:
                if self.state.tiles.left and not self.workdir.publishing:
                    self._hand_out()
                if not self.state.tiles.left:
                    self.arrays.publish(self.listeners)
        except UnusableStatisticError:
            if not self._has_written():
                self.workdir.clear()
            raise
        finally:
            self.workdir.journal.close()
        self.measured.end(start, time.perf_counter() - clock, resumed)
        report = make_report(self.spec, self.plan, self.state, self.measured, self.tuning)
        self.workdir.write("report.json", report)
        tell(self.listeners, RunFinished(report))
        return report

    def _has_written(self) -> bool:
        """Return whether a finished tile has written pixels, not only tallies."""
        stages = enumerate(self.state.stages)
        return any(self.state.tiles.begun(n) and stage.work.writes is not None for n, stage in stages)

    # ---- resume

    def _resume(self) -> None:
        """Restore the state from the journal, forget tiles whose pixels are lost, and act on all conclusions."""
        for event in self.workdir.journal.events():
            self.state.apply(event)
        if not self.workdir.publishing:
            self._check_arrays()
        for conclusion in list(self.state.conclusions.values()):
            self._act_on(conclusion)
        self.arrays.drop(self.state)

    def _check_arrays(self) -> None:
        """Forget tiles whose array is gone although a stage still reads it."""
        state = self.state
        if self.workdir.machine_restarted():
            self._compare_with_journal()
        for number in reversed(range(len(state.stages))):
            stage = state.stages[number]
            readers = [i for i, other in enumerate(state.stages) if number in other.after]
            needed = not readers or not all(state.tiles.complete(i) for i in readers)
            lost = needed and state.tiles.begun(number) and not self.arrays.written(stage)
            if number not in state.tiles.skipped and (lost or self.arrays.lacks_round(state, number)):
                self._note(Forgotten(number))

    def _compare_with_journal(self) -> None:
        """Read the finished tiles and forget those that differ from the journal.

        A killed process loses nothing that it wrote; a machine that stops loses what it has not yet written to the
        disk.
        """
        for event in list(self.workdir.journal.events()):
            if not isinstance(event, Finished):
                continue
            stage = self.state.stages[event.stage]
            current = event.round == self.state.rounds[event.stage]
            if not current or not self.state.tiles.done[event.stage][event.tile]:
                continue
            if stage.work.visits_again:
                self._note(Forgotten(event.stage))
            elif self.arrays.written(stage) and not self._is_whole(stage, event):
                self._note(Forgotten(event.stage, event.tile))

    @staticmethod
    def _is_whole(stage: Stage, event: Finished) -> bool:
        try:
            return stage.work.stored_checksum(stage.grid.region(event.tile)) == event.crc
        except Exception:  # any codec's error means a chunk that is not whole
            return False

    def _note(self, event: Event) -> Conclusion | None:
        """Append an event to the journal, then apply it to the state."""
        self.workdir.journal.append(event)
        return self.state.apply(event)

    # ---- submit tiles

    def _hand_out(self) -> None:
        """Connect to workers, and give them tiles.

        Raises
        ------
        ClusterError
            Where there are none and no tile was done yet; later that is the run's problem, and the run goes on another
            time.
        """
        cluster = self.spec.run.cluster
        with connect(cluster, self.plan.threads, self.spec.run.dashboard) as workers:
            self.measured.dashboard = workers.dashboard
            self.workdir.write("workers.json", {"cluster": cluster, "dashboard": workers.dashboard})
            tell(self.listeners, Connected(cluster, workers.dashboard))
            try:
                self._give_and_take(workers)
            except ClusterError as error:
                if not self.measured.began and self.state.tiles.left == self.plan.tiles:
                    raise
                self.measured.problem = str(error)

    def _give_and_take(self, workers: Workers) -> None:
        """Keep a bounded number of tiles in flight until none is left or none can start."""
        cluster = self.spec.run.cluster
        threads = self.plan.threads if cluster_kind(cluster).in_process else 1
        with Admission(workers.client, threads, self.listeners).ask() as admission:
            self.measured.left_out = admission.left_out
            admission.wait()
            self.arrays.create_results()
            # Workers of our own have as many threads as the plan allows; on a foreign cluster only the number of
            # tasks in flight bounds the memory.
            ahead = self.plan.threads if is_address(cluster) else 2 * self.plan.threads
            submission = Submission(workers.client, admission, f"diffuse-{self.plan.digest}", ahead)
            self._top_up(submission)
            for group in submission.outcomes():
                for found, outcome in group:
                    if isinstance(outcome, Outcome):
                        self._take(found, outcome)
                    else:
                        self._retry(found, outcome)
                self._top_up(submission)

    def _top_up(self, submission: Submission) -> None:
        while submission.has_room and not self.measured.problem:
            found = self.state.tiles.next()
            if found is None:
                return
            number, tile = found
            stage = self.state.stages[number]
            self._begin(number, stage)
            submission.give(self._group(submission, found), self.state.work(number, tile), stage.grid)

    def _group(self, submission: Submission, first: TileId) -> list[TileId]:
        """Return a tile that is to start with others like it; one that has failed goes alone."""
        number, stage = first[0], self.state.stages[first[0]]
        if self.state.tries.get(first) or stage.work.visits_again:
            return [first]
        expected = stage.cost.seconds / max(1, len(stage.grid))
        size = submission.group_size(number, expected, self.state.tiles.left_of(number))
        return [first, *self.state.tiles.more(number, size - 1)]

    def _begin(self, number: int, stage: Stage) -> None:
        if number not in self.measured.began or not self.arrays.written(stage):
            self.measured.begin(number)
            self.arrays.create(stage)
            tell(self.listeners, StageStarted(number, stage.title, len(stage.grid)))

    # ---- take their outcomes

    def _take(self, found: TileId, outcome: Outcome) -> None:
        number, tile = found
        stage, done_before = self.state.stages[number], self.state.round(number, tile)
        conclusion = self._note(Finished(number, tile, outcome.crc, dict(outcome.tallies), done_before))
        self.measured.take(outcome)
        tell(
            self.listeners,
            TileDone(
                number,
                tile,
                outcome.read_bytes,
                outcome.written_bytes,
                outcome.seconds,
                stage.cost.cell_steps // max(1, len(stage.grid)),
                self.measured.memory.now,
                self.state.tiles.left,
            ),
        )
        if conclusion is not None:
            self._act_on(conclusion)
            self._tell_done(number, stage, conclusion)
            self.arrays.drop(self.state)

    def _act_on(self, conclusion: Conclusion) -> None:
        """Write the files of a conclusion, and let operators refuse its values here rather than in every task."""
        for file in conclusion.files:
            self.arrays.write(file)
        if conclusion.bound:
            for stage in self.state.stages:
                try:
                    stage.work.bind(self.state.bound)
                except ValueError as error:
                    raise UnusableStatisticError(str(error)) from error

    def _tell_done(self, number: int, stage: Stage, conclusion: Conclusion) -> None:
        seconds = self.measured.finish(number)
        tell(self.listeners, StageDone(number, stage.title, seconds, dict(conclusion.values)))

    def _retry(self, found: TileId, failure: Failure) -> None:
        number, tile = found
        if failure.disk_full:
            self.measured.problem = (
                f"No space is left for {self.workdir.path}. Free some and run the same command again; "
                "finished tiles are kept."
            )
        left = self.state.fail(found, failure.error, final=bool(self.measured.problem))
        region = format_region(self.state.stages[number].grid.region(tile), self.plan.frames.axes)
        tell(self.listeners, TileFailed(number, tile, region, failure.error, left))
