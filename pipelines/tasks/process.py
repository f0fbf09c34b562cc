"""Make a process ready for tasks: allocator and codecs, the same in the driver and in every worker."""

from __future__ import annotations

from pipelines.store.arrays import use_fast_codecs
from pipelines.tasks.memory import steady_allocator


def prepare_process(threads: int = 1) -> None:
    """Set allocator and codecs for `threads` tasks at a time.

    To be called before a source is opened: its arrays keep the codecs that are in force then.
    """
    steady_allocator()
    use_fast_codecs(threads)
