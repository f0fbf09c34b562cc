"""Load the kernels of a stage before its tiles are in memory, and give back what the compiler took for that."""

from __future__ import annotations

import threading

from diffusion_ops.blocks.spare import release_spare
from diffusion_ops.compilation import NotKeptError
from pipelines.tasks.memory import give_back_compiler
from pipelines.tasks.work import Work

_lock = threading.Lock()
_loaded: set[str] = set()


def load_kernels(work: Work) -> str:
    """Load what the tasks of a stage need, or compile and keep it; return what went wrong first, "" for nothing.

    Raises
    ------
    NotKeptError
        Where kernels may only be loaded, and one is not there.
    """
    wrong = ""
    for walls in (False, True) if work.may_have_walls else (False,):
        try:
            work.rehearse(walls)
        except NotKeptError:
            raise
        except Exception as error:
            wrong = wrong or f"{type(error).__name__}: {error}"
    return wrong


def stage_name(digest: str, number: int) -> str:
    """Return the name by which a process remembers a stage: stages of plans with one digest have the same kernels."""
    return f"{digest}-{number}"


def load_kernels_once(stage: str, work: Work) -> str:
    """Load the kernels of a stage where this process has not done so; return what went wrong first, "" for nothing."""
    with _lock:
        if stage in _loaded:
            return ""
        # What the thread keeps of the stage before would be held beside the compiler.
        release_spare()
        wrong = load_kernels(work)
        give_back_compiler()
        _loaded.add(stage)
        return wrong
