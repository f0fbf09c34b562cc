"""Keep the ledger of sources: one row per source as it was found, all changes in transactions of one SQLite file.

It is a local file, or one on a disk that several machines share: its journal is not the write-ahead log, which needs
the shared memory of one machine. Each process that works holds a lock on a file beside it; by that lock the others see
whether a row that is running has died with its process.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from pipelines.record.holding import held, is_held
from pipelines.refusal import RefusedError


class State(StrEnum):
    """What became of a source."""

    waiting = "waiting"
    running = "running"
    done = "done"
    failed = "failed"
    quarantined = "quarantined"
    replaced = "replaced"


ABOUT = {
    State.waiting: "found, and not begun",
    State.running: "a process works on it",
    State.done: "its result is complete",
    State.failed: "failed, and is tried again later",
    State.quarantined: "refused, or failed too often; --retry-quarantined tries again",
    State.replaced: "has changed since; another row stands for what it is now",
}

MOST_DEATHS = 5
"""Number of processes that may die at a source, none with more tiles than the one before, until it is quarantined."""

PATIENCE = 60.0
"""Seconds that a transaction waits for another process's."""

SWEPT_SECONDS = 600.0
"""Age of a lock, which nobody holds, that is removed."""

APPLICATION, VERSION = 0x64696666, 1
"""Marks of SQLite files that are ledgers, and the version of their tables."""

_TABLE = """
CREATE TABLE sources (
    number INTEGER PRIMARY KEY,
    address TEXT NOT NULL, stamp TEXT NOT NULL, recipe TEXT NOT NULL, targets TEXT NOT NULL,
    state TEXT NOT NULL, message TEXT NOT NULL DEFAULT '',
    tries INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
    begun INTEGER NOT NULL DEFAULT 0, tiles INTEGER NOT NULL DEFAULT 0, identity TEXT NOT NULL DEFAULT '',
    found REAL NOT NULL, started REAL, ended REAL, due REAL NOT NULL DEFAULT 0,
    holder TEXT NOT NULL DEFAULT '', host TEXT NOT NULL DEFAULT '', report TEXT NOT NULL DEFAULT '{}',
    UNIQUE (address, stamp, recipe, targets)
)
"""


class LedgerError(RefusedError):
    """A file that is no ledger, or cannot be one."""


@dataclass(frozen=True)
class Row:
    """One source as it was found.

    Attributes
    ----------
    number : int
    address, stamp, recipe : str
        What it is: its address without secrets, its stamp, the digest of the spec.
    targets : list of str
        What its run writes, the main result first.
    state : State
    message : str
        Why it failed or was refused.
    tries, deaths : int
        Number of its runs that were begun, and of processes that died in them lately.
    begun : bool
        True where a run of it has begun to write.
    tiles : int
        Tiles that were finished when the latest run began.
    identity : str
        Identity of the source when the latest run began.
    found, started, ended : float or None
        Times, in seconds since 1970.
    due : float
        Time before which it is not tried again.
    holder, host : str
        Process that works on it, and its machine.
    report : dict
        Summary of the latest run.
    """

    number: int
    address: str
    stamp: str
    recipe: str
    targets: Sequence[str]
    state: State
    message: str
    tries: int
    deaths: int
    begun: bool
    tiles: int
    identity: str
    found: float
    started: float | None
    ended: float | None
    due: float
    holder: str
    host: str
    report: Mapping[str, Any]


def _row(values: sqlite3.Row) -> Row:
    plain = dict(values)
    parsed = {"targets": json.loads(plain["targets"]), "report": json.loads(plain["report"])}
    return Row(**{**plain, **parsed, "state": State(plain["state"]), "begun": bool(plain["begun"])})


