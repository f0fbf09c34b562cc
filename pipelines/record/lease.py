"""Hold targets from the start of a run to its end, so that no two runs, in whatever folders, work for the same one.

On a disk the system lets go of a lease when its process dies. In a store a lease is an object that is written only if
there is none, and that ends by itself unless its holder renews it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipelines.record.workdir import BusyError, held
from pipelines.store.addresses import local_path, outside, shown
from pipelines.store.place import NotExclusiveError
from pipelines.store.places import place_of
from pipelines.store.upload import TargetTakenError

RENEWED_SECONDS, LASTS_SECONDS = 20.0, 120.0
"""Time between two renewals of a lease in a store, and time after which one that is not renewed has ended."""


class Lease:
    """A lease on a local target, which the process holds as long as it lives."""

    def require(self) -> None:
        """Refuse to go on where the lease is another's now.

        Raises
        ------
        TargetTakenError
        """


def lease(target: str, workdir: Path) -> AbstractContextManager[Lease]:
    """Return a context that holds a target for the run in a folder.

    Raises
    ------
    BusyError
        Where another run holds it.
    """
    path = local_path(target)
    return _remote_lease(target, workdir) if path is None else _local_lease(target, path, workdir)


def _holder(workdir: Path) -> dict[str, str]:
    return {
        "holder": f"process {os.getpid()}",
        "host": socket.gethostname(),
        "workdir": str(workdir.absolute()),
    }


def _busy(target: str, values: dict[str, Any], until: str = "") -> BusyError:
    return BusyError(
        f"Another run ({values.get('holder', 'unknown')} on {values.get('host', 'unknown')}, in the folder "
        f"{values.get('workdir', 'unknown')}) works for {shown(target)}. Wait for it, stop it, or choose another "
        f"target.{until}"
    )


# ---- on a disk


@contextlib.contextmanager
def _local_lease(target: str, path: Path, workdir: Path) -> Iterator[Lease]:
    beside = Path(outside(str(path.absolute())))
    file = beside.with_name(f".{beside.name}.lease")
    note = file.with_suffix(".holder")
    with held(file, lambda: _busy(target, _values(note))):
        try:
            note.write_text(json.dumps(_holder(workdir)))
            yield Lease()
        finally:
            note.unlink(missing_ok=True)
            file.unlink(missing_ok=True)


def _values(note: Path) -> dict[str, Any]:
    try:
        return _parsed(note.read_bytes())
    except OSError:
        return {}


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


# ---- in a store


@contextlib.contextmanager
def _remote_lease(target: str, workdir: Path) -> Iterator[Lease]:
    mine = RemoteLease(target, workdir)
    try:
        mine.acquire()
    except NotExclusiveError:
        # Nothing tells two runs apart there but the last look at the target, before anything is written.
        yield Lease()
        return
    stop = threading.Event()
    thread = threading.Thread(target=mine.keep, args=(stop,), daemon=True, name="lease")
    thread.start()
    try:
        yield mine
    finally:
        stop.set()
        thread.join()
        mine.release()


class RemoteLease(Lease):
    """An object beside a target in a store."""

    def __init__(self, target: str, workdir: Path) -> None:
        self._target = target
        self._place, path = place_of(target)
        self._path = f"{path.rstrip('/')}.lease"
        self._said = {**_holder(workdir), "token": uuid.uuid4().hex}

    def _data(self) -> bytes:
        return json.dumps({**self._said, "until": time.time() + LASTS_SECONDS}).encode()

    def _read(self) -> dict[str, Any] | None:
        if self._place.entry(self._path) is None:
            return None
        try:
            return _parsed(self._place.read(self._path))
        except FileNotFoundError:
            return None

    def acquire(self) -> None:
        """Write the lease if there is none, if it was this folder's, or if it has ended.

        Raises
        ------
        BusyError
        """
        for _ in range(2):
            if self._place.write_if_absent(self._path, self._data()):
                return
            found = self._read() or {}
            # The lock of the folder is held: whoever wrote this has died.
            same = all(found.get(key) == self._said[key] for key in ("host", "workdir"))
            left = float(found.get("until", 0.0)) - time.time()
            if not same and left > 0:
                raise _busy(self._target, found, f" If it was killed, its lease ends in {left:.0f} s.")
            self._place.delete([self._path])
        raise _busy(self._target, self._read() or {})

    def keep(self, stop: threading.Event) -> None:
        """Renew the lease until the run has ended."""
        while not stop.wait(RENEWED_SECONDS):
            # A store that does not answer for a while may do so at the next renewal; `require` looks before it counts.
            with contextlib.suppress(Exception):
                if self._is_own():
                    self._place.write(self._path, self._data())

    def _is_own(self) -> bool:
        return (self._read() or {}).get("token") == self._said["token"]

    def require(self) -> None:
        """Refuse to go on where the lease is another's now.

        Raises
        ------
        TargetTakenError
        """
        if not self._is_own():
            raise TargetTakenError(
                f"The lease on {shown(self._target)} was lost, because this process or the store did not answer for "
                "more than two minutes. Run the same command again."
            )

    def release(self) -> None:
        """Remove the lease."""
        with contextlib.suppress(Exception):
            if self._is_own():
                self._place.delete([self._path])
