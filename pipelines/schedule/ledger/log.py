"""Keep the changes of a ledger's rows in a store: in a head, and in parts.

The head is one object, which has the latest changes itself and names the parts that have those before. It is replaced
only if it is the one that was looked at, so that changes follow each other one by one, whoever makes them, and one that
rests on what is so no longer is not made. Parts are written once, under names of their own; when there are many, one of
all rows takes their place. What is new is thereby known from one request, however many rows there are.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.schedule.ledger.rows import LedgerError
from pipelines.store.addresses import shown, within
from pipelines.store.place import Place

FORMAT, VERSION = "diffuse_ledger", 1
"""Key of the head, and its value."""

HEAD_BYTES = 1 << 16
"""Size from which the changes in a head go into a part: about fifty sources' from beginning to end."""

MOST_HEAD_BYTES = 1 << 20
"""Size from which an object cannot be a head, and is not read."""

MOST_PARTS = 16
"""Number of parts from which one takes their place."""

LATEST = 200
"""Number of changes whose names a head remembers, for those whose answer was lost on the way."""

TRIES = 5

Values = Mapping[str, Any]
"""One row, by the names of its columns."""


def beside(path: str, what: str) -> str:
    """Return the path of a folder that belongs to a ledger, hidden as the locks of one on a disk are.

    Examples
    --------
    >>> beside("bucket/in/scans.ledger", "parts")
    'bucket/in/.scans.ledger.parts'
    """
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{what}"


@dataclass(frozen=True)
class Head:
    """What the head says.

    Attributes
    ----------
    parts : sequence of str
        Names of the parts, in the order in which they count.
    rows : sequence of Values
        Rows as they were after changes later than those; of one row the last counts.
    latest : sequence of str
        Names of the latest changes.
    """

    parts: Sequence[str] = ()
    rows: Sequence[Values] = ()
    latest: Sequence[str] = ()

    def data(self) -> bytes:
        """Return the bytes of the object."""
        return json.dumps({FORMAT: VERSION, **asdict(self)}, separators=(",", ":")).encode()


class Log:
    """All changes of a ledger, as one process knows them.

    Parameters
    ----------
    place : Place
    path : str
        Path of the head; the parts are in a folder beside it.
    """

    def __init__(self, place: Place, path: str) -> None:
        self._place, self._path = place, path
        self._parts = beside(path, "parts")
        self._head: Head | None = None
        self._mark = ""
        """Of the head that is known."""
        self._read: set[str] = set()
        """Parts that are known."""

    @property
    def is_there(self) -> bool:
        """True where there was a head."""
        return self._head is not None

    def has(self, change: str) -> bool:
        """Return whether a change, made lately, is known to be made."""
        return self._head is not None and change in self._head.latest

    # ---- read

    def news(self) -> list[Values]:
        """Return rows that have changed since the last time, of which the last of each number counts.

        Raises
        ------
        LedgerError
            For something else in the place of a head, and where it is gone.
        """
        for _ in range(TRIES):
            mark, head = self._looked_at()
            if head is None:
                return []
            known = next((i for i, part in enumerate(head.parts) if part not in self._read), len(head.parts))
            try:
                rows = [row for part in head.parts[known:] for row in self._rows_of(part)]
            except FileNotFoundError:
                continue  # another part has taken its place meanwhile, which a new head says
            self._mark, self._head, self._read = mark, head, set(head.parts)
            return [*rows, *head.rows]
        raise LedgerError(f"{self._shown} is damaged: parts that it names are gone. {_OTHER}")

    @property
    def _shown(self) -> str:
        return shown(self._place.address(self._path))

    def _looked_at(self) -> tuple[str, Head | None]:
        """Return mark and content of the head; None where it is not there, or is the known one.

        The mark is asked for first: with one that is older than the content nothing can be replaced.
        """
        entry = self._place.entry(self._path)
        if entry is None:
            if self._head is not None:
                raise LedgerError(f"{self._shown} was removed while this process worked with it.")
            return "", None
        if entry.is_folder or (entry.size or 0) > MOST_HEAD_BYTES:
            raise LedgerError(f"{self._shown} is no ledger. {_OTHER}")
        if entry.mark == self._mark:
            return self._mark, None
        try:
            values = json.loads(self._place.read(self._path))
            if values.pop(FORMAT) == VERSION:
                return entry.mark, Head(**values)
        except (ValueError, AttributeError, LookupError, TypeError):
            pass  # it is something else
        raise LedgerError(f"{self._shown} is no ledger of this version of `diffuse watch`. {_OTHER}")

    def _rows_of(self, part: str) -> list[Values]:
        data = self._place.read(within(self._parts, part))
        try:
            return [json.loads(line) for line in gzip.decompress(data).splitlines()]
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise LedgerError(
                f"{self._shown} is damaged: its part {part} is not what was written."
            ) from error

    # ---- write

    def append(self, change: str, rows: Sequence[Values]) -> bool:
        """Make a change, unless there was one that is not known yet; return whether it is known to be made.

        Parameters
        ----------
        change : str
            A name of its own.
        rows : sequence of Values
            The rows that it changes, as they are then.
        """
        head = self._head or Head()
        new = Head(head.parts, [*head.rows, *rows], [*head.latest, change][-LATEST:])
        if len(data := new.data()) > HEAD_BYTES:
            part = self._write(new.rows)
            new = replace(new, parts=[*new.parts, part], rows=())
            data = new.data()
        written = (
            self._place.write_if_absent(self._path, data)
            if self._head is None
            else self._place.write_over(self._path, data, self._mark)
        )
        if written:
            self._head, self._read = new, set(new.parts)
            # Stores mark an object by the MD5 of its bytes. Where they do otherwise, it is read once more.
            self._mark = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return written

    def _write(self, rows: Iterable[Values]) -> str:
        name = f"{uuid.uuid4().hex}.jsonl.gz"
        lines = "".join(f"{json.dumps(dict(row))}\n" for row in rows)
        self._place.write(within(self._parts, name), gzip.compress(lines.encode()))
        return name

    @property
    def is_long(self) -> bool:
        """True where one part should take the place of all."""
        return self._head is not None and len(self._head.parts) >= MOST_PARTS

    def compact(self, rows: Iterable[Values]) -> None:
        """Let one part of all rows, as they are known, take the place of the known parts.

        Changes that others make meanwhile stay, as they count after it.
        """
        assert self._head is not None
        known = list(self._head.parts)
        part = self._write(rows)
        for _ in range(TRIES):
            self._mark = ""
            mark, head = self._looked_at()
            if head is None or list(head.parts[: len(known)]) != known:
                return  # another process has done it
            new = replace(head, parts=[part, *head.parts[len(known) :]])
            if self._place.write_over(self._path, new.data(), mark):
                self._read.add(part)
                self._sweep(part, new.parts)
                return

    def _sweep(self, part: str, named: Sequence[str]) -> None:
        """Delete parts that the head names no more, and those of changes that were not made.

        What was written before a part that has come into the head was for an earlier head, and cannot come into one.
        """
        there = {entry.name: entry.changed or 0.0 for entry in self._place.entries(self._parts)}
        old = [name for name, changed in there.items() if name not in named and changed < there[part]]
        self._place.delete([within(self._parts, name) for name in old])


_OTHER = "Choose another address with --ledger."
