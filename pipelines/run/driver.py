"""Resume from the journal, submit tiles to workers, journal their outcomes, and act on what stages conclude."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from diffusion_ops.blocks.statistic import Tally
from pipelines.events import (
    Connected,
    Listener,
    RunFinished,
    RunStarted,
    StageDone,
    StageStarted,
    TileDone,
    TileFailed,
    TileLost,
    tell,
)
from pipelines.image.open_source import SourceChangedError, require_unchanged
from pipelines.image.window import format_region
from pipelines.plan.plan import Plan
from pipelines.plan.stage import Stage
from pipelines.record.holding import Lease
from pipelines.record.journal import Event, Finished, Forgotten
from pipelines.record.ready_tiles import TileId
from pipelines.record.state import RunState
from pipelines.record.workdir import Workdir
from pipelines.refusal import RefusedError
from pipelines.run.arrays import RunArrays
from pipelines.run.inspection import Group, damaged_tiles, groups, needed_stages
from pipelines.run.publication import Publication
from pipelines.run.report import Measured, make_report
from pipelines.run.submission import Submission
from pipelines.spec.spec import Spec
from pipelines.stopping import Stopping, stop_text
from pipelines.store.listings import Listing
from pipelines.store.upload import TargetTakenError
from pipelines.tasks.admission.admission import Admission
from pipelines.tasks.group import Failure
from pipelines.tasks.process import use_temporary_folder
from pipelines.tasks.values import Outcome
from pipelines.tasks.work import Conclusion
from pipelines.tasks.workers import ClusterError, Wanted, Workers


class NoRoomError(RuntimeError):
    """Tallies that would take more memory than the run may."""


class UnusableStatisticError(RefusedError):
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
    replaced : mapping, optional
        Stamps of the targets that may be replaced, by their address.
    leases : sequence of Lease
        Leases on the targets.
    listing : Listing, optional
        What is stored of the source, for workers in other processes.
    rehearsal : Thread, optional
        Loads the kernels; no tile is read before it ends, as what it takes would come on top.
    stopping : Stopping, optional
        Says when no more tiles are taken.
    """

    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        workdir: Workdir,
        listeners: Sequence[Listener],
        tuning: Sequence[dict[str, Any]] = (),
        replaced: Mapping[str, list[int] | None] | None = None,
        leases: Sequence[Lease] = (),
        listing: Listing | None = None,
        rehearsal: threading.Thread | None = None,
        stopping: Stopping | None = None,
    ) -> None:
        self.spec, self.plan, self.workdir, self.listeners = spec, plan, workdir, listeners
        self.tuning, self.leases, self.listing, self.rehearsal = tuning, leases, listing, rehearsal
        self.state = RunState(plan.stages, spec.run.retries)
        self.arrays = RunArrays(plan, workdir)
        self.publication = Publication(plan, self.arrays.folder, self.arrays.sinks, replaced or {})
        self.measured = Measured()
        self.stopping = stopping or Stopping()

    def run(self, absent_chunks: int | None = None) -> dict[str, Any]:
        """Run until no tile is left or none can start, publish the results, and return the report's data.

        Parameters
        ----------
        absent_chunks : int or None
            Number of chunks that the source does not have, for the report.

        Raises
        ------
        UnusableStatisticError
            For a value of a statistic that an operator refuses.
        """
        start, clock = datetime.now(UTC), time.perf_counter()
        use_temporary_folder(self.workdir.uri)
        taken_over = self._resume()
        resumed = self.plan.tiles - self.state.tiles.left
        tell(self.listeners, RunStarted(self.spec.sink.uri, self.plan.summary(), self.plan.tiles, resumed))
        try:
            with self.measured.memory:
                if self.state.tiles.left or taken_over:
                    self._work(taken_over)
                if not self.state.tiles.left and not self.measured.ended_by:
                    self._publish()
        except UnusableStatisticError:
            if not self._has_written():
                self.workdir.clear()
            raise
        except ClusterError:
            if not self._has_done():
                self.workdir.clear()
            raise
        finally:
            self.workdir.journal.close()
        self.measured.end(start, time.perf_counter() - clock, resumed, absent_chunks)
        report = make_report(self.spec, self.plan, self.state, self.measured, self.tuning)
        self.workdir.write("report.json", report)
        if report["complete"]:
            self.arrays.remove()
        tell(self.listeners, RunFinished(report))
        return report

    def _has_done(self) -> bool:
        """Return whether any tile is finished."""
        return self.state.tiles.left < self.plan.tiles

    def _has_written(self) -> bool:
        """Return whether a finished tile has written pixels, not only tallies."""
        stages = enumerate(self.state.stages)
        return any(self.state.tiles.begun(n) and stage.work.writes is not None for n, stage in stages)

    def _publish(self) -> None:
        """Publish the results, unless the source has changed meanwhile, or something is in the way."""
        try:
            require_unchanged(self.spec.source, self.plan.source.identity)
            for lease in self.leases:
                lease.require()
            self.publication.publish(self.state, self._note, self.listeners)
        except (SourceChangedError, TargetTakenError) as error:
            self.measured.problem = str(error)
        except OSError as error:
            self.measured.problem = (
                f"The result could not be brought to its target ({type(error).__name__}: {error}). It is complete in "
                f"{self.arrays.folder}; run the same command again."
            )

    # ---- resume

    def _resume(self) -> Iterable[Group]:
        """Restore the state from the journal, and return the tiles that are to be compared with it."""
        last = self.state.replay(self.workdir.journal.events())
        self.publication.settle(self.state, self._note)
        needed = needed_stages(self.state, self.plan)
        self.arrays.renew_metadata(self.state.stages[number] for number in sorted(needed))
        needed = self._check_arrays()
        return groups(self.state, needed, last) if needed else ()

    def _check_arrays(self) -> set[int]:
        """Forget tiles whose array is gone although a stage still reads it; return the stages that are needed then."""
        needed = needed_stages(self.state, self.plan)
        # What reads an array comes after it, and may be forgotten first: then the array is needed, too.
        for number in reversed(range(len(self.state.stages))):
            stage = self.state.stages[number]
            lost = number in needed and not self.arrays.written(stage)
            lacking = number not in self.state.tiles.skipped and self.arrays.lacks_round(self.state, number)
            if lost or lacking:
                self._note(Forgotten(number))
                needed = needed_stages(self.state, self.plan)
        return needed

    def _compare(self, taken_over: Iterable[Group], submission: Submission) -> None:
        """Forget the tiles that are not as the journal says: whatever happened to them, they are done again."""
        for number, tile in damaged_tiles(taken_over, submission):
            stage, visits = self.state.stages[number], self.state.tiles.visits(number)
            # A tile of a worklist that waits for another visit has a state, too.
            if self.state.tiles.done[number][tile] if visits is None else visits[tile]:
                region = format_region(stage.grid.region(tile), self.plan.frames.axes)
                tell(self.listeners, TileLost(number, tile, stage.title, region))
                self._note(Forgotten(number, tile))

    def _begin_arrays(self) -> None:
        """Bring the arrays to the state of the run, before the first tile starts."""
        self._check_arrays()
        for conclusion in list(self.state.conclusions.values()):
            self._act_on(conclusion)
        self.arrays.drop(self.state)
        self.arrays.create_results()
        if self.listing is not None and not self.spec.run.cluster.in_process:
            self.arrays.hand_over(self.listing)

    def _note(self, event: Event) -> Conclusion | None:
        """Append an event to the journal, then apply it to the state."""
        self.workdir.journal.append(event)
        conclusion = self.state.apply(event)
        if conclusion is not None or not isinstance(event, Finished):
            # What follows removes, moves or writes over what would be needed if this were not known.
            self.workdir.journal.flush()
        return conclusion

    # ---- submit tiles

    def _work(self, taken_over: Iterable[Group]) -> None:
        """Connect to workers, let them compare what was taken over, and give them tiles.

        Raises
        ------
        ClusterError
            Where there are none and no tile was done yet; later that is the run's problem, and the run goes on another
            time.
        """
        cluster, plan = self.spec.run.cluster, self.plan
        wanted = Wanted(plan.threads, plan.worker_bytes, self.spec.run.dashboard, self.workdir.uri)
        with cluster.connect(wanted) as workers:
            self.measured.dashboard = workers.dashboard
            left = [self.state.tiles.left_of(number) for number in range(len(self.state.stages))]
            told = {"cluster": str(cluster), "dashboard": workers.dashboard, "left": left}
            self.workdir.write("workers.json", told)
            tell(self.listeners, Connected(str(cluster), workers.dashboard))
            try:
                self._give_and_take(workers, taken_over)
            except NoRoomError as error:
                self.measured.problem = str(error)
            except ClusterError as error:
                if not self.measured.began and not self._has_done():
                    raise
                self.measured.problem = str(error)

    def _give_and_take(self, workers: Workers, taken_over: Iterable[Group]) -> None:
        """Keep a bounded number of tiles in flight until none is left or none can start."""
        cluster = self.spec.run.cluster
        threads = self.plan.threads if cluster.in_process else 1
        with Admission(workers, threads, self.listeners).ask() as admission:
            self.measured.left_out = admission.left_out
            if not admission.wait(self.stopping.deadline):
                self._heed_stop()
                return
            # Workers of our own have as many threads as the plan allows; on a foreign cluster only the number of
            # tasks in flight bounds the memory.
            ahead = self.plan.threads if cluster.shared else 2 * self.plan.threads
            fence = self.workdir.new_epoch()
            name = f"diffuse-{self.plan.folder}-{fence.epoch}"
            for number in range(len(self.state.stages)):
                self._require_room(number, {})
            if self.rehearsal is not None:
                self.rehearsal.join()
            digest = self.plan.digest
            check = Submission(workers.client, admission, f"{name}-check", digest, ahead, fence)
            self._compare(taken_over, check)
            self._begin_arrays()
            submission = Submission(workers.client, admission, name, digest, ahead, fence)
            with self.stopping.gently():
                self._work_off(submission)

    def _work_off(self, submission: Submission) -> None:
        """Give tiles and take their outcomes, until none is left, none can start, or the run is to stop."""
        self._top_up(submission)
        for group in submission.outcomes():
            for found, outcome in group:
                if isinstance(outcome, Outcome):
                    self._take(found, outcome)
                else:
                    self._retry(found, outcome)
            self._top_up(submission)
            if self.stopping.is_over:
                return

    def _heed_stop(self) -> None:
        """Take no more tiles where the run is to stop, or somebody has cancelled it; what is at work ends first."""
        reason = self.stopping.heed(lambda: self.workdir.is_to_stop)
        if reason and not self.measured.problem:
            self.measured.ended_by, self.measured.problem = reason, stop_text(reason)

    def _top_up(self, submission: Submission) -> None:
        self._heed_stop()
        while submission.room and not self.measured.problem:
            found = self.state.tiles.next()
            if found is None:
                return
            number, tile = found
            stage = self.state.stages[number]
            self._begin(number, stage)
            self.workdir.journal.settle(number, tile)
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
        self._require_room(number, outcome.tallies)
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

    def _require_room(self, number: int, more: Mapping[str, Tally]) -> None:
        """Stop before the tallies of a tile are merged where memory would go over its limit.

        Raises
        ------
        NoRoomError
        """
        held, limit = self.state.told_bytes(number, more), self.plan.tallies_limit
        if held <= limit:
            return
        left = self.plan.tiles / max(1, self.plan.tiles - self.state.tiles.left)
        enough = self.plan.memory_with(int(held * left), self.spec.run.tasks)
        raise NoRoomError(
            f"There are more regions or holes than the memory holds: the tiles have told {held:,} bytes of them, and "
            f"merging takes several times as many, but {limit:,} fit beside tasks. Run the same command again with "
            f"about --memory {math.ceil(enough / 2**20)}MiB; finished tiles are kept. Or let there be fewer, such as "
            "by smoothing before a threshold, or larger tiles (run.tile), whose sides are shorter in all."
        )

    def _act_on(self, conclusion: Conclusion) -> None:
        """Write the files of a conclusion, and let operators refuse its values here rather than in every task."""
        for file in conclusion.files:
            self.arrays.write(file)
        if conclusion.problem:
            self.measured.problem = conclusion.problem
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
                f"No space is left for {self.workdir.uri}. Free some and run the same command again; "
                "finished tiles are kept."
            )
        elif failure.is_forbidden(self.workdir.uri):
            self.measured.problem = (
                f"{self.workdir.uri} cannot be written any more ({failure.error}). Give the permission back and run "
                "the same command again; finished tiles are kept."
            )
        left = self.state.fail(found, failure.error, final=bool(self.measured.problem))
        region = format_region(self.state.stages[number].grid.region(tile), self.plan.frames.axes)
        tell(self.listeners, TileFailed(number, tile, region, failure.error, left))
