"""Keep the journal: one line per event of a tile, appended only after the tile's pixels are written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

    def to_line(self) -> str:
        """Return the event as a line of JSON."""
        values: dict[str, Any] = {"stage": self.stage, "tile": self.tile, "crc": self.crc}
        if self.tallies:
            values["tallies"] = {name: tally.to_lists() for name, tally in self.tallies.items()}
        if self.round:
            values["round"] = self.round
        return _line(values)


@dataclass(frozen=True)
class Forgotten:
    """The pixels of a tile or a stage are lost although they are still needed, so it must be done again.

    Attributes
    ----------
    stage : int
    tile : int or None
        Number of the tile; None for all tiles of the stage.
    """

    stage: int
    tile: int | None = None

    def to_line(self) -> str:
        """Return the event as a line of JSON."""
        return _line({"forgotten": self.stage, "tile": self.tile})


Event = Finished | Forgotten


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"


def event_from_line(line: str) -> Event:
    """Return the event that `to_line` wrote."""
    values = json.loads(line)
    if "forgotten" in values:
        return Forgotten(values["forgotten"], values["tile"])
    tallies = {name: Tally.from_lists(lists) for name, lists in values.get("tallies", {}).items()}
    return Finished(values["stage"], values["tile"], values["crc"], tallies, values.get("round", 0))


class Journal:
    """The events of a run, in a file that only grows.

    Only the driver appends, after a task has reported that its chunks are written. A line that a crash cut short is
    removed, so its tile is done again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def events(self, repair: bool = True) -> Iterator[Event]:
        """Yield the events; `repair` removes a cut last line, and must be False where another process may write it."""
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield event_from_line(line.decode())
        if repair and whole < self.path.stat().st_size:
            os.truncate(self.path, whole)

    def append(self, event: Event) -> None:
        """Append an event; the operating system has the line when the call returns."""
        if self._file is None:
            self._file = self.path.open("a", encoding="ascii")
        self._file.write(event.to_line())
        self._file.flush()

    def close(self) -> None:
        """Write everything to the disk and close the file."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
