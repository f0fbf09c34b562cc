"""Define the options of clusters that start workers on other machines, and keep as many of them as are wanted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Annotated, Any

import dask
import distributed
from distributed.deploy.spec import ProcessInterface
from pydantic import BeforeValidator, Field, model_validator

from pipelines.tasks.amounts import Memory, Seconds
from pipelines.tasks.encryption import Encrypted
from pipelines.tasks.workers import (
    DASHBOARD_BYTES,
    Cluster,
    ClusterError,
    Wanted,
    Workers,
    own_dashboard,
    quiet_logs,
    steady_settings,
)

BESIDE_BYTES = 64 << 20
"""Memory that a worker is given beside what is predicted: for its shell, and what others count differently."""

LOOK_SECONDS = 10.0
"""Time between two looks for workers that have ended."""

MOST_IN_VAIN = 3
"""Times that all workers may end before any has come."""

MOST_WORKERS = 1 << 16

Lines = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else value,
        json_schema_input_type=str | tuple[str, ...],
    ),
]
"""Lines of text, or one."""


class Sized(Cluster):
    """A cluster whose workers are started for the run, one thread each."""

    workers: int | None = Field(
        default=None,
        gt=0,
        le=MOST_WORKERS,
        description="Worker processes, one task each; run.threads by default.",
    )
    memory: Memory | None = Field(
        default=None,
        description="Memory of a worker, such as 2GiB, which limits its tile; by default what the plan needs.",
    )
    minimum: int | None = Field(
        default=None,
        gt=0,
        le=MOST_WORKERS,
        description="Workers to keep while there is little to do: with it their number follows the work, up to "
        "`workers`.",
    )
    patience: Seconds = Field(
        default=7 * 24 * 3600.0, description="Time to wait for a worker, such as 2h; a week by default."
    )

    @model_validator(mode="after")
    def _at_most_as_many(self) -> Sized:
        if self.minimum is not None and self.workers is not None and self.minimum > self.workers:
            raise ValueError(
                f"the minimum is {self.minimum}, more than the workers, which are {self.workers}."
            )
        return self

    @property
    def most_tasks(self) -> int | None:
        """Number of workers that the options say."""
        return self.workers

    @property
    def worker_bytes(self) -> int | None:
        """Memory of a worker that the options say."""
        return self.memory

    def least_of(self, wanted: Wanted) -> int:
        """Return how many workers there are at least."""
        return min(self.minimum or wanted.tasks, wanted.tasks)

    def memory_of(self, wanted: Wanted) -> int:
        """Return the memory of a worker, with what runs beside it."""
        return (self.memory or wanted.worker_bytes) + BESIDE_BYTES


class Hired(Encrypted, Sized):
    """A cluster whose scheduler is in this process, and whose workers are started one by one."""

    dashboard_bytes = DASHBOARD_BYTES

    interface: str | None = Field(
        default=None,
        min_length=1,
        description="Network interface of scheduler and workers, such as ib0; the machine's usual one by default.",
    )

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Return settings of Dask for the time of the run."""
        return steady_settings(wanted.dashboard)

    @contextlib.contextmanager
    def hire(
        self,
        start: Callable[[], distributed.SpecCluster],
        wanted: Wanted,
        awaited: str,
        alive: Callable[[], Collection[str] | None] = lambda: None,
    ) -> Iterator[Workers]:
        """Start a scheduler and workers, and others in place of those that end, for the time of the context.

        Parameters
        ----------
        start : callable
            Returns a cluster without workers, all of which will be `Refusable`.
        wanted : Wanted
        awaited : str
            What to do where no worker comes.
        alive : callable
            Returns the numbers of the jobs that wait or run, None where nobody knows.

        Raises
        ------
        ClusterError
            Where the scheduler or the first workers cannot be started.
        """
        with quiet_logs(), dask.config.set(self.settings(wanted)):
            try:
                cluster = start()
            except (OSError, ValueError, RuntimeError) as error:
                raise ClusterError(
                    f"The scheduler for {self.kind!r} could not be started ({error}). Check the options interface "
                    "and tls."
                ) from None
            with cluster, Hiring(cluster, alive) as hiring:
                self._begin(cluster, hiring, wanted)
                with distributed.Client(cluster) as client:
                    dashboard = own_dashboard(cluster, wanted.dashboard)
                    yield Workers(client, dashboard, self.patience, awaited, hiring.hopeless)

    def _begin(self, cluster: distributed.SpecCluster, hiring: Hiring, wanted: Wanted) -> None:
        """Start the first workers.

        Raises
        ------
        ClusterError
        """
        least = self.least_of(wanted)
        cluster.scale(least)
        refusal = hiring.settle()
        if refusal:
            raise ClusterError(
                f"The cluster {self.kind!r} could not start a worker: {refusal} Check its options "
                f"(`diffuse list clusters {self.kind}`)."
            )
        if least < wanted.tasks:
            cluster.adapt(minimum=least, maximum=wanted.tasks)


