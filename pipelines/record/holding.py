"""Hold something for this process alone: by a lock on a file, which ends with the process, or by an object in a store.

An object is a lease: its holder writes it anew every `RENEWED_SECONDS`, and it has ended once the store's clock is
`LASTS_SECONDS` past that. It is written only if there is none, and replaced only if it is the one that was looked at,
so that of many who try one succeeds. A store that cannot do so holds nothing, which is found out by trying.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from pipelines.refusal import RefusedError
from pipelines.store.addresses import shown
from pipelines.store.place import NotExclusiveError, Place
from pipelines.store.upload import TargetTakenError

RENEWED_SECONDS, LASTS_SECONDS = 20.0, 120.0
"""Time between two renewals of a lease in a store, and time after which one that is not renewed has ended."""


class BusyError(RefusedError):
    """Another process works on the same target."""


# ---- on a disk


@contextlib.contextmanager
def held(file: Path, busy: Callable[[], Exception], patience: float = 0) -> Iterator[None]:
    """Hold a lock on a file, which the system lets go of when the process dies.

    Parameters
    ----------
    file : Path
    busy : callable
        Makes the error where another process holds it.
    patience : float
        Seconds to wait for it.
    """
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except filelock.Timeout:
        raise busy() from None
    try:
        yield
    finally:
        lock.release()


def is_held(file: Path) -> bool:
    """Return whether a process holds a lock on a file; where this one may not ask, nobody is seen."""
    if not file.exists():
        return False
    probe = filelock.FileLock(file)
    try:
        probe.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    probe.release()
    return False


# ---- in a store


class Lease:
    """What a process holds for itself; on a disk as long as it lives."""

    def require(self) -> None:
        """Refuse to go on where it is another's now.

        Raises
        ------
        TargetTakenError
        """


class StoredLease(Lease):
    """An object in a store that says who holds something.

    Parameters
    ----------
    place : Place
    path : str
        Path of the object.
    what : str
        What it holds, for messages.
    about : mapping, optional
        What else the object says of its holder.
    """

    def __init__(self, place: Place, path: str, what: str, about: Mapping[str, str] | None = None) -> None:
        self._place, self._path, self._what = place, path, what
        self._said = {**(about or {}), **_this_process(), "token": uuid.uuid4().hex}
        self._renewed, self._ahead = 0.0, 0.0
        self._renewing = threading.Lock()

    @contextlib.contextmanager
    def hold(
        self,
        busy: Callable[[Mapping[str, Any], float], Exception],
        given_up: Callable[[Mapping[str, Any]], bool] = lambda found: False,
    ) -> Iterator[Lease]:
        """Hold it for the time of the context.

        Parameters
        ----------
        busy : callable
            Makes the error where another process holds it, from what the object says and the seconds until it ends.
        given_up : callable
            Returns whether whoever wrote an object is known to hold it no more.

        Raises
        ------
        NotExclusiveError
            In a store that cannot tell two writers apart.
        """
        self._acquire(busy, given_up)
        stop = threading.Event()
        thread = threading.Thread(target=self._keep, args=(stop,), daemon=True, name="lease")
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
            self._release()

    def _acquire(
        self,
        busy: Callable[[Mapping[str, Any], float], Exception],
        given_up: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        now = self._try_store()
        self._renewed, self._ahead = time.time(), now - time.monotonic()
        for _ in range(3):
            if self._place.write_if_absent(self._path, self._data()):
                return
            there = self._place.entry(self._path)
            if there is None:
                continue
            found = self.holder()
            left = LASTS_SECONDS - (now - (there.changed or now))
            if not (given_up(found) or _has_died(found)) and left > 0:
                raise busy(found, left)
            if self._place.write_over(self._path, self._data(), there.mark):
                return
        raise busy(self.holder(), LASTS_SECONDS)

    def _try_store(self) -> float:
        """Return the time of the store, once an object of our own has shown that it tells writers apart.

        Raises
        ------
        NotExclusiveError
        """
        path = f"{self._path}.{self._said['token']}"
        try:
            first = self._place.write_if_absent(path, b"1")
            entry = self._place.entry(path)
            tells = (
                first
                and entry is not None
                and not self._place.write_if_absent(path, b"2")
                and not self._place.write_over(path, b"3", "0" * 32)
                and self._place.write_over(path, b"4", entry.mark)
            )
        finally:
            self._place.delete([path])
        if not tells or entry is None or entry.changed is None:
            raise NotExclusiveError(
                f"The server of {shown(self._place.address(self._path))} takes conditions on what is there "
                "(If-None-Match, If-Match), but does not keep to them, so two runs cannot be told apart there."
            )
        return entry.changed

    def _data(self) -> bytes:
        # Each renewal has other bytes, by which its answer is known where that was lost on the way.
        return json.dumps({**self._said, "renewal": uuid.uuid4().hex}).encode()

    def holder(self) -> dict[str, Any]:
        """Return what the object says, nothing where there is none or it is damaged."""
        return _said_in(self._place, self._path)

    def is_held(self, now: float) -> bool:
        """Return whether a process seems to hold it, by the clock of this machine: nothing is written."""
        return SeenLease(self._place, self._path).is_held(now)

    def now(self) -> float:
        """Return the time of the store, while it is held."""
        return self._ahead + time.monotonic()

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(RENEWED_SECONDS):
            # A store that does not answer for a while may do so at the next renewal; `require` looks before it counts.
            with contextlib.suppress(Exception):
                self._renew()

    def _renew(self) -> bool:
        """Write it anew; return False where it is gone, or another's."""
        with self._renewing:
            there = self._place.entry(self._path)
            if there is None or not self._is_own():
                return False
            if not self._place.write_over(self._path, self._data(), there.mark):
                return False
            self._renewed = time.time()
            return True

    def refresh(self) -> bool:
        """Return whether it is this process's, once it is renewed where that has not been done for a while."""
        return abs(time.time() - self._renewed) < 2 * RENEWED_SECONDS or self._renew()

    def _is_own(self) -> bool:
        return self.holder().get("token") == self._said["token"]

    def require(self) -> None:
        """Refuse to go on where it is another's now.

        Raises
        ------
        TargetTakenError
        """
        if not self._is_own():
            raise TargetTakenError(
                f"The lease on {shown(self._what)} was lost, because this process or the store did not answer for "
                "more than two minutes. Run the same command again."
            )

    def _release(self) -> None:
        with contextlib.suppress(Exception):
            if self._is_own():
                self._place.delete([self._path])


