"""Keep tasks of a driver that was given up from writing: each driver has an epoch, and only the last one counts.

A driver writes its epoch into a file of the run's folder before its first task. A task compares it right before its
chunks take their places, so that what a killed driver has left on a cluster ends without a trace.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.store.places import place_of


class FencedOffError(RuntimeError):
    """Another process has taken over the run, so this task must not write."""


@dataclass(frozen=True)
class Fence:
    """The epoch that a task belongs to.

    Attributes
    ----------
    path : str
        Path or address of the file that holds the epoch of the run's present driver.
    epoch : str
    """

    path: str
    epoch: str

    def require(self) -> None:
        """Refuse to go on where the epoch is over.

        Raises
        ------
        FencedOffError
        """
        place, path = place_of(self.path)
        try:
            now = place.read(path).decode("ascii")
        except FileNotFoundError:
            now = "none"
        if now != self.epoch:
            raise FencedOffError(f"The epoch {self.epoch} of {self.path} is over; it is {now} now.")


_fence: contextvars.ContextVar[Fence | None] = contextvars.ContextVar("fence", default=None)


@contextlib.contextmanager
def behind(fence: Fence) -> Iterator[None]:
    """Let writes of this thread pass only while the epoch of a fence lasts."""
    token = _fence.set(fence)
    try:
        yield
    finally:
        _fence.reset(token)


def require_own_epoch() -> None:
    """Refuse to go on where the epoch of this thread's task is over.

    Raises
    ------
    FencedOffError
    """
    fence = _fence.get()
    if fence is not None:
        fence.require()
