"""Keep the checksums of finished tiles, eight bytes each: a run may have millions of tiles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipelines.record.journal import Event, Finished

_NONE = -1


class Checksums:
    """The last checksum of each tile that was ever finished, by stage and tile."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._stages: dict[int, NDArray[np.int64]] = {}
        for event in events:
            self.note(event)

    def note(self, event: Event) -> None:
        """Take the checksum of a tile that an event says is finished; other events say nothing."""
        if not isinstance(event, Finished):
            return
        known = self._stages.get(event.stage, np.zeros(0, np.int64))
        if event.tile >= len(known):
            grown = np.full(max(2 * len(known), event.tile + 1), _NONE)
            grown[: len(known)] = known
            known = self._stages[event.stage] = grown
        known[event.tile] = event.crc

    def get(self, stage: int, tile: int) -> int | None:
        """Return the checksum of a tile, None of one that was never finished."""
        known = self._stages.get(stage, ())
        found = int(known[tile]) if tile < len(known) else _NONE
        return None if found == _NONE else found
