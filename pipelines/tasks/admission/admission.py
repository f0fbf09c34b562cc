"""Admit the workers that have proved themselves, name those that have not, and say what a run waits for."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distributed.protocol.pickle import dumps

from pipelines.events import Listener, Waiting, WorkerLeftOut, tell
from pipelines.tasks.admission.heartbeats import Heartbeats, quiet_seconds
from pipelines.tasks.admission.proof import own_proof
from pipelines.tasks.admission.prove_worker import ProveWorker
from pipelines.tasks.admission.watch_workers import WatchWorkers
from pipelines.tasks.memory import total_memory
from pipelines.tasks.workers import ClusterError, Workers

WAIT_SECONDS = 300.0
"""Time after which a run gives up that no worker takes tasks of."""

DIFFER_SECONDS = 20.0
"""Time after which a run gives up where all workers that there are differ: another may be about to join."""

SAY_SECONDS = 5.0
"""Time after which a run that waits says so."""

LOOK_SECONDS = 5.0
"""Time between two looks at the workers while tiles come back."""

REPLY_SECONDS = 5.0
"""Time in which a scheduler replies that has nothing to compute for it."""

MOST_MUTE = 4
"""Number of workers that end without an answer after which a run gives up, while no other may have tasks."""

LONG_SECONDS = 60.0
"""Time after which a run says that no tile has come back, although there are workers."""

GONE = (
    "The scheduler is gone, or the connection to it is lost. Look at its log, start it again with `dask scheduler`, "
    "and run the same command again; finished tiles are kept."
)


class Admission:
    """The workers of a scheduler, and which of them have proved that they compute the driver's bits.

    Parameters
    ----------
    workers : Workers
    threads : int
        Number of tasks that run in a process at a time, at least.
    listeners : sequence of Listener
        Are told of workers that are left out, and of waiting.

    Attributes
    ----------
    proof : str
        Digest of the driver's proof.
    resource : str
        What a task must ask for, so that only workers that have proved themselves get it.
    left_out : dict
        How each worker that is left out differs, by its address.
    """

    def __init__(self, workers: Workers, threads: int, listeners: Sequence[Listener]) -> None:
        self.proof = own_proof().digest
        self.resource = f"diffuse-{self.proof}"
        self.left_out: dict[str, str] = {}
        self._workers, self._client = workers, workers.client
        self._threads, self._listeners = threads, listeners
        self._topic = f"diffuse-proof-{uuid.uuid4().hex}"
        self._scheduler = ""
        self._there = frozenset[str]()
        self._changes, self._answers = -1, 0
        self._heartbeats, self._silent = Heartbeats(), set[str]()
        self._proven: set[str] = set()
        self._mute: set[str] = set()
        self._answered = self._looked = self._able_at = self._back_at = self._said = time.monotonic()

    @contextlib.contextmanager
    def ask(self) -> Iterator[Admission]:
        """Ask the workers for their proof, also those that join later, for the time of the context."""
        plugin = ProveWorker(self._topic, self.resource, dict(own_proof().parts), self._threads)
        # What the workers answer is read from the scheduler's events: this call ends when the last one has answered,
        # which one that is stopped never does.
        self._send(self._client.register_plugin, plugin, self._topic)
        try:
            yield self
        finally:
            if self._client.status == "running":
                asked = self._send(self._client.unregister_worker_plugin, self._topic)
                self._send(self._ask_for_changes, True).join(1.0)
                asked.join(1.0)

    @staticmethod
    def _send(call: Any, *arguments: Any) -> threading.Thread:
        def quietly() -> None:
            # A worker that dies meanwhile is one that has not proved itself.
            with contextlib.suppress(Exception):
                call(*arguments)

        thread = threading.Thread(target=quietly, daemon=True, name="ask-workers")
        thread.start()
        return thread

    def wait(self, until: float = math.inf) -> bool:
        """Return True when a worker may have tasks, False at a time of the monotonic clock where there is none.

        Raises
        ------
        ClusterError
            Where there is none after a while; the message says what each has.
        """
        self._able_at = self._said = self._back_at = time.monotonic()
        pause = 0.01
        while not self._look():
            if time.monotonic() >= until:
                return False
            self._complain()
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        return True

    def heard(self) -> None:
        """Note that tiles have come back."""
        self._back_at = time.monotonic()

    def attend(self) -> None:
        """Look now and then whether there are workers still, and say so where there are none, or some are silent.

        Raises
        ------
        ClusterError
            Where the scheduler is gone, or no worker that may have tasks has been there for a while.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        if not self._look():
            self._complain()
        elif not self._say_silent(now) and now - self._back_at >= LONG_SECONDS <= now - self._said:
            self._said = now
            reason = (
                f"nothing has come back from {len(self._there)} workers. Tiles may take long; if not, look whether "
                "their processes are stopped, or whether they cannot reach source and target."
            )
            tell(self._listeners, Waiting(reason, now - self._back_at))

    def _say_silent(self, now: float) -> bool:
        """Name the workers that have fallen silent, also while others work; return whether there are any."""
        silent = self._heartbeats.silent()
        if silent and (not silent.keys() <= self._silent or now - self._said >= LONG_SECONDS):
            self._said = now
            names = ", ".join(silent)
            reason = (
                f"{len(silent)} of {len(self._there)} workers give no sign of life: {names}. Look whether their "
                "processes or machines are stopped, or cut off. Dask gives their tiles to others when they go on, "
                "end, or have been silent for 300 s."
            )
            tell(self._listeners, Waiting(reason, max(silent.values())))
        self._silent = set(silent)
        return bool(silent)

    def _look(self) -> bool:
        """Read what the scheduler knows, and return whether there is a worker that may have tasks."""
        self._looked = time.monotonic()
        self._require_scheduler()
        try:
            found = self._ask_for_changes()
        except OSError:
            self._require_scheduler()
            return False
        self._answered = time.monotonic()
        self._scheduler = self._scheduler or (found or {}).get("id", "")
        if found is None or found["id"] != self._scheduler:
            # One that was started again at the same address knows neither the tasks nor what was asked.
            raise ClusterError(GONE)
        self._heartbeats.note(found["quiet"], self._answered)
        for answer in found["answers"]:
            self._judge(answer["worker"], answer["found"])
        self._changes, self._answers = found["changes"], self._answers + len(found["answers"])
        if found["workers"] is not None:
            there = frozenset(found["workers"])
            self._mute |= self._there - there - self._proven - set(self.left_out)
            self._there = there
        able = not self._proven.isdisjoint(self._there)
        if able:
            self._able_at = self._answered
            self._mute.clear()
        return able

    def _ask_for_changes(self, last: bool = False) -> Any:
        """Return what the scheduler knows anew, None from one that does not know the question."""
        if self._changes < 0:
            watch = dumps(WatchWorkers(self._topic))
            self._ask_scheduler("register_scheduler_plugin", plugin=watch, name=self._topic, idempotent=True)
        known = {"changes": self._changes, "answers": self._answers}
        return self._ask_scheduler(self._topic, **known, quiet_seconds=quiet_seconds(), last=last)

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            raise ClusterError(GONE)

    def _ask_scheduler(self, question: str, **arguments: Any) -> Any:
        # Not through the client's own methods, which wait for ever for a scheduler that is stopped.
        call = getattr(self._client.scheduler, question)
        return self._client.sync(call, callback_timeout=REPLY_SECONDS, **arguments)

    def _judge(self, worker: str, found: Mapping[str, str]) -> None:
        if found == own_proof().parts:
            self._proven.add(worker)
        elif worker not in self.left_out:
            self.left_out[worker] = own_proof().differences(found)
            tell(self._listeners, WorkerLeftOut(worker, self.left_out[worker]))

    def _complain(self) -> None:
        """Say what the run waits for, and give up where that is in vain."""
        now = time.monotonic()
        waited = now - self._able_at
        differ = bool(self._there) and self._there <= set(self.left_out)
        hopeless = self._workers.hopeless()
        if hopeless:
            raise ClusterError(hopeless)
        patience = DIFFER_SECONDS if differ else max(WAIT_SECONDS, self._workers.patience)
        if waited > patience or len(self._mute) >= MOST_MUTE:
            raise ClusterError(f"{self._reason(differ)} The run gives up after {waited:.0f} s.")
        if waited >= SAY_SECONDS and now - self._said >= SAY_SECONDS:
            self._said = now
            tell(self._listeners, Waiting(self._reason(differ), waited))

    def _reason(self, differ: bool) -> str:
        address = self._client.scheduler.address if self._client.scheduler else "its address"
        if time.monotonic() - self._answered > REPLY_SECONDS:
            return (
                f"The scheduler at {address} does not answer. Look whether its process or machine is stopped."
            )
        if not self._there and len(self._mute) < MOST_MUTE:
            awaited = self._workers.awaited or f"Start one with `dask worker {address}`."
            return f"The scheduler at {address} has no workers. {awaited}"
        if differ:
            each = "; ".join(
                f"{worker}: {why}" for worker, why in self.left_out.items() if worker in self._there
            )
            return (
                f"No worker at {address} may have tasks, as each might compute other bits than this program. "
                f"{each}. Install the same versions there, and restart the workers."
            )
        if len(self._mute) >= MOST_MUTE:
            least = total_memory([], 0) >> 20
            return (
                f"{len(self._mute)} workers at {address} ended before they could answer, such as {max(self._mute)}. "
                f"Perhaps their memory limit is below what libraries and kernels take, about {least} MiB: "
                "give them more (--memory-limit of `dask worker`), or look at their logs."
            )
        mute = ", ".join(sorted(self._there - self._proven - set(self.left_out)))
        return f"These workers at {address} have not answered yet: {mute}. Look whether they are stopped or busy."
