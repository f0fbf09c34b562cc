"""Tell from the times at which a scheduler last heard of its workers which of them have fallen silent."""

from __future__ import annotations

from collections.abc import Mapping

SILENT_SECONDS = 30.0
"""Time without a sign of life after which a worker is silent: Dask's workers give one every half a second, where there
are hundreds of them every few seconds, and are taken for lost after 300 s."""


def quiet_seconds() -> float:
    """Return the time without a sign, by the scheduler's clock, from which it names a worker as quiet."""
    return SILENT_SECONDS / 2


class Heartbeats:
    """When each quiet worker was last heard of, by the clock of this machine."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}
        self._noted = 0.0

    def note(self, told: Mapping[str, float], now: float) -> None:
        """Note what the scheduler says.

        Parameters
        ----------
        told : mapping of str to float
            Time of the last sign of each quiet worker, by the scheduler's clock; only its changes count.
        now : float
            Seconds by the clock of this machine.
        """
        if now - self._noted > SILENT_SECONDS / 2:
            # Nobody has looked meanwhile, or the scheduler has not heard: that says nothing of the workers.
            self._seen.clear()
        before, self._noted = self._seen, now
        since = now - quiet_seconds()
        self._seen = {
            worker: before[worker] if worker in before and before[worker][0] == sign else (sign, since)
            for worker, sign in told.items()
        }

    def silent(self) -> dict[str, float]:
        """Return the workers that were silent for long at the last note, and for how many seconds."""
        silences = {worker: self._noted - since for worker, (_, since) in self._seen.items()}
        return {worker: s for worker, s in sorted(silences.items()) if s >= SILENT_SECONDS}
