"""Make a process ready for tasks: allocator and codecs, the same in the driver and in every worker."""

from __future__ import annotations

import platform
import tempfile

from pipelines.refusal import RefusedError
from pipelines.store.addresses import is_remote
from pipelines.store.arrays import use_fast_codecs
from pipelines.tasks.memory import give_back_compiler, steady_allocator


def prepare_process(threads: int = 1) -> None:
    """Set allocator and codecs for `threads` tasks at a time.

    Call it before a source is opened: arrays keep the codecs that are set when they are opened.
    """
    # Workers tell it to their scheduler. `platform` would start a process to find out, which for a moment counts as
    # much memory as this one. It keeps an answer in its value of `uname`.
    vars(platform.uname()).setdefault("processor", platform.machine())
    steady_allocator()
    use_fast_codecs(threads)
    # What importing it takes.
    give_back_compiler()


def use_temporary_folder(folder: str) -> None:
    """Let temporary files, such as those of Dask's workers, lie in `folder` where no usual place can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if is_remote(folder):
            raise RefusedError(
                "There is no folder for temporary files that can be written, which a run whose folder is in a store "
                "needs. Say one in the environment (TMPDIR)."
            ) from None
        tempfile.tempdir = folder
