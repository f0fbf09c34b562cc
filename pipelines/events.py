"""Everything the engine has to say, as events; it prints nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Choosing:
    """Times or parameters choose themselves from samples, before a run is planned.

    Attributes
    ----------
    title : str
        What is being chosen.
    part : float
        Of the work that is done, from 0 to 1.
    """

    title: str
    part: float


@dataclass(frozen=True)
class Compiling:
    """Kernels of a stage are loaded or compiled, before anything needs them.

    Attributes
    ----------
    title : str
        Of the stage.
    part : float
        Of the stages that are done, from 0 to 1.
    """

    title: str
    part: float


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on.

    Attributes
    ----------
    target : str
    plan : dict
        The plan's numbers, as in `Plan.summary`.
    tiles : int
        Tiles of all stages.
    done : int
        Tiles found finished from an earlier run.
    dashboard : str
        Address of the scheduler's dashboard, "" without one.
    """

    target: str
    plan: dict[str, Any]
    tiles: int
    done: int
    dashboard: str = ""


@dataclass(frozen=True)
class StageStarted:
    """The first tile of a stage was handed out."""

    stage: int
    title: str
    tiles: int


@dataclass(frozen=True)
class TileDone:
    """A tile is on disk and in the journal.

    Attributes
    ----------
    stage, tile : int
    read_bytes, written_bytes : int
    seconds : float
        Spent by the task.
    cell_steps : int
        Pixels times steps that the tile stands for.
    memory_bytes : int
        Resident memory of the worker's process at its peak.
    left : int or None
        Tiles of the run that are left: more than before where some are to be done again; None where nobody counts.
    """

    stage: int
    tile: int
    read_bytes: int
    written_bytes: int
    seconds: float
    cell_steps: int
    memory_bytes: int
    left: int | None = None


@dataclass(frozen=True)
class TileFailed:
    """A task raised; `left` more tries will be made."""

    stage: int
    tile: int
    window: str
    error: str
    left: int


@dataclass(frozen=True)
class StageDone:
    """All tiles of a stage are done; `values` are the statistics that it reduced."""

    stage: int
    title: str
    seconds: float
    values: dict[str, float]


@dataclass(frozen=True)
class Exporting:
    """The finished arrays are being turned into the target's format."""

    target: str


@dataclass(frozen=True)
class RunFinished:
    """The run ended; `report` is what was written to report.json."""

    report: dict[str, Any]


Event = (
    Choosing
    | Compiling
    | RunStarted
    | StageStarted
    | TileDone
    | TileFailed
    | StageDone
    | Exporting
    | RunFinished
)


class Listener(Protocol):
    """Something that wants to know; called in the driver's own thread, and must not raise."""

    def __call__(self, event: Event) -> None:
        """Take one event."""


def tell(listeners: Iterable[Listener], event: Event) -> None:
    """Give an event to all listeners."""
    for listener in listeners:
        listener(event)
