"""Carry out a plan: hand out tiles, remember what is done, bind statistics, put the target in its place."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import distributed
import fsspec

from diffusion_ops.advance import Leg
from diffusion_ops.statistic import Tally
from pipelines.cluster import connect
from pipelines.frontier import Frontier
from pipelines.journal import Entry
from pipelines.kinds.evolve import Evolve
from pipelines.kinds.measure import Measure
from pipelines.listener import (
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
from pipelines.memory import PeakMemory
from pipelines.open_sink import open_sink
from pipelines.pixels import ZarrPixels
from pipelines.places import target_exists
from pipelines.plan import Plan, Stage
from pipelines.spec import Spec
from pipelines.version import code_version
from pipelines.window import Grid, format_region
from pipelines.work import Outcome, Work, checksum
from pipelines.workdir import Workdir
from pipelines.zarr_arrays import Layout, create_array

STATE_CHUNK = 512
"""Side of a chunk of a state, where it divides the tile: haloed windows then read 1.3 to 1.6 bytes per byte kept."""

Place = tuple[int, int]
"""(stage, tile)."""


def perform(work: Work, grid: Grid, tile: int) -> Outcome:
    """Do a tile; the function that tasks call."""
    return work.perform(grid, tile)


class Runner:
    """One execution of a plan, in the driver."""

    def __init__(self, spec: Spec, plan: Plan, workdir: Workdir, listeners: Sequence[Listener]) -> None:
        self.spec, self.plan, self.workdir, self.listeners = spec, plan, workdir, listeners
        self.sink = open_sink(spec.sink, plan.result)
        self.frontier = Frontier(plan.stages)
        self.tallies: dict[int, dict[str, Tally]] = {}
        self.bound: dict[int, dict[str, float]] = {}
        self.flying: dict[Any, Place] = {}
        self.tries: dict[Place, int] = {}
        self.failed: dict[Place, str] = {}
        self.began: dict[int, float] = {}
        self.seconds: dict[int, float] = {}
        self.workers: dict[int, int] = {}
        self.memory = PeakMemory()
        self.full = ""

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
        report = self._report(start, time.perf_counter() - clock, resumed)
        self.workdir.write("report.json", report)
        tell(self.listeners, RunFinished(report))
        return report

    # ---- what is known from before

    def _recall(self) -> None:
        """Take up the journal; tiles whose array is gone count only where nobody needs it any more."""
        for entry in self.workdir.journal.entries():
            self._note(entry)
        if self.workdir.placed:
            return
        if self.workdir.machine_restarted():
            self._recheck()
        for number in reversed(range(len(self.plan.stages))):
            readers = [i for i, stage in enumerate(self.plan.stages) if stage.after == number]
            needed = not readers or not all(self.frontier.complete(i) for i in readers)
            if needed and not self._written(number):
                self.frontier.forget(number)
        for number, stage in enumerate(self.plan.stages):
            if self.frontier.complete(number):
                self._conclude(number, stage)

    def _recheck(self) -> None:
        """Read what the journal says is done, and forget what is not there: a machine that stopped may have lost it.

        A killed process loses nothing that it wrote; a power cut takes what was still on its way to the disk.
        """
        for entry in self.workdir.journal.entries():
            target = self.plan.stages[entry.stage].work.writes
            if target is None or not self._written(entry.stage):
                continue
            region = self.plan.stages[entry.stage].grid.region(entry.tile)
            try:
                good = checksum(target.read(region)) == entry.crc
            except Exception:  # any codec's error means a chunk that is not whole
                good = False
            if not good:
                self.frontier.forget(entry.stage, entry.tile)

    def _written(self, number: int) -> bool:
        target = self.plan.stages[number].work.writes
        return target is None or Path(target.root, target.path, "zarr.json").exists()

    def _note(self, entry: Entry) -> bool:
        """Remember a finished tile and return whether its stage is complete now."""
        work = self.plan.stages[entry.stage].work
        if isinstance(work, Measure) and not self.frontier.done[entry.stage][entry.tile]:
            work.add(self.tallies.setdefault(entry.stage, {}), entry.tallies)
        return self.frontier.mark(entry.stage, entry.tile)

    # ---- arrays

    def _create(self) -> None:
        """Lay out the result; a crash in the middle leaves only a temporary folder."""
        if not self.workdir.result.exists():
            temporary = self.workdir.path / "result.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            self.sink.create(str(temporary), self.plan.result, self.plan.levels)
            os.replace(temporary, self.workdir.result)

    def _create_state(self, stage: Stage) -> None:
        """Lay out what a stage writes, where it is not part of the result."""
        target = stage.work.writes
        if target is None or Path(target.root, target.path, "zarr.json").exists():
            return
        shutil.rmtree(Path(target.root, target.path), ignore_errors=True)
        dtype = stage.work.dtype if isinstance(stage.work, Evolve) else stage.work.read_dtype
        chunks = tuple(_state_chunk(t, n) for t, n in zip(stage.grid.tile, stage.grid.shape, strict=True))
        create_array(
            target.root,
            target.path,
            stage.grid.shape,
            dtype,
            Layout(chunks),
            axes=target.axes,
            compression="none",
        )

    # ---- handing out

    def _hand_out(self) -> None:
        """Keep a bounded number of tiles in flight until none is left or none can go on."""
        cluster = self.spec.run.cluster
        with connect(cluster, self.plan.threads) as client:
            self._create()
            # Our own workers have as many threads as the plan allows; on a foreign cluster what is in
            # flight is the bound.
            self._ahead = self.plan.threads if "://" in cluster else 2 * self.plan.threads
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
            stage = self.plan.stages[number]
            self._begin(number, stage)
            key = f"diffuse-{self.plan.digest}-{number}-{tile}-{self.tries.get(place, 0)}"
            future = client.submit(perform, self._bound_work(stage), stage.grid, tile, key=key, pure=False)
            self.flying[future.key] = place
            finished.add(future)

    def _begin(self, number: int, stage: Stage) -> None:
        if number not in self.began:
            self.began[number] = time.perf_counter()
            self._create_state(stage)
            tell(self.listeners, StageStarted(number, stage.title, len(stage.grid)))

    def _bound_work(self, stage: Stage) -> Work:
        """Return the stage's work with statistics bound into its operators."""
        work = stage.work
        if not isinstance(work, Evolve):
            return work
        legs = tuple(
            Leg(leg.operator.bind(self.bound.get(position, {})), leg.cycles)
            for leg, position in zip(work.legs, stage.legs, strict=True)
        )
        return replace(work, legs=legs)

    def _check_bound(self, position: int) -> None:
        """Let an operator refuse a number now, in the driver, rather than in every task."""
        for stage in self.plan.stages:
            if position in stage.legs and isinstance(stage.work, Evolve):
                self._bound_work(stage)
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
        entry = Entry(number, tile, outcome.crc, dict(outcome.tallies))
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
            self._conclude(number, stage)

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

    def _conclude(self, number: int, stage: Stage) -> None:
        """Reduce what a complete stage measured, and drop the state that only it has read."""
        values: dict[str, float] = {}
        if isinstance(stage.work, Measure):
            values = {name: s.value(self.tallies[number][name]) for name, s in stage.work.statistics.items()}
            self.bound[stage.legs[0]] = values
            self._check_bound(stage.legs[0])
        if number in self.began:
            self.seconds[number] = time.perf_counter() - self.began[number]
            tell(self.listeners, StageDone(number, stage.title, self.seconds[number], values))
        self._drop_states()

    def _drop_states(self) -> None:
        for number, stage in enumerate(self.plan.stages):
            target = stage.work.writes
            if target is None or Path(target.root) == self.workdir.result or not self._written(number):
                continue
            if all(self.frontier.complete(i) for i in self._readers(number, target)):
                shutil.rmtree(Path(target.root, target.path), ignore_errors=True)

    def _readers(self, number: int, target: ZarrPixels) -> list[int]:
        """Return the stages that read an array, be it to give pixels back."""
        works = enumerate(self.plan.stages)
        return [i for i, s in works if s.work.reads == target or getattr(s.work, "original", None) == target]

    # ---- the end

    def _finish(self) -> None:
        """Put the result in its place, in one step; what was there before goes only when the new one stands."""
        target = self.spec.sink.uri
        if not self.workdir.placed:
            tell(self.listeners, Exporting(target))
            self._move_aside(target)
            self.workdir.place()
        elif target_exists(target):
            return
        memory = max(64 << 20, self.plan.memory_limit // 4)
        self.sink.finish(str(self.workdir.result), self.plan.result, self.plan.levels, target, memory)
        for name in ("result", "replaced", "state", "copy"):
            self.workdir.drop(name)

    def _move_aside(self, target: str) -> None:
        if not target_exists(target):
            return
        if "://" in target:
            filesystem, path = fsspec.url_to_fs(target)
            filesystem.rm(path, recursive=True)
        else:
            shutil.rmtree(self.workdir.path / "replaced", ignore_errors=True)
            shutil.move(target, self.workdir.path / "replaced")

    def _report(self, start: datetime, seconds: float, resumed: int) -> dict[str, Any]:
        complete = not self.frontier.left
        predicted = self.plan.memory_total
        return {
            "complete": complete,
            "target": self.spec.sink.uri,
            "science": self.plan.science,
            "digest": self.plan.digest,
            "code": code_version(),
            "machine": {"system": platform.platform(), "python": platform.python_version()},
            "started": start.isoformat(timespec="seconds"),
            "seconds": seconds,
            "tiles": self.plan.tiles,
            "tiles_done": self.plan.tiles - self.frontier.left,
            "tiles_resumed": resumed,
            "retries": sum(self.tries.values()),
            "problem": self.full,
            "failed": [self._failure(place, error) for place, error in self.failed.items()],
            "statistics": [
                {
                    "title": self.plan.stages[number].title,
                    "position": self.plan.stages[number].legs[0],
                    "values": self.bound[self.plan.stages[number].legs[0]],
                }
                for number in sorted(self.tallies)
                if self.frontier.complete(number)
            ],
            "memory": {
                "predicted": predicted,
                "measured": self.memory.peak,
                "limit": self.plan.memory_limit,
                "workers": {str(process): peak for process, peak in self.workers.items()},
            },
            "stages": [
                {"title": stage.title, "tiles": len(stage.grid), "seconds": self.seconds.get(number)}
                for number, stage in enumerate(self.plan.stages)
            ],
            "spec": self.spec.model_dump(mode="json"),
            "plan": self.plan.summary(),
        }

    def _failure(self, place: Place, error: str) -> dict[str, Any]:
        stage = self.plan.stages[place[0]]
        region = format_region(stage.grid.region(place[1]), self.plan.frames.axes)
        return {"stage": stage.title, "tile": place[1], "region": region, "error": error}


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
