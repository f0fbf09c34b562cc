"""Keep a journal in a store, where nothing can be appended to an object: as segments, each written once.

A segment holds the lines of some seconds. Its name has the number of the first and of the last segment that it stands
for. A process writes each new number only if there is none: whoever begins to write a journal takes the next number, so
that an earlier process that still writes finds it taken, and stops. Small segments are joined: the joined one stands
for all of them, whether they are deleted yet or not.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.record.journal import Event, Finished, Journal, event_of, glance_at, line_of
from pipelines.refusal import RefusedError
from pipelines.store.addresses import shown, within
from pipelines.store.patience import patiently
from pipelines.store.place import Place

FLUSH_SECONDS = 2.0
"""Time after which lines are written: a killed run does the tiles of this time again."""

FLUSH_BYTES = 1 << 18
"""Bytes of lines that are written at once."""

JOINED = 64
"""Number of new segments that are joined."""

JOINED_BYTES = 8 << 20
"""Bytes from which a segment is not joined with more."""

BEGINNING_BYTES = 42
"""Bytes of a segment without events."""

READ_AT_ONCE = 8

_NAME = re.compile(r"(\d{8})-(\d{8})\.jsonl")


class TakenOverError(RefusedError):
    """Another process writes the journal now."""


@dataclass(frozen=True, order=True)
class Segment:
    """One object of a journal.

    Attributes
    ----------
    first, last : int
        Numbers of the segments that it stands for.
    size : int
    """

    first: int
    last: int
    size: int = 0

    @property
    def name(self) -> str:
        """Name of the object."""
        return f"{self.first:08d}-{self.last:08d}.jsonl"


class SegmentJournal(Journal):
    """A journal in a folder of a store."""

    def __init__(self, place: Place, path: str) -> None:
        self._place, self._path = place, path
        self._lock, self._writing = threading.Lock(), threading.RLock()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._unwritten: set[tuple[int, int]] = set()
        self._segments: list[Segment] = []
        self._following = 0
        """Number of the next segment, 0 while this process does not write."""
        self._error: Exception | None = None
        self._told = False
        """Whether the error has been raised where somebody hears it."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # ---- read

    def _listed(self) -> list[Segment]:
        """Return the segments in order, without those that a joined one stands for."""
        try:
            entries = self._place.entries(self._path)
        except FileNotFoundError:
            return []
        found = [
            Segment(int(m[1]), int(m[2]), e.size or 0) for e in entries if (m := _NAME.fullmatch(e.name))
        ]
        chosen: list[Segment] = []
        for one in sorted(found, key=lambda segment: (segment.first, -segment.last)):
            if not chosen or one.first > chosen[-1].last:
                chosen.append(one)
        return chosen

    def _read(self, segment: Segment) -> bytes:
        return self._place.read(within(self._path, segment.name))

    def _texts(self) -> list[bytes]:
        """Return all lines, of one moment: segments may be joined while they are read."""

        def read() -> list[bytes]:
            with ThreadPoolExecutor(READ_AT_ONCE) as pool:
                return list(pool.map(self._read, self._listed()))

        return patiently(read, absent_passes=True)

    def events(self, repair: bool = True) -> Iterator[Event]:
        """Yield the events; with `repair` no other process can append any more."""
        if repair:
            self._take_over()
        for text in self._texts():
            for line in text.splitlines(keepends=True):
                event = event_of(line) if line.endswith(b"\n") else None
                if event is not None:
                    yield event
        if repair:
            self._join()

    def glance(self) -> Iterator[NDArray[np.int64] | Event]:
        """Yield finished tiles and other events."""
        for text in self._texts():
            yield from glance_at(text)

    def changed(self) -> float | None:
        """Return when the last segment was written."""
        try:
            times = [entry.changed for entry in self._place.entries(self._path)]
        except FileNotFoundError:
            return None
        return max((time for time in times if time is not None), default=None)

    # ---- write

    def _take_over(self) -> None:
        """Write a segment without events, after which an earlier process cannot write any."""
        while True:
            self._segments = self._listed()
            self._following = self._segments[-1].last + 1 if self._segments else 1
            if self._create(b""):
                return

    def _create(self, lines: bytes) -> bool:
        """Write the next segment, and return whether nobody else has."""
        # A line without an event, by which two writers differ.
        data = b"########-%s\n%s" % (uuid.uuid4().hex.encode(), lines)
        new = Segment(self._following, self._following, len(data))
        if not self._place.write_if_absent(within(self._path, new.name), data):
            return False
        self._segments.append(new)
        self._following += 1
        return True

    def append(self, event: Event) -> None:
        """Append an event, which is written some seconds later at most."""
        assert self._following, "a journal is read before it is written"
        self._require_writing()
        line = line_of(event)
        with self._lock:
            self._lines.append(line)
            self._bytes += len(line)
            if isinstance(event, Finished):
                self._unwritten.add((event.stage, event.tile))
            much = self._bytes > FLUSH_BYTES
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_in_time, daemon=True, name="journal")
            self._thread.start()
        if much:
            self.flush()

    def _require_writing(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _write_in_time(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            try:
                self.flush()
            except Exception as error:
                # Told to the thread that appends, or closes the journal, next.
                self._error, self._told = self._error or error, False
                return

    def flush(self) -> None:
        """Write a segment of all events that are not written yet.

        Raises
        ------
        TakenOverError
        """
        self._require_writing()
        with self._writing:
            with self._lock:
                lines, tiles = self._lines, set(self._unwritten)
                self._lines, self._bytes = [], 0
            if not lines:
                return
            try:
                written = self._create(b"".join(lines))
            except Exception as error:
                # Later events must not be written without these.
                self._error = error
            else:
                place = shown(self._place.address(self._path))
                if not written:
                    self._error = TakenOverError(f"Another process has taken over the run in {place}.")
            self._require_writing()
            with self._lock:
                self._unwritten -= tiles
            if sum(one.first == one.last for one in self._segments) >= 2 * JOINED:
                self._join()

    def settle(self, stage: int, tile: int) -> None:
        """Write the events of a tile before what they tell of is written over."""
        if (stage, tile) in self._unwritten:
            self.flush()

    def _join(self) -> None:
        """Join small segments that follow each other, and delete them."""
        with self._writing:
            groups: list[list[Segment]] = [[]]
            for one in self._segments:
                if groups[-1] and sum(s.size for s in groups[-1]) + one.size > JOINED_BYTES:
                    groups.append([])
                groups[-1].append(one)
            self._segments = [self._joined(group) for group in groups if group]
            assert all(one.last + 1 == other.first for one, other in pairwise(self._segments))

    def _joined(self, group: list[Segment]) -> Segment:
        if len(group) == 1:
            return group[0]
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            data = b"".join(pool.map(self._read, group))
        joined = Segment(group[0].first, group[-1].last, len(data))
        self._place.write(within(self._path, joined.name), data)
        # Those that a process began with stay: an earlier one that still writes must find them.
        self._place.delete([within(self._path, one.name) for one in group if one.size > BEGINNING_BYTES])
        return joined

    def close(self) -> None:
        """Write what is left, and append no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            if self._following and not self._told:
                self.flush()
        finally:
            self._thread, self._following, self._error, self._told = None, 0, None, False
            self._lines, self._bytes, self._stop = [], 0, threading.Event()
            self._unwritten.clear()

    def clear(self) -> None:
        """Delete all segments."""
        self.close()
        names = [entry.name for entry in self._place.entries(self._path)] if self._listed() else []
        self._place.delete([within(self._path, name) for name in names if _NAME.fullmatch(name)])