class SeenLease:
    """A lease as another process sees it, which asks the store again only where it may have ended.

    Parameters
    ----------
    place : Place
    path : str
    """

    def __init__(self, place: Place, path: str) -> None:
        self._place, self._path = place, path
        self._ends = 0.0
        self._said: dict[str, Any] = {}

    def is_held(self, now: float) -> bool:
        """Return whether a process seems to hold it at a time of the store: nothing is written."""
        if self._ends <= now:
            there = self._place.entry(self._path)
            if there is None:
                return False
            self._ends = (there.changed or now) + LASTS_SECONDS
            self._said = _said_in(self._place, self._path)
        return self._ends > now and not _has_died(self._said)


def _said_in(place: Place, path: str) -> dict[str, Any]:
    """Return what a lease says of its holder, nothing where there is none or it is damaged."""
    try:
        found = json.loads(place.read(path))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _this_process() -> dict[str, str]:
    """Return who holds it; by the last two, where the system tells them, a process is known to have died."""
    number = os.getpid()
    return {
        "holder": f"process {number}",
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": f"{number} {_began(number)}",
    }


def _has_died(found: Mapping[str, Any]) -> bool:
    """Return whether the process that wrote a lease ran on this machine, and runs no more."""
    number, _, began = str(found.get("process", "")).partition(" ")
    here = _machine()
    return bool(here) and found.get("machine") == here and bool(began) and _began(number) != began


def _machine() -> str:
    """Return what all processes share that see the same process numbers; "" where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(number: int | str) -> str:
    """Return when a process began, "" where there is none or the system does not tell."""
    try:
        words = (
            Path(f"/proc/{number}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]
