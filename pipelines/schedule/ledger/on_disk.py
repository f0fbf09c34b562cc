"""Keep a ledger in a file of SQLite: on a local disk, or on one that several machines share.

Its journal is not the write-ahead log, which needs the shared memory of one machine. A process shows that it lives by a
lock on a file beside it.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipelines.record.holding import held, is_held
from pipelines.schedule.ledger.ledger import Ledger
from pipelines.schedule.ledger.rows import TABLE, LedgerError

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that a transaction waits for another process's."""

SWEPT_SECONDS = 600.0
"""Age of a lock, which nobody holds, that is removed."""

APPLICATION, VERSION = 0x64696666, 1
"""Marks of SQLite files that are ledgers, and the version of their tables."""


class LedgerOnDisk(Ledger):
    """A ledger in a file.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._held = contextlib.ExitStack()

    @property
    def address(self) -> str:
        """Path of the file."""
        return str(self.path)

    def is_there(self) -> bool:
        """Return whether there is a file."""
        return self.path.is_file()

    def close(self) -> None:
        """Close the file, and remove the lock."""
        if "_base" in vars(self):
            self._base.close()
        self._held.close()
        self._lock(self._token).unlink(missing_ok=True)

    @functools.cached_property
    def _base(self) -> sqlite3.Connection:
        """Open the file, make its table where it is new, and refuse another program's.

        Raises
        ------
        LedgerError
        """
        base = None
        try:
            base = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            base.row_factory = sqlite3.Row
            mark, version = _carried_out(base, lambda: _marks_of(base))
        except sqlite3.Error as error:
            if base is not None:
                base.close()
            raise LedgerError(
                f"{self.path} cannot be a ledger: {error}. Choose another file with --ledger, on a disk that can be "
                "written, or an address in an object store."
            ) from error
        if (mark, version) != (APPLICATION, VERSION):
            base.close()
            raise LedgerError(
                f"{self.path} is no ledger of this version of `diffuse watch`. Choose another file with --ledger."
            )
        return base

    def _change(self, call: Callable[[], T]) -> T:
        return _carried_out(self._base, call)

    # ---- who works

    def _lock(self, token: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{token}.lock")

    def _hold(self) -> None:
        if not self._lock(self._token).exists():
            self._sweep()
            busy = AssertionError("the lock has a name of its own")
            self._held.enter_context(held(self._lock(self._token), lambda: busy))

    def _sweep(self) -> None:
        """Remove the locks of processes that died; one that is new may just be being taken."""
        for lock in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.lock"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > SWEPT_SECONDS and not is_held(lock):
                    lock.unlink()

    def _is_alive(self, holder: str) -> bool:
        return holder == self._token or is_held(self._lock(holder))

    def _forget(self, holder: str) -> None:
        self._lock(holder).unlink(missing_ok=True)


def _marks_of(base: sqlite3.Connection) -> tuple[int, int]:
    """Return whose file it is, and the version of its tables, once a new file has its table."""
    (mark,), (version,) = (
        base.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables or mark:
        return mark, version
    base.execute(TABLE)
    base.execute(f"PRAGMA application_id = {APPLICATION}")
    base.execute(f"PRAGMA user_version = {VERSION}")
    return APPLICATION, VERSION


def _carried_out(base: sqlite3.Connection, call: Callable[[], T]) -> T:
    """Carry out changes as a whole or not at all, while no other process writes; return what they return."""
    base.execute("BEGIN IMMEDIATE")
    try:
        result = call()
    except BaseException:
        base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")
    return result
