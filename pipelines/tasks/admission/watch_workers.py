"""The plugin with which a scheduler tells a driver what has changed among its workers; it travels as source text.

All that a scheduler knows of a thousand workers are megabytes, and what has changed since the last look mostly nothing.
"""

from __future__ import annotations

import inspect
import sys
import time
from typing import Any

import distributed


class WatchWorkers(distributed.SchedulerPlugin):
    """Count the changes among the workers, and answer a question for those since the last look.

    Parameters
    ----------
    topic : str
        Topic of the workers' answers among the scheduler's events, and the name of the question.
    """

    def __init__(self, topic: str) -> None:
        self.name = self.topic = topic
        self.changes = 0
        self.scheduler: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        text = inspect.getsource(sys.modules[__name__])
        made = f"exec({text!r}, space) or space['WatchWorkers']({self.topic!r})"
        return eval, (f"(lambda space: {made})({{'__name__': 'builtins'}})",)

    async def start(self, scheduler: distributed.Scheduler) -> None:
        """Answer the question from now on."""
        self.scheduler = scheduler
        scheduler.handlers[self.topic] = self.look

    def add_worker(self, scheduler: distributed.Scheduler, worker: str) -> None:
        """Count a worker that has joined."""
        self.changes += 1

    def remove_worker(self, scheduler: distributed.Scheduler, worker: str, **_: Any) -> None:
        """Count a worker that is lost."""
        self.changes += 1

    def look(self, changes: int, answers: int, quiet_seconds: float, last: bool) -> dict[str, Any]:
        """Return what has changed since the last look.

        Parameters
        ----------
        changes : int
            What the last look has returned under this name, -1 for all workers.
        answers : int
            Number of answers that are known.
        quiet_seconds : float
        last : bool
            True where the driver asks no more: the plugin is then removed.

        Returns
        -------
        dict
            The scheduler's "id"; the number of "changes"; the addresses of all "workers", None where they are the
            same; further "answers"; and the time of the last sign of workers that were "quiet" for longer.
        """
        if last:
            del self.scheduler.handlers[self.topic]
            self.scheduler.remove_plugin(self.name)
        workers, now = self.scheduler.workers, time.time()
        return {
            "id": str(self.scheduler.id),
            "changes": self.changes,
            "workers": None if changes == self.changes else list(workers),
            "answers": [answer for _, answer in self.scheduler.get_events(self.topic)[answers:]],
            "quiet": {w: s.last_seen for w, s in workers.items() if now - s.last_seen > quiet_seconds},
        }
