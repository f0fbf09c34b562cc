"""Hold targets from the start of a run to its end, so that no two runs, in whatever folders, work for the same one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipelines.record.holding import BusyError, Lease, StoredLease, held
from pipelines.store.addresses import is_address, local_path, outside, shown
from pipelines.store.place import NotExclusiveError
from pipelines.store.places import place_of


def lease(target: str, workdir: str | Path) -> AbstractContextManager[Lease]:
    """Return a context that holds a target for the run in a folder, which this process holds.

    Raises
    ------
    BusyError
        Where another run holds it.
    """
    folder = str(workdir) if is_address(str(workdir)) else os.path.abspath(workdir)
    path = local_path(target)
    return _stored_lease(target, folder) if path is None else _local_lease(target, path, folder)


def _busy(target: str, values: Mapping[str, Any], until: str = "") -> BusyError:
    return BusyError(
        f"Another run ({values.get('holder', 'unknown')} on {values.get('host', 'unknown')}, in the folder "
        f"{values.get('workdir', 'unknown')}) works for {shown(target)}. Wait for it, stop it, or choose another "
        f"target.{until}"
    )


# ---- on a disk


@contextlib.contextmanager
def _local_lease(target: str, path: Path, workdir: str) -> Iterator[Lease]:
    beside = Path(outside(str(path.absolute())))
    file = beside.with_name(f".{beside.name}.lease")
    note = file.with_suffix(".holder")
    holder = {"holder": f"process {os.getpid()}", "host": socket.gethostname(), "workdir": shown(workdir)}
    with held(file, lambda: _busy(target, _values(note))):
        try:
            note.write_text(json.dumps(holder))
            yield Lease()
        finally:
            note.unlink(missing_ok=True)
            file.unlink(missing_ok=True)


def _values(note: Path) -> dict[str, Any]:
    try:
        values = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


# ---- in a store


@contextlib.contextmanager
def _stored_lease(target: str, workdir: str) -> Iterator[Lease]:
    place, path = place_of(target)
    mine = StoredLease(place, f"{path.rstrip('/')}.lease", target, {"workdir": shown(workdir)})

    def busy(found: Mapping[str, Any], left: float) -> BusyError:
        return _busy(target, found, f" If it was killed, its lease ends in {left:.0f} s.")

    def given_up(found: Mapping[str, Any]) -> bool:
        # This process holds the folder: whoever wrote this for a run in it has died.
        same_disk = is_address(workdir) or found.get("host") == socket.gethostname()
        return same_disk and found.get("workdir") == shown(workdir)

    with contextlib.ExitStack() as holding:
        try:
            held = holding.enter_context(mine.hold(busy, given_up))
        except NotExclusiveError:
            # Nothing tells two runs apart there but the last look at the target, before anything is written.
            held = Lease()
        yield held