class Ledger:
    """A ledger, opened by one process.

    Parameters
    ----------
    path : Path
        Is made with the first source that is noted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = uuid.uuid4().hex[:12]
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            with _transaction(base):
                (mark,), (version,) = (
                    base.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
                )
                (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if not tables and not mark:
                    base.execute(_TABLE)
                    base.execute(f"PRAGMA application_id = {APPLICATION}")
                    base.execute(f"PRAGMA user_version = {VERSION}")
                    mark, version = APPLICATION, VERSION
        except sqlite3.Error as error:
            if base is not None:
                base.close()
            raise LedgerError(
                f"{self.path} cannot be a ledger: {error}. Choose another file with --ledger, on a disk that can be "
                "written; a ledger cannot lie in an object store."
            ) from error
        if (mark, version) != (APPLICATION, VERSION):
            base.close()
            raise LedgerError(
                f"{self.path} is no ledger of this version of `diffuse watch`. Choose another file with --ledger."
            )
        return base

    # ---- who works

    def _lock(self, token: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{token}.lock")

    def _hold(self) -> None:
        """Show the other processes that this one lives."""
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

    # ---- rows

    def rows(self, numbers: Iterable[int] | None = None) -> list[Row]:
        """Return rows, all by default, in the order in which they were found; a file that is not there has none."""
        if not self.path.exists():
            return []
        if numbers is None:
            found = self._base.execute("SELECT * FROM sources ORDER BY number")
        else:
            found = self._base.execute(
                "SELECT * FROM sources WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number",
                [json.dumps(list(numbers))],
            )
        return [_row(one) for one in found]

    def note(self, recipe: str, found: Sequence[tuple[str, str, Sequence[str]]]) -> list[int]:
        """Note sources that are there now, and return the numbers of their rows, in the same order.

        Parameters
        ----------
        recipe : str
        found : sequence of tuple
            Address, stamp and targets of each. What was noted of the same address with another stamp, or for another
            recipe with the same targets, is `replaced`, unless a process works on it.
        """
        with _transaction(self._base):
            return [
                self._note([address, stamp, recipe, json.dumps(list(to))]) for address, stamp, to in found
            ]

    def _note(self, key: list[str]) -> int:
        self._base.execute(
            "INSERT INTO sources (address, stamp, recipe, targets, state, found) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            [*key, State.waiting, time.time()],
        )
        (number,) = self._base.execute(
            "SELECT number FROM sources WHERE (address, stamp, recipe, targets) = (?, ?, ?, ?)", key
        ).fetchone()
        self._base.execute(
            "UPDATE sources SET state = ? WHERE address = ? AND targets = ? AND number != ? AND state != ?",
            [State.replaced, key[0], key[3], number, State.running],
        )
        # A source, or a spec, that is again what it was before: its result was replaced meanwhile.
        self._base.execute(
            "UPDATE sources SET state = ?, tries = 0, deaths = 0, due = 0 WHERE number = ? AND state = ?",
            [State.waiting, number, State.replaced],
        )
        return int(number)

    def others_targets(self, addresses: Iterable[str]) -> dict[str, str]:
        """Return what sources with other addresses have written or will write: target -> address."""
        here = set(addresses)
        kept = (row for row in self.rows() if row.address not in here)
        return {target: row.address for row in kept for target in row.targets}

    def may_replace(self, row: Row) -> bool:
        """Return whether the targets of a row are results of what the same source was before."""
        (earlier,) = self._base.execute(
            "SELECT count(*) FROM sources WHERE address = ? AND recipe = ? AND targets = ? AND number != ? AND begun",
            [row.address, row.recipe, json.dumps(list(row.targets)), row.number],
        ).fetchone()
        return bool(earlier)

    def release(self, numbers: Iterable[int] | None = None) -> int:
        """Let quarantined and failed sources start anew; return how many there were."""
        rows = [row for row in self.rows(numbers) if row.state in (State.quarantined, State.failed)]
        with _transaction(self._base):
            for row in rows:
                self._set(row.number, state=State.waiting, tries=0, deaths=0, due=0.0)
        return len(rows)

    # ---- the life of a row

    def claim(self, numbers: Iterable[int]) -> Row | None:
        """Take the first of some rows that is due, so that no other process does; None where there is none."""
        self._hold()
        with _transaction(self._base):
            for row in self._due(numbers):
                died = row.state is State.running
                if died and self._is_alive(row.holder):
                    continue
                if row.deaths + died >= MOST_DEATHS:
                    self._quarantine_deadly(row)
                    continue
                self._take(row, deaths=row.deaths + died)
                return self.rows([row.number])[0]
        return None

    def _due(self, numbers: Iterable[int]) -> Iterator[Row]:
        """Yield the rows that are running, or may be begun now."""
        found = self._base.execute(
            "SELECT * FROM sources WHERE number IN (SELECT value FROM json_each(?)) "
            "AND (state = ? OR (state IN (?, ?) AND due <= ?)) ORDER BY number",
            [json.dumps(list(numbers)), State.running, State.waiting, State.failed, time.time()],
        )
        yield from map(_row, found)

    def _take(self, row: Row, deaths: int) -> None:
        self._lock(row.holder).unlink(missing_ok=True)
        self._set(
            row.number,
            state=State.running,
            tries=row.tries + 1,
            deaths=deaths,
            holder=self._token,
            host=socket.gethostname(),
            started=time.time(),
            ended=None,
        )

    def _quarantine_deadly(self, row: Row) -> None:
        self._set(
            row.number,
            state=State.quarantined,
            message=f"{MOST_DEATHS} processes died while they worked on it, the last on {row.host}. Was the memory "
            "too small? See --memory.",
            ended=time.time(),
        )

    def begin(self, row: Row, tiles: int) -> None:
        """Note that the run of a row begins, with so many tiles that were finished before."""
        deaths = 0 if tiles > row.tiles else row.deaths
        with _transaction(self._base):
            self._set(row.number, begun=True, tiles=tiles, deaths=deaths)

    def end(
        self, row: Row, state: State, message: str = "", *, due: float = 0.0, counts: bool = True, **more: Any
    ) -> None:
        """Note how a run ended.

        Parameters
        ----------
        row : Row
        state : State
        message : str
        due : float
            Time before which it is not tried again.
        counts : bool
            False where the try is none: nothing of the source was at fault.
        more
            Values of further columns.
        """
        tries = row.tries if counts else row.tries - 1
        with _transaction(self._base):
            self._set(
                row.number,
                state=state,
                message=message,
                due=due,
                tries=tries,
                ended=time.time(),
                holder="",
                **more,
            )

    def _set(self, number: int, **values: Any) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        plain = [json.dumps(one) if isinstance(one, dict) else one for one in values.values()]
        self._base.execute(f"UPDATE sources SET {columns} WHERE number = ?", [*plain, number])


@contextlib.contextmanager
def _transaction(base: sqlite3.Connection) -> Iterator[None]:
    """Carry out a block as a whole or not at all, while no other process writes."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")
