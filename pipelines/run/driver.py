"""Carry out a plan: hand out tiles, remember what is done, bind statistics, put the target in its place."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import distributed

from pipelines.events import (
    Connected,
    Exporting,
    Listener,
    RunFinished,
    RunStarted,
    StageDone,
    StageStarted,
    TileDone,
    TileFailed,
    tell,
)
from pipelines.image.open_sink import open_sink
from pipelines.image.window import Grid, format_region
from pipelines.kinds.evolve import Evolve
from pipelines.kinds.join import Components, write_kept
from pipelines.kinds.measure import Measure
from pipelines.plan.plan import Output, Plan, Stage
from pipelines.run.journal import Entry
from pipelines.run.report import Place, Record, make_report
from pipelines.run.workdir import Workdir
from pipelines.spec.spec import Spec
from pipelines.store.addresses import is_address, is_remote, is_taken, remove
from pipelines.store.arrays import Layout, create_array
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.work import Outcome, Work, merge_tallies
from pipelines.tasks.workers import connect

STATE_CHUNK = 512
"""Side of a chunk of a state, where it divides the tile: haloed windows then read 1.3 to 1.6 bytes per byte kept."""


def perform(work: Work, grid: Grid, tile: int) -> Outcome:
    """Do a tile; the function that tasks call."""
    return work.perform(grid, tile)


class Runner(Record):
    """One execution of a plan, in the driver."""

    def __init__(self, spec: Spec, plan: Plan, workdir: Workdir, listeners: Sequence[Listener]) -> None:
        super().__init__(spec, plan)
        self.workdir, self.listeners = workdir, listeners
        self.sinks = [open_sink(output.spec, output.info) for output in plan.outputs]
        self.flying: dict[Any, Place] = {}

    def run(self) -> dict[str, Any]:
        """Run until nothing is left or nothing can go on, and return the report's data."""
        start, clock = datetime.now(UTC), time.perf_counter()
        self._recall()
        resumed = self.plan.tiles - self.frontier.left
        tell(self.listeners, RunStarted(self.spec.sink.uri, self.plan.summary(), self.plan.tiles, resumed))
        try:
            with self.memory:
                if self.frontier.left and not self.workdir.placed:
                    self._hand_out()
                if not self.frontier.left:
                    self._finish()
        except ValueError:
            # A statistic that cannot be used is the user's to settle, and until then nothing has been computed.
            if not any(
                isinstance(s.work, Evolve) and d.any()
                for s, d in zip(self.plan.stages, self.frontier.done, strict=True)
            ):
                self.workdir.clear()
            raise
        finally:
            self.workdir.journal.close()
        report = make_report(self, start, time.perf_counter() - clock, resumed)
        self.workdir.write("report.json", report)
        tell(self.listeners, RunFinished(report))
        return report

    # ---- what is known from before

    def _recall(self) -> None:
        """Take up the journal, and what follows from it."""
        for entry in self.workdir.journal.entries():
            # What is decided after a stage says what the entries behind it mean.
            if self._note(entry):
                self._decide(entry.stage)
        if not self.workdir.placed:
            self._check_arrays()
        for number, stage in enumerate(self.plan.stages):
            if self.frontier.complete(number):
                self._conclude(number, stage, {})

    def _check_arrays(self) -> None:
        """Forget tiles whose array is gone while somebody still needs it."""
        if self.workdir.machine_restarted():
            self._recheck()
        for number in reversed(range(len(self.plan.stages))):
            readers = [i for i in range(len(self.plan.stages)) if number in self._stage(i).after]
            needed = not readers or not all(self.frontier.complete(i) for i in readers)
            if needed and number not in self.frontier.skipped and not self._written(number):
                self._forget(number)

    def _recheck(self) -> None:
        """Read what the journal says is done, and forget what is not there: a machine that stopped may have lost it.

        A killed process loses nothing that it wrote; a power cut takes what was still on its way to the disk.
        """
        for entry in self.workdir.journal.entries():
            stage = self._stage(entry.stage)
            if entry.round != self.decisions.round(entry.stage) or not self._written(entry.stage):
                continue
            try:
                good = stage.work.stored_checksum(stage.grid.region(entry.tile)) == entry.crc
            except Exception:  # any codec's error means a chunk that is not whole
                good = False
            if not good:
                self._forget(entry.stage, entry.tile)

    def _forget(self, number: int, tile: int | None = None) -> None:
        """Take a tile as not done; what tiles have told cannot be taken back one by one."""
        told = bool(self.plan.stages[number].work.statistics)
        self.frontier.forget(number, None if told else tile)
        self.tallies.pop(number, None)

    def _written(self, number: int) -> bool:
        return all(target.exists for target in _targets(self._stage(number).work))

    def _note(self, entry: Entry) -> bool:
        """Remember a finished tile and return whether its stage is complete now."""
        if entry.round != self.decisions.round(entry.stage):
            return False
        work = self.plan.stages[entry.stage].work
        new = entry.tallies and not self.frontier.done[entry.stage][entry.tile]
        if new and work.collects:
            self.told.setdefault(entry.stage, []).extend(entry.tallies.values())
        elif new:
            merge_tallies(work.statistics, self.tallies.setdefault(entry.stage, {}), entry.tallies)
        return self.frontier.mark(entry.stage, entry.tile)

    # ---- arrays

    def _create(self) -> None:
        """Lay out the results; a crash in the middle leaves only a temporary folder."""
        for sink, output in zip(self.sinks, self.plan.outputs, strict=True):
            folder = self.workdir.path / output.folder
            if not folder.exists():
                temporary = self.workdir.path / "result.tmp"
                shutil.rmtree(temporary, ignore_errors=True)
                sink.create(str(temporary), output.info, output.levels)
                os.replace(temporary, folder)

    def _create_state(self, stage: Stage) -> None:
        """Lay out what a stage writes, where it is not part of the result."""
        for target in _targets(stage.work):
            if target.exists:
                continue
            shutil.rmtree(Path(target.root, target.path), ignore_errors=True)
            shape, tile = stage.grid.shape, stage.grid.tile
            carried = stage.work.carries
            if carried is not None and target == carried.pixels:
                shape, tile = carried.shape(shape), carried.shape(tile)
            chunks = tuple(_state_chunk(t, n) for t, n in zip(tile, shape, strict=True))
            create_array(
                target.root,
                target.path,
                shape,
                stage.work.dtype,
                Layout(chunks),
                axes=target.axes,
                compression="none",
            )

    # ---- handing out

    def _hand_out(self) -> None:
        """Keep a bounded number of tiles in flight until none is left or none can go on."""
        cluster = self.spec.run.cluster
        with connect(cluster, self.plan.threads, self.spec.run.dashboard) as workers:
            client, self.dashboard = workers.client, workers.dashboard
            self.workdir.write("workers.json", {"cluster": cluster, "dashboard": self.dashboard})
            tell(self.listeners, Connected(cluster, self.dashboard))
            self._create()
            # Our own workers have as many threads as the plan allows; on a foreign cluster what is in
            # flight is the bound.
            self._ahead = self.plan.threads if is_address(cluster) else 2 * self.plan.threads
            finished = distributed.as_completed()
            self._top_up(client, finished)
            for future in finished:
                self._take(future)
                self._top_up(client, finished)

    def _top_up(self, client: distributed.Client, finished: distributed.as_completed) -> None:
        while len(self.flying) < self._ahead and not self.full:
            place = self.frontier.next()
            if place is None:
                return
            number, tile = place
            stage = self._stage(number)
            self._begin(number, stage)
            turn = f"{self.decisions.round(number)}-{self.tries.get(place, 0)}"
            key = f"diffuse-{self.plan.digest}-{number}-{tile}-{turn}"
            work = stage.work.bind(self.bound)
            future = client.submit(perform, work, stage.grid, tile, key=key, pure=False)
            self.flying[future.key] = place
            finished.add(future)

    def _begin(self, number: int, stage: Stage) -> None:
        if number not in self.began or not self._written(number):
            self.began.setdefault(number, time.perf_counter())
            self._create_state(stage)
            tell(self.listeners, StageStarted(number, stage.title, len(stage.grid)))

    def _stage(self, number: int) -> Stage:
        """Return a stage as it is now."""
        return self.decisions.stage(number)

    def _decide(self, number: int) -> dict[str, float]:
        """Let what a complete stage told decide how the run goes on; a stage that begins again has told nothing."""
        values = self.decisions.conclude(number, self.tallies.get(number, {}))
        if not self.frontier.complete(number):
            self.tallies.pop(number, None)
        return values

    def _check_bound(self, position: int) -> None:
        """Let an operator refuse a number now, in the driver, rather than in every task."""
        for stage in self.plan.stages:
            if isinstance(stage.work, Evolve) and position in stage.work.positions:
                stage.work.bind(self.bound)
                return

    # ---- taking back

    def _take(self, future: distributed.Future[Outcome]) -> None:
        place = self.flying.pop(future.key)
        if future.status != "finished":
            self._retry(place, future.exception())
            return
        outcome: Outcome = future.result()
        number, tile = place
        stage = self.plan.stages[number]
        turn = self.decisions.round(number)
        entry = Entry(number, tile, outcome.crc, dict(outcome.tallies), turn)
        self.workdir.journal.append(entry)
        self.workers[outcome.process] = max(outcome.memory_bytes, self.workers.get(outcome.process, 0))
        complete = self._note(entry)
        steps = stage.cost.cell_steps // max(1, len(stage.grid))
        tell(
            self.listeners,
            TileDone(
                number,
                tile,
                outcome.read_bytes,
                outcome.written_bytes,
                outcome.seconds,
                steps,
                self.memory.now,
            ),
        )
        if complete:
            self._conclude(number, stage, self._decide(number))

    def _retry(self, place: Place, error: BaseException | None) -> None:
        number, tile = place
        self.tries[place] = self.tries.get(place, 0) + 1
        if _is_disk_full(error):
            self.full = (
                f"No space is left for {self.workdir.path}. Free some and run the same command again; "
                "finished tiles are kept."
            )
        left = 0 if self.full else max(0, self.spec.run.retries + 1 - self.tries[place])
        region = format_region(self.plan.stages[number].grid.region(tile), self.plan.frames.axes)
        tell(self.listeners, TileFailed(number, tile, region, _describe(error), left))
        if left:
            self.frontier.again(number, tile)
        else:
            self.failed[place] = _describe(error)

    def _conclude(self, number: int, stage: Stage, values: dict[str, float]) -> None:
        """Reduce what a complete stage measured, and drop the state that only it has read."""
        if isinstance(stage.work, Measure):
            values = {name: s.value(self.tallies[number][name]) for name, s in stage.work.statistics.items()}
            self.bound[stage.work.position] = values
            self._check_bound(stage.work.position)
        if isinstance(stage.work, Components) and not Path(stage.work.kept).exists():
            write_kept(stage.work.kept, self.told[number], stage.work.frames)
        if number in self.began:
            self.seconds[number] = time.perf_counter() - self.began[number]
            tell(self.listeners, StageDone(number, stage.title, self.seconds[number], values))
        self._drop_states()

    def _drop_states(self) -> None:
        results = {str(self.workdir.path / output.folder) for output in self.plan.outputs}
        for number in range(len(self.plan.stages)):
            made = _targets(self._stage(number).work) if self.frontier.complete(number) else []
            for target in (*made, *self.decisions.replaced(number)):
                if target.root in results or not target.exists:
                    continue
                if all(self.frontier.complete(i) for i in self._readers(target)):
                    shutil.rmtree(Path(target.root, target.path), ignore_errors=True)

    def _readers(self, target: ZarrPixels) -> list[int]:
        """Return the stages that read an array, be it to give pixels back."""
        return [i for i in range(len(self.plan.stages)) if target in self._stage(i).work.sources]

    # ---- the end

    def _finish(self) -> None:
        """Put the results in their places, the main one last; what was there before goes only when all are made."""
        memory = max(64 << 20, self.plan.memory_limit // 4)
        if not self.workdir.placed:
            for output in self.plan.outputs:
                self._move_aside(output)
            self.workdir.place()
        for sink, output in reversed(list(zip(self.sinks, self.plan.outputs, strict=True))):
            if not is_taken(output.spec.uri):
                tell(self.listeners, Exporting(output.spec.uri))
                folder = str(self.workdir.path / output.folder)
                sink.finish(folder, output.info, output.levels, output.spec.uri, memory)
        for name in ("replaced", "state", "copy", "joined", *(output.folder for output in self.plan.outputs)):
            self.workdir.drop(name)

    def _move_aside(self, output: Output) -> None:
        target = output.spec.uri
        if not is_taken(target):
            return
        if is_remote(target):
            remove(target)
        else:
            aside = self.workdir.path / "replaced" / output.folder
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            shutil.move(target, aside)


def _targets(work: Work) -> list[ZarrPixels]:
    """Return the arrays that a work writes."""
    beside = [] if work.carries is None else [work.carries.pixels]
    return beside if work.writes is None else [work.writes, *beside]


def _state_chunk(tile: int, length: int) -> int:
    """Return a chunk that divides the tile, about STATE_CHUNK long."""
    if tile >= length:
        return min(tile, STATE_CHUNK)
    pieces = range(max(1, tile // (2 * STATE_CHUNK)), tile + 1)
    return next(tile // n for n in pieces if tile % n == 0 and tile // n <= 2 * STATE_CHUNK)


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _describe(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
