"""Hold a target from the start of a run to its end, so that no two runs, in whatever folders, work for the same one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from pipelines.record.workdir import BusyError
from pipelines.store.addresses import local_path


@contextlib.contextmanager
def lease(target: str, workdir: Path) -> Iterator[None]:
    """Hold a local target while the context lasts; the system lets go of it when the process dies.

    Raises
    ------
    BusyError
        Where another run holds it.
    """
    path = local_path(target)
    if path is None:
        yield
        return
    file = path.resolve().with_name(f".{path.name}.lease")
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = _read(file.with_suffix(".holder"))
        raise BusyError(
            f"Another process ({holder.get('holder', 'unknown')}) works on {target}, in the folder "
            f"{holder.get('workdir', 'unknown')}. Wait for it, stop it, or choose another target."
        ) from None
    note = file.with_suffix(".holder")
    try:
        note.write_text(
            json.dumps(
                {"holder": f"process {os.getpid()} on {socket.gethostname()}", "workdir": str(workdir)}
            )
        )
        yield
    finally:
        note.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        lock.release()


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values
