"""Keep a ledger in an object store, so that machines without a disk in common share the work.

Each process has the table in its memory, and changes it as one on a disk is changed; the rows that a change has touched
are then written, unless another process was faster: then the change is taken back, and made anew upon what is so now. A
process shows that it lives by a lease.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipelines.record.holding import LASTS_SECONDS, SeenLease, StoredLease
from pipelines.refusal import RefusedError
from pipelines.schedule.ledger.ledger import Ledger
from pipelines.schedule.ledger.log import Log, Values, beside
from pipelines.schedule.ledger.rows import COLUMNS, TABLE, LedgerError
from pipelines.store.addresses import shown, within
from pipelines.store.place import NotExclusiveError
from pipelines.store.places import advice, place_of

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds for which a change is tried, while other processes make theirs."""

LONGEST_PAUSE = 2.0

SWEPT_SECONDS = 5 * LASTS_SECONDS
"""Age of the lease of a process, which it has not renewed, that is removed."""

_TOUCHED = """
CREATE TABLE touched (number INTEGER PRIMARY KEY);
CREATE TRIGGER added AFTER INSERT ON sources BEGIN INSERT OR IGNORE INTO touched VALUES (new.number); END;
CREATE TRIGGER changed AFTER UPDATE ON sources BEGIN INSERT OR IGNORE INTO touched VALUES (new.number); END;
"""
"""Has the numbers of rows that were changed."""


class LedgerInStore(Ledger):
    """A ledger at an address.

    Parameters
    ----------
    address : str

    Raises
    ------
    LedgerError
        For an address with a password or a token, and a store that there is not.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        if shown(address) != address:
            raise LedgerError(
                f"--ledger {shown(address)!r} holds a user name, a password or a token. Give them by the environment, "
                "or by the usual profile, of your store."
            )
        self._address = address.rstrip("/")
        self._written = False
        """Whether the store is known to take what is written."""
        with self._reaching():
            self._place, self._path = place_of(self._address)
        self._log = Log(self._place, self._path)
        self._holders = beside(self._path, "holders")
        self._lease: StoredLease | None = None
        self._held = contextlib.ExitStack()
        self._others: dict[str, SeenLease] = {}

    @property
    def address(self) -> str:
        """Address of the head."""
        return self._address

    def close(self) -> None:
        """End the lease."""
        self._held.close()
        if "_base" in vars(self):
            self._base.close()

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Refuse a store that cannot hold a ledger; what fails once it has held one is no refusal.

        Raises
        ------
        LedgerError
        """
        try:
            yield
        except RefusedError:
            raise
        except NotExclusiveError as error:
            raise LedgerError(
                f"--ledger cannot be {shown(self._address)}. {error} Choose a file on a disk that all machines share, "
                "or a store that keeps to conditions, such as S3."
            ) from error
        except Exception as error:
            if self._written:
                raise
            # Every store has errors of its own: no network, no bucket, no credentials, no library.
            raise LedgerError(
                f"--ledger {shown(self._address)!r} cannot be used: {shown(str(error))}. {advice(self._address)}"
            ) from error

    # ---- the table, and its changes

    @functools.cached_property
    def _base(self) -> sqlite3.Connection:
        base = sqlite3.connect(":memory:", isolation_level=None)
        base.row_factory = sqlite3.Row
        base.executescript(TABLE + ";" + _TOUCHED)
        return base

    def is_there(self) -> bool:
        """Return whether there is a ledger, once the changes of others are in the table."""
        with self._reaching():
            news = self._log.news()
        if news:
            self._take_in(news)
        return self._log.is_there

    def _take_in(self, rows: list[Values]) -> None:
        values = ", ".join(f":{name}" for name in COLUMNS)
        self._base.execute("BEGIN")
        try:
            self._base.executemany(f"REPLACE INTO sources ({', '.join(COLUMNS)}) VALUES ({values})", rows)
        except (sqlite3.Error, TypeError, ValueError) as error:
            self._base.execute("ROLLBACK")
            raise LedgerError(
                f"{shown(self._address)} is damaged: its rows cannot be understood ({error})."
            ) from error
        self._base.execute("COMMIT")

    def _change(self, call: Callable[[], T]) -> T:
        until, longest, name = time.monotonic() + PATIENCE, 0.05, uuid.uuid4().hex[:8]
        while True:
            self.is_there()
            self._base.execute("BEGIN")
            try:
                self._base.execute("DELETE FROM touched")
                result = call()
                made = self._write(name)
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT" if made else "ROLLBACK")
            if made:
                break
            if time.monotonic() > until:
                raise TimeoutError(f"{shown(self._address)}: others were faster for {PATIENCE:.0f} seconds.")
            time.sleep(random.uniform(0, longest))
            longest = min(LONGEST_PAUSE, 2 * longest)
            self.is_there()
            if self._log.has(name):
                break  # it was made, but the answer was lost on the way
        if self._log.is_long:
            self._log.compact(self._values("SELECT * FROM sources ORDER BY number"))
        return result

    def _write(self, name: str) -> bool:
        """Write the rows that a change has touched; return False where others have changed any meanwhile."""
        touched = self._values("SELECT * FROM sources WHERE number IN (SELECT number FROM touched)")
        if touched:
            if self._lease is None:
                self._hold()
            with self._reaching():
                if not self._log.append(name, touched):
                    return False
            self._written = True
        return True

    def _values(self, query: str) -> list[Values]:
        return [dict(row) for row in self._base.execute(query)]

    # ---- who works

    def _of(self, token: str) -> str:
        """Return the path of the lease of a process."""
        return within(self._holders, token)

    def _hold(self) -> None:
        if self._lease is not None and self._lease.refresh():
            return
        if self._lease is not None:
            # It was taken for dead while it slept, or did not reach the store: it goes on as another one.
            self._held.close()
            self._token = uuid.uuid4().hex[:12]
        self._lease = StoredLease(self._place, self._of(self._token), self._address)
        busy = AssertionError("the lease has a name of its own")
        with self._reaching():
            self._held.enter_context(self._lease.hold(lambda found, left: busy))
            self._sweep(self._lease.now())

    def _sweep(self, now: float) -> None:
        """Remove what processes that died have left."""
        there = self._place.entries(self._holders)
        old = [one.name for one in there if one.changed and now - one.changed > SWEPT_SECONDS]
        self._place.delete([self._of(name) for name in old])

    def _is_alive(self, holder: str) -> bool:
        if holder == self._token:
            return True
        assert self._lease is not None, "who asks lives"
        other = self._others.setdefault(holder, SeenLease(self._place, self._of(holder)))
        return other.is_held(self._lease.now())

    def _forget(self, holder: str) -> None:
        self._place.delete([self._of(holder)])
        self._others.pop(holder, None)
