"""Say when a run takes no more tiles: at its walltime, or once it is asked to stop; what is at work may end first."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from pipelines.refusal import TerminatedError

GRACE_SECONDS = 10.0
"""Time that tiles at work have after a run was asked to stop: batch systems and Kubernetes kill after 30 s."""

LOOK_SECONDS = 1.0
"""Time between two looks for a request in the run's folder: each takes the disk, or the store, some time."""

WALLTIME, TERMINATED, CANCELLED = "walltime", "terminated", "cancelled"
"""Why a run has stopped: it had run for as long as it may, was asked to stop by a signal, or by `diffuse cancel`."""

EXIT_CODES = {WALLTIME: 75, TERMINATED: 143, CANCELLED: 75}
"""What a batch system reads from them: try again (EX_TEMPFAIL), and ended by SIGTERM."""

WORDS = {
    WALLTIME: "The run has taken as long as it may (run.walltime).",
    TERMINATED: "The run was asked to stop (SIGTERM).",
    CANCELLED: "The run was cancelled (`diffuse cancel`).",
}


class Stopping:
    """Whether a run is to stop, and why.

    Parameters
    ----------
    walltime : float, optional
        Seconds after which no more tiles are taken.

    Attributes
    ----------
    deadline : float
        Time of the monotonic clock after which no more tiles are taken.
    """

    def __init__(self, walltime: float | None = None) -> None:
        self.deadline = time.monotonic() + (math.inf if walltime is None else walltime)
        self._asked = math.inf
        self._looked = -math.inf
        self._gentle = False

    def ask(self) -> None:
        """Ask the run to stop, from a handler of a signal in its own thread.

        Raises
        ------
        TerminatedError
            Where nothing is at work that could be waited for, and where it was asked before.
        """
        if not self._gentle or self._asked < math.inf:
            raise TerminatedError
        self._asked = time.monotonic()

    @contextlib.contextmanager
    def gently(self) -> Iterator[None]:
        """Let a request wait until it is looked at, for the time of the context."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    @property
    def reason(self) -> str:
        """Why no more tiles are to be taken, "" while they are."""
        if self._asked < math.inf:
            return TERMINATED
        return WALLTIME if time.monotonic() >= self.deadline else ""

    def heed(self, is_cancelled: Callable[[], bool]) -> str:
        """Return why no more tiles are to be taken, "" while they are; whether the run is cancelled is asked seldom."""
        now = time.monotonic()
        if self.reason or now - self._looked < LOOK_SECONDS:
            return self.reason
        self._looked = now
        return CANCELLED if is_cancelled() else ""

    @property
    def is_over(self) -> bool:
        """Whether tiles at work have had their time."""
        return time.monotonic() > self._asked + GRACE_SECONDS


def stop_text(reason: str) -> str:
    """Return what it means that a run has stopped for a reason."""
    return f"{WORDS[reason]} Finished tiles are kept: the same command goes on."