class Refusable(ProcessInterface):
    """A worker that may not be started, mixed into Dask's class of its kind; there, the whole cluster would fail.

    Attributes
    ----------
    refusal : str
        Why it could not be started.
    """

    refusal = ""

    async def start(self) -> None:
        """Start it, or note why that is not possible."""
        start: Callable[[], Awaitable[None]] = super().start
        try:
            await start()
        except Exception as error:  # whatever a batch system, a host or a library says
            self.refusal = str(error) or type(error).__name__
            await ProcessInterface.start(self)


def _last_words(refusal: str) -> str:
    """Return the end of what a command has said, on one line: that is where the reason stands."""
    lines = [line.strip() for line in refusal.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.endswith(":"))[-400:].rstrip(".") + "."


class Hiring:
    """Start workers in place of those that have ended, in a thread, for the time of the context.

    Dask forgets workers that it has lost, and starts no others. Of those that end before they come it hears nothing.

    Parameters
    ----------
    cluster : distributed.SpecCluster
    alive : callable
        Returns the numbers of the jobs that wait or run, None where nobody knows.
    """

    def __init__(self, cluster: distributed.SpecCluster, alive: Callable[[], Collection[str] | None]) -> None:
        self._cluster, self._alive = cluster, alive
        self._come, self._vain = False, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="hire-workers")

    def __enter__(self) -> Hiring:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def hopeless(self) -> str:
        """Return why no worker will come, "" where one may."""
        if self._come or self._vain < MOST_IN_VAIN * max(1, len(self._cluster.worker_spec)):
            return ""
        return f"{self._vain} workers have ended before any could work. Look at their logs."

    def settle(self) -> str:
        """Start the workers that are wanted and not there, and return why one could not be, "" where all could."""
        self._cluster.sync(self._settle)
        refusals = (worker.refusal for worker in self._cluster.workers.values())
        return next((_last_words(refusal) for refusal in refusals if refusal), "")

    async def _settle(self) -> None:
        await self._cluster

    def _keep(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            # Those that are submitted while the batch system is asked are not among these.
            workers = dict(self._cluster.workers)
            alive = self._alive()
            # What fails now may do at the next look.
            with contextlib.suppress(RuntimeError, OSError, ValueError, TimeoutError):
                self._cluster.sync(self._replace, workers, alive, callback_timeout=4 * LOOK_SECONDS)

    async def _replace(self, workers: Mapping[Any, Any], alive: Collection[str] | None) -> None:
        there = {worker["name"] for worker in self._cluster.scheduler_info["workers"].values()}
        self._come = self._come or bool(there)
        for name, worker in workers.items():
            if name not in there and (worker.refusal or (alive is not None and worker.job_id not in alive)):
                self._vain += 1
                self._cluster.workers.pop(name, None)
        await self._cluster
