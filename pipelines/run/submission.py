"""Give tiles to workers, a bounded number at a time, and take back what became of them."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Iterator, Sequence
from typing import Any

import distributed

from pipelines.image.window import Grid
from pipelines.record.ready_tiles import TileId
from pipelines.tasks.admission.admission import GONE, Admission
from pipelines.tasks.fence import Fence
from pipelines.tasks.group import Failure, Task, perform_group
from pipelines.tasks.kernels import stage_name
from pipelines.tasks.values import Outcome
from pipelines.tasks.workers import ClusterError

GROUP_SECONDS = 0.25
"""Time that a group of small tiles is to take: Dask takes some milliseconds for a task, whatever it does."""

GROUP_TILES = 64
"""Most tiles of a group, as small ones may take less time than was thought."""

TICK_SECONDS = 1.0
"""Time after which a run that hears nothing looks at its workers."""

RESULT_SECONDS = 5.0
"""Time after which a run that waits for the outcomes of a finished task looks at its workers."""


class Submission:
    """Tiles at the workers.

    Parameters
    ----------
    client : distributed.Client
    admission : Admission
        Says which workers may have tasks.
    name : str
        Begins the key of every task: Dask takes two tasks of one key for the same.
    digest : str
        Digest of the plan.
    ahead : int
        Number of tasks that may be at the workers at a time; each has one tile in memory.
    fence : Fence
        Keeps tasks from writing once another process has taken over the run.
    """

    def __init__(
        self,
        client: distributed.Client,
        admission: Admission,
        name: str,
        digest: str,
        ahead: int,
        fence: Fence,
    ) -> None:
        self._client, self._admission, self._ahead, self._fence = client, admission, ahead, fence
        self._name, self._digest = name, digest
        self._count = itertools.count()
        self._finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._in_flight: dict[Any, list[TileId]] = {}
        self._seconds: dict[int, float] = {}

    @property
    def room(self) -> int:
        """Number of groups that may be given now."""
        return self._ahead - len(self._in_flight)

    def group_size(self, stage: int, expected: float, left: int) -> int:
        """Return how many tiles of a stage make a group.

        Parameters
        ----------
        stage : int
        expected : float
            Seconds for one tile, as planned; what was measured of the stage counts more.
        left : int
            Number of tiles of the stage that are not done: the last ones are shared out among all workers.
        """
        seconds = self._seconds.get(stage, expected)
        most = GROUP_TILES if seconds <= 0 else min(GROUP_TILES, int(GROUP_SECONDS / seconds))
        return max(1, min(most, left // (2 * self._ahead)))

    def give(self, tiles: Sequence[TileId], work: Task, grid: Grid) -> None:
        """Give a group of tiles of one stage to the workers, who do one after another."""
        stage, numbers = tiles[0][0], [tile for _, tile in tiles]
        key = f"{self._name}-{stage}-{numbers[0]}-{next(self._count)}"
        future = self._client.submit(
            perform_group,
            self._admission.proof,
            self._fence,
            stage_name(self._digest, stage),
            work,
            grid,
            numbers,
            key=key,
            pure=False,
            resources={self._admission.resource: 1},
        )
        self._in_flight[key] = list(tiles)
        future.add_done_callback(self._finished.put)

    def outcomes(self) -> Iterator[list[tuple[TileId, Outcome | Failure]]]:
        """Yield groups as they come back, each tile with its outcome or its error, until none is out.

        A group without tiles is one second in which none has come back.

        Raises
        ------
        ClusterError
            Where the scheduler is gone, or there has been no worker for a while.
        """
        while self._in_flight:
            try:
                future = self._finished.get(timeout=TICK_SECONDS)
            except queue.Empty:
                self._admission.attend()
                yield []
                continue
            self._admission.heard()
            tiles = self._in_flight.pop(future.key)
            outcomes = self._outcomes(future, len(tiles))
            self._measure(tiles[0][0], outcomes)
            yield list(zip(tiles, outcomes, strict=True))
            self._admission.attend()

    def _measure(self, stage: int, outcomes: Sequence[Outcome | Failure]) -> None:
        """Note how long the tiles of a stage take, the latest ones above all: the first may have compiled."""
        taken = [outcome.seconds for outcome in outcomes if isinstance(outcome, Outcome)]
        if taken:
            now = sum(taken) / len(taken)
            self._seconds[stage] = (self._seconds.get(stage, now) + now) / 2

    def _outcomes(self, future: distributed.Future[Any], count: int) -> list[Outcome | Failure]:
        if future.status == "cancelled":
            raise ClusterError(GONE)
        try:
            return self._result(future)
        except distributed.KilledWorker as error:
            return [Failure(_killed(error))] * count
        except ClusterError:
            raise
        except Exception as error:
            if self._client.status != "running":
                raise ClusterError(GONE) from None
            return [Failure.of(error)] * count

    def _result(self, future: distributed.Future[Any]) -> list[Outcome | Failure]:
        """Return what a task has returned; a worker that is lost meanwhile lets it be done again."""
        while True:
            try:
                found: list[Outcome | Failure] = future.result(timeout=RESULT_SECONDS)
            except TimeoutError:
                self._admission.attend()
            else:
                return found


def _killed(error: distributed.KilledWorker) -> str:
    """Return what the death of several workers at one task means."""
    limit = getattr(error.last_worker, "memory_limit", 0)
    stated = f" of {limit / (1 << 20):.0f} MiB" if limit else ""
    return (
        f"{error.allowed_failures + 1} worker processes died at it, at last {error.last_worker.address}. Perhaps "
        f"each has gone beyond its memory limit{stated}: give it more (--memory-limit of `dask worker`), or "
        "allow the run less (run.memory, run.tile)."
    )
