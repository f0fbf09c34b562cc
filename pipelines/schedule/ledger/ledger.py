"""Decide what becomes of sources, by changes to one table of SQLite; where it is kept is said by subclasses.

Each process that works shows that it lives, in a way that ends with its life. By that the others see whether a row that
is running has died with its process.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from pipelines.record.holding import BusyError
from pipelines.schedule.ledger.rows import Row, State, row_of

T = TypeVar("T")

MOST_DEATHS = 5
"""Number of processes that may die at a source, none with more tiles than the one before, until it is quarantined."""

TAKEN_OVER = (
    "another process has taken it over, because this one, or the store, did not answer for two minutes"
)


class Ledger(ABC):
    """A ledger, opened by one process. It is made with the first source that is noted."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex[:12]
        """Name of this process among those that share the ledger."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- where it is kept

    @property
    @abstractmethod
    def address(self) -> str:
        """Path or address, for people."""

    @abstractmethod
    def is_there(self) -> bool:
        """Return whether there is a ledger, once what others have changed is seen.

        Raises
        ------
        LedgerError
            For something else at its place, and a place that cannot be reached.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of all."""

    @property
    @abstractmethod
    def _base(self) -> sqlite3.Connection:
        """What has the table."""

    @abstractmethod
    def _change(self, call: Callable[[], T]) -> T:
        """Carry out changes as a whole or not at all, while nobody else changes anything; return what they return.

        They may be carried out several times, of which one counts.
        """

    # ---- who works

    @abstractmethod
    def _hold(self) -> None:
        """Show the other processes that this one lives."""

    @abstractmethod
    def _is_alive(self, holder: str) -> bool:
        """Return whether a process that has shown that it lives still does."""

    @abstractmethod
    def _forget(self, holder: str) -> None:
        """Remove what is left of a process that died; there may be nothing."""

    # ---- rows

    def rows(self, numbers: Iterable[int] | None = None) -> list[Row]:
        """Return rows, all by default, in the order in which they were found; a ledger that is not there has none."""
        return self._known(numbers) if self.is_there() else []

    def _known(self, numbers: Iterable[int] | None = None) -> list[Row]:
        if numbers is None:
            found = self._base.execute("SELECT * FROM sources ORDER BY number")
        else:
            found = self._base.execute(
                "SELECT * FROM sources WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number",
                [json.dumps(list(numbers))],
            )
        return [row_of(one) for one in found]

    def note(self, recipe: str, found: Sequence[tuple[str, str, Sequence[str]]]) -> list[int]:
        """Note sources that are there now, and return the numbers of their rows, in the same order.

        Parameters
        ----------
        recipe : str
        found : sequence of tuple
            Address, stamp and targets of each. What was noted of the same address with another stamp, or for another
            recipe with the same targets, is `replaced`, unless a process works on it.
        """
        keys = [[address, stamp, recipe, json.dumps(list(to))] for address, stamp, to in found]
        return self._change(lambda: [self._note(key) for key in keys])

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
            "UPDATE sources SET state = ? WHERE address = ? AND targets = ? AND number != ? AND state NOT IN (?, ?)",
            [State.replaced, key[0], key[3], number, State.replaced, State.running],
        )
        # A source, or a spec, that is again what it was before: its result was replaced meanwhile.
        self._base.execute(
            "UPDATE sources SET state = ?, tries = 0, deaths = 0, due = 0 WHERE number = ? AND state = ?",
            [State.waiting, number, State.replaced],
        )
        return int(number)

    def others_targets(self, addresses: Iterable[str]) -> dict[str, str]:
        """Return what sources with other addresses have written or will write: target -> address."""
        if not self.is_there():
            return {}
        here = set(addresses)
        found = self._base.execute("SELECT address, targets FROM sources ORDER BY number")
        return {target: address for address, to in found if address not in here for target in json.loads(to)}

    def may_replace(self, row: Row) -> bool:
        """Return whether the targets of a row are results of what the same source was before."""
        (earlier,) = self._base.execute(
            "SELECT count(*) FROM sources WHERE address = ? AND recipe = ? AND targets = ? AND number != ? AND begun",
            [row.address, row.recipe, json.dumps(list(row.targets)), row.number],
        ).fetchone()
        return bool(earlier)

    def release(self, numbers: Iterable[int] | None = None) -> int:
        """Let quarantined and failed sources start anew; return how many there were."""
        wanted = None if numbers is None else list(numbers)

        def change() -> int:
            rows = [row for row in self._known(wanted) if row.state in (State.quarantined, State.failed)]
            for row in rows:
                self._set(row, state=State.waiting, tries=0, deaths=0, due=0.0)
            return len(rows)

        return self._change(change) if self.is_there() else 0

    # ---- the life of a row

    def claim(self, numbers: Iterable[int]) -> Row | None:
        """Take the first of some rows that is due, so that no other process does; None where there is none."""
        wanted = list(numbers)
        self._hold()
        return self._change(lambda: self._claim(wanted))

    def _claim(self, numbers: Sequence[int]) -> Row | None:
        for row in self._due(numbers):
            died = row.state is State.running
            if died and self._is_alive(row.holder):
                continue
            if row.deaths + died >= MOST_DEATHS:
                self._quarantine_deadly(row)
                continue
            self._take(row, deaths=row.deaths + died)
            return self._known([row.number])[0]
        return None

    def _due(self, numbers: Sequence[int]) -> Iterator[Row]:
        """Yield the rows that are running, or may be begun now."""
        found = self._base.execute(
            "SELECT * FROM sources WHERE number IN (SELECT value FROM json_each(?)) "
            "AND (state = ? OR (state IN (?, ?) AND due <= ?)) ORDER BY number",
            [json.dumps(numbers), State.running, State.waiting, State.failed, time.time()],
        )
        yield from map(row_of, found)

    def _take(self, row: Row, deaths: int) -> None:
        if row.holder:
            self._forget(row.holder)
        self._set(
            row,
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
            row,
            state=State.quarantined,
            message=f"{MOST_DEATHS} processes died while they worked on it, the last on {row.host}. Was the memory "
            "too small? See --memory.",
            ended=time.time(),
        )

    def begin(self, row: Row, tiles: int) -> None:
        """Note that the run of a row begins, with so many tiles that were finished before.

        Raises
        ------
        BusyError
            Where another process has taken the row.
        """
        deaths = 0 if tiles > row.tiles else row.deaths
        if not self._change(lambda: self._set(row, begun=True, tiles=tiles, deaths=deaths)):
            raise BusyError(f"{row.address}: {TAKEN_OVER}.")

    def end(
        self, row: Row, state: State, message: str = "", *, due: float = 0.0, counts: bool = True, **more: Any
    ) -> bool:
        """Note how a run ended; return False, and note nothing, where another process has taken the row.

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
        ended = {"state": state, "message": message, "due": due, "tries": tries, "ended": time.time()}
        return self._change(lambda: self._set(row, **ended, holder="", **more))

    def _set(self, row: Row, **values: Any) -> bool:
        """Change a row, unless another process has taken it since it was read."""
        columns = ", ".join(f"{name} = ?" for name in values)
        plain = [json.dumps(one) if isinstance(one, dict) else one for one in values.values()]
        done = self._base.execute(
            f"UPDATE sources SET {columns} WHERE number = ? AND holder = ?", [*plain, row.number, row.holder]
        )
        return done.rowcount == 1
