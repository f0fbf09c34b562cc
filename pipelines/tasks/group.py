"""Do a group of tiles in one task: Dask takes some milliseconds for a task, which a small tile is not worth."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelines.image.window import Grid
from pipelines.tasks.admission.proof import own_proof
from pipelines.tasks.fence import Fence, behind
from pipelines.tasks.kernels import load_kernels_once
from pipelines.tasks.values import Outcome
from pipelines.tasks.work import Work


@dataclass(frozen=True)
class Failure:
    """The error of a tile.

    Attributes
    ----------
    error : str
    number : int
        Number of the system's error that it comes from, 0 without one.
    path : str
        File that the system's error is about.
    """

    error: str
    number: int = 0
    path: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return what an error says."""
        text, cause = f"{type(error).__name__}: {error}", error.__cause__ or error.__context__
        while not isinstance(error, OSError) and cause is not None:
            error, cause = cause, cause.__cause__ or cause.__context__
        # Compiled codecs tell the system's error as a text.
        if "No space left on device" in text:
            return cls(text, errno.ENOSPC)
        number = error.errno or 0 if isinstance(error, OSError) else 0
        return cls(text, number, str(getattr(error, "filename", None) or ""))

    @property
    def disk_full(self) -> bool:
        """Whether no tile can be written."""
        return self.number in (errno.ENOSPC, errno.EDQUOT)

    def is_forbidden(self, folder: str) -> bool:
        """Return whether the system refused to write into a folder; trying again at once would not help."""
        return self.number in (errno.EACCES, errno.EPERM, errno.EROFS) and self.path.startswith(folder)


class OtherCodeError(RuntimeError):
    """A task that has reached a process which might compute other bits."""


class Task(Protocol):
    """What is to be done to tiles, such as a kind of work."""

    def perform(self, grid: Grid, tile: int) -> Outcome:
        """Do a tile."""


def perform_group(
    proof: str, fence: Fence, stage: str, work: Task, grid: Grid, tiles: Sequence[int]
) -> list[Outcome | Failure]:
    """Do tiles one after another; every task calls this function.

    Parameters
    ----------
    proof : str
        Digest of the proof that the process must have.
    fence : Fence
        Keeps the task from writing once another process has taken over the run.
    stage : str
        Name of the stage, see `stage_name`; kernels are loaded before its first tile in a process, and what is wrong
        with an operator its tiles say.
    work : Task
    grid : Grid
    tiles : sequence of int
        Numbers in the grid. One that fails does not keep the others from being done.

    Raises
    ------
    OtherCodeError
        In a process with another proof.
    """
    if own_proof().digest != proof:
        raise OtherCodeError("This worker has other code or libraries than the driver. Restart the worker.")
    if isinstance(work, Work):
        load_kernels_once(stage, work)
    with behind(fence):
        return [_perform(work, grid, tile) for tile in tiles]


def _perform(work: Task, grid: Grid, tile: int) -> Outcome | Failure:
    try:
        return work.perform(grid, tile)
    except Exception as error:
        return Failure.of(error)
