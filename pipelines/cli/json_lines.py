"""Print events as lines of JSON, for programs that follow a run."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import IO, Any

from pipelines.events import Event


class JsonProgress:
    """One JSON object per event and line: its fields, and `event`, the event's name in snake case."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __enter__(self) -> JsonProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        print(json_line(event_name(event), **fields), file=self._stream, flush=True)


def event_name(event: Event) -> str:
    """Return the event's name in snake case: "tile_done"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()


def json_line(event: str, **fields: Any) -> str:
    """Return one JSON object for a line of output."""
    return json.dumps({"event": event, **fields}, default=str)
