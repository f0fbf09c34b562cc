"""Define the events that the engine sends to listeners; the engine prints nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Choosing:
    """Times or parameters are being chosen from samples, before a run is planned.

    Attributes
    ----------
    title : str
        Name of what is being chosen, for people.
    part : float
        Fraction of the work that is done, from 0 to 1.
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
    """A run begins or resumes.

    Attributes
    ----------
    target : str
    plan : dict
        The plan's numbers, as in `Plan.summary`.
    tiles : int
        Number of tiles of all stages.
    done : int
        Number of tiles that were finished before.
    """

    target: str
    plan: dict[str, Any]
    tiles: int
    done: int


@dataclass(frozen=True)
class Connected:
    """Workers are there.

    Attributes
    ----------
    cluster : str
        Name of their kind of cluster, or the address of their scheduler.
    dashboard : str
        Address of the pages that show what they do, "" without any.
    """

    cluster: str
    dashboard: str


@dataclass(frozen=True)
class Waiting:
    """No worker has done anything for a while.

    Attributes
    ----------
    reason : str
        What the run waits for, and what may be done about it.
    seconds : float
        Time that it has waited.
    """

    reason: str
    seconds: float


@dataclass(frozen=True)
class WorkerLeftOut:
    """A worker of the scheduler gets no task, because it might compute other bits.

    Attributes
    ----------
    worker : str
        Its address.
    reason : str
        How it differs from the driver.
    """

    worker: str
    reason: str


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
        Time that the task took.
    cell_steps : int
        Pixels of the tile times steps of the stage.
    memory_bytes : int
        Resident memory of the driver and the other processes of the run on this machine, now.
    left : int or None
        Number of tiles of the run that are left, which grows where tiles must be done again; None where it is not
        counted.
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
    """A task raised an error; the tile will be tried `left` more times."""

    stage: int
    tile: int
    window: str
    error: str
    left: int


@dataclass(frozen=True)
class TileLost:
    """A finished tile is damaged or gone, and will be done again.

    Attributes
    ----------
    stage, tile : int
    title : str
        Title of the stage.
    window : str
        Region of the tile.
    """

    stage: int
    tile: int
    title: str
    window: str


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
    """The run ended; `report` holds the values of report.json."""

    report: dict[str, Any]


@dataclass(frozen=True)
class SourcesFound:
    """A pattern was looked for.

    Attributes
    ----------
    pattern : str
    count : int
        Number of sources that are there now.
    changing : int
        Number of those that may still be being written.
    """

    pattern: str
    count: int
    changing: int


@dataclass(frozen=True)
class SourceStarted:
    """A source's turn has come, for the `tries`-th time."""

    address: str
    target: str
    tries: int


@dataclass(frozen=True)
class SourceEnded:
    """The turn of a source is over.

    Attributes
    ----------
    address, target : str
    state : str
        What the ledger has of it now.
    message : str
        Why it was refused or failed, "" where it is done.
    seconds : float
    """

    address: str
    target: str
    state: str
    message: str
    seconds: float


Event = (
    Choosing
    | Compiling
    | RunStarted
    | Connected
    | Waiting
    | WorkerLeftOut
    | StageStarted
    | TileDone
    | TileFailed
    | TileLost
    | StageDone
    | Exporting
    | SourcesFound
    | SourceStarted
    | SourceEnded
    | RunFinished
)


class Listener(Protocol):
    """A callable that takes events; the driver calls it in its own thread, and it must not raise."""

    def __call__(self, event: Event) -> None:
        """Take one event."""


def tell(listeners: Iterable[Listener], event: Event) -> None:
    """Send an event to all listeners."""
    for listener in listeners:
        listener(event)
