"""Keep the journal: one line per event of a run, appended only after what it tells of is stored."""

from __future__ import annotations

import json
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.statistic import Tally


@dataclass(frozen=True)
class Finished:
    """A tile was finished.

    Attributes
    ----------
    stage, tile : int
    crc : int
        CRC-32 of its pixels, 0 where it wrote none.
    tallies : dict
        Contributions to statistics, per parameter.
    round : int
        Number of rounds of its stage before; in a worklist, number of visits of the tile before.
    """

    stage: int
    tile: int
    crc: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    round: int = 0

    def text(self) -> str:
        """Return the event as numbers, and its tallies as JSON behind them."""
        numbers = f"{self.stage} {self.tile} {self.crc} {self.round}"
        tallies = {name: tally.to_text() for name, tally in self.tallies.items()}
        return f"{numbers} {_json(tallies)}" if tallies else numbers


@dataclass(frozen=True)
class Forgotten:
    """The pixels of a tile or a stage are lost or damaged although they are still needed, so it must be done again.

    Attributes
    ----------
    stage : int
    tile : int or None
        Number of the tile; None for all tiles of the stage.
    """

    stage: int
    tile: int | None = None

    def text(self) -> str:
        """Return the event as JSON."""
        return _json(["forgotten", self.stage, self.tile])


@dataclass(frozen=True)
class Claimed:
    """A finished result is about to be moved to its target.

    Attributes
    ----------
    output : int
        Number of the result.
    stamp : list
        Mark of the file or folder, by which it is known again at the target.
    """

    output: int
    stamp: list[int]

    def text(self) -> str:
        """Return the event as JSON."""
        return _json(["claimed", self.output, self.stamp])


@dataclass(frozen=True)
class Published:
    """A result is complete at its target.

    Attributes
    ----------
    output : int
        Number of the result.
    crc : int
        CRC-32 of a file, or of the metadata of a hierarchy, whose pixels the events of its tiles tell.
    """

    output: int
    crc: int = 0

    def text(self) -> str:
        """Return the event as JSON."""
        return _json(["published", self.output, self.crc])


Event = Finished | Forgotten | Claimed | Published

_NAMED: dict[str, type[Forgotten | Claimed | Published]] = {
    "forgotten": Forgotten,
    "claimed": Claimed,
    "published": Published,
}

_DIGITS = 8


def _json(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))


def line_of(event: Event) -> bytes:
    """Return the line of an event: its checksum and its text."""
    text = event.text().encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def event_of(line: bytes) -> Event | None:
    """Return the event of a line; None where the line is damaged."""
    text = line[_DIGITS + 1 : -1]
    try:
        if int(line[:_DIGITS], 16) != zlib.crc32(text):
            return None
    except ValueError:
        return None
    if text.startswith(b"["):
        name, *values = json.loads(text)
        return _NAMED[name](*values)
    # Most lines are plain numbers, of which there may be millions.
    numbers = text.split(None, 4)
    texts = json.loads(numbers.pop()) if len(numbers) == 5 else {}
    stage, tile, crc, visits = map(int, numbers)
    return Finished(stage, tile, crc, {name: Tally.from_text(one) for name, one in texts.items()}, visits)


_BLOCK = 1 << 20
"""Bytes of the journal that are glanced at together."""

_OTHERS = re.compile(rb"^[0-9a-f]{8} \[.*\n", re.MULTILINE)


def glance_at(lines: bytes) -> Iterator[NDArray[np.int64] | Event]:
    """Yield finished tiles, as rows of stage and tile, and the other events of some lines."""
    at = 0
    for other in _OTHERS.finditer(lines) if b" [" in lines else ():
        yield _finished(lines[at : other.start()])
        event = event_of(other[0])
        if event is not None:
            yield event
        at = other.end()
    yield _finished(lines[at:])


def _finished(lines: bytes) -> NDArray[np.int64]:
    """Return stage and tile of all lines that are numbers, digit by digit of all lines at once."""
    signs = np.frombuffer(lines + b"\n" * (_DIGITS + 2), np.uint8)
    ends = np.flatnonzero(signs[: len(lines)] == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    stage, after, is_stage = _numbers(signs, starts + _DIGITS + 1)
    tile, _, is_tile = _numbers(signs, after + 1)
    return np.stack([stage, tile], axis=1)[is_stage & is_tile]


def _numbers(
    signs: NDArray[np.uint8], at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the numbers that begin at some places, where they end, and whether a space follows there."""
    values, begins = np.zeros(len(at), np.int64), at
    while True:
        digits = signs[at].astype(np.int64) - ord("0")
        more = (digits >= 0) & (digits <= 9)
        if not more.any():
            return values, at, (at > begins) & (signs[at] == ord(" "))
        values = np.where(more, values * 10 + digits, values)
        at = at + more


class Journal(ABC):
    """The events of a run, which only grow in number.

    Only the driver appends, after a task has reported that its chunks are written. A damaged line is passed over: its
    tile is done again.
    """

    @abstractmethod
    def events(self, repair: bool = True) -> Iterator[Event]:
        """Yield the events; with `repair` this process alone appends from now on, else another one may do so."""

    @abstractmethod
    def glance(self) -> Iterator[NDArray[np.int64] | Event]:
        """Yield finished tiles, as rows of stage and tile, many at a time, and the other events in their places.

        It is for those who watch a run: a million lines take half a second, as checksums and tallies are passed over.
        """

    @abstractmethod
    def append(self, event: Event) -> None:
        """Append an event; it outlives the process once `flush` has returned, or some seconds later."""

    def flush(self) -> None:  # noqa: B027 (a file needs none)
        """Bring all events to where they outlive the process."""

    def settle(self, stage: int, tile: int) -> None:  # noqa: B027 (a file needs none)
        """Bring the events of a tile to where they outlive the process, before what they tell of is written over."""

    @abstractmethod
    def changed(self) -> float | None:
        """Return the time of the last event, None where there is no journal."""

    @abstractmethod
    def close(self) -> None:
        """Bring everything to where it outlives the machine, and append no more."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all events."""


class FileJournal(Journal):
    """A journal in a file. A line that a crash cut short is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def events(self, repair: bool = True) -> Iterator[Event]:
        """Yield the events; `repair` removes a cut last line."""
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                event = event_of(line)
                if event is not None:
                    yield event
        if repair and whole < self.path.stat().st_size:
            os.truncate(self.path, whole)

    def glance(self) -> Iterator[NDArray[np.int64] | Event]:
        """Yield finished tiles and other events."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            rest = b""
            while block := file.read(_BLOCK):
                lines, end, rest = (rest + block).rpartition(b"\n")
                yield from glance_at(lines + end)

    def append(self, event: Event) -> None:
        """Append an event; the operating system has the line when the call returns."""
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        self._file.write(line_of(event))

    def changed(self) -> float | None:
        """Return when the file was last written."""
        try:
            return self.path.stat().st_mtime
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Write everything to the disk and close the file."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def clear(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)
