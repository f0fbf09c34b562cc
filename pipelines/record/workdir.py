"""Keep the folder of a run: lock, identity, epoch, journal, states, unfinished result, report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from pipelines.plan.plan import RUN_FOLDER, Begun, Geometry, Plan, new_folder
from pipelines.record.journal import Journal
from pipelines.refusal import RefusedError
from pipelines.spec.spec import Spec
from pipelines.store.place import LocalPlace, whole_name
from pipelines.tasks.fence import Fence

CHECKSUM = "checksum"
"""Key under which a JSON file of the run holds the CRC-32 of its other values."""

LOCK = ("lock", "holder")
RUN = "run.json"
CANCEL = "cancel"
"""File that asks the process that works on the run to stop."""

FILES = ("report.json", "workers.json", "journal.jsonl", "epoch", CANCEL)
"""Files of a run, besides those of the lock and `RUN`, that the next run removes."""


class BusyError(RefusedError):
    """Another process works on the same target."""


class OccupiedError(RefusedError):
    """The folder meant for a run holds something else."""


class DamagedError(RefusedError):
    """A file of a run cannot be what the run wrote."""


@contextlib.contextmanager
def held(file: Path, busy: Callable[[], Exception], patience: float = 0) -> Iterator[None]:
    """Hold a lock on a file, which the system lets go of when the process dies.

    Parameters
    ----------
    file : Path
    busy : callable
        Makes the error where another process holds it.
    patience : float
        Seconds to wait for it.
    """
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except filelock.Timeout:
        raise busy() from None
    try:
        yield
    finally:
        lock.release()


def is_held(file: Path) -> bool:
    """Return whether a process holds a lock on a file; where this one may not ask, nobody is seen."""
    if not file.exists():
        return False
    probe = filelock.FileLock(file)
    try:
        probe.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    probe.release()
    return False


class Workdir:
    """Files of one run, beside its target or where `run.workdir` says."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.journal = Journal(self.path / "journal.jsonl")

    @contextlib.contextmanager
    def lock(self, target: str) -> Iterator[None]:
        """Hold the run for this process.

        Raises
        ------
        BusyError
            Where another process holds it.
        OccupiedError
            Where the folder belongs to something else.
        """
        existed = self.path.exists()
        self.require_own()
        self.path.mkdir(parents=True, exist_ok=True)
        with held(self.path / "lock", lambda: self._busy(target)):
            try:
                (self.path / "holder").write_text(f"process {os.getpid()}")
                (self.path / CANCEL).unlink(missing_ok=True)  # it was meant for an earlier process
                yield
            finally:
                # While it is held: after that, the lock may be another process's.
                if not existed and not (self.path / RUN).exists():
                    self._remove_new()

    def _busy(self, target: str) -> BusyError:
        return BusyError(
            f"Another process ({self._holder()}) works on {target}. Wait for it, or stop it; "
            f"`diffuse status {target}` shows where it stands."
        )

    def _remove_new(self) -> None:
        """Remove the folder that a run has made in vain, unless somebody else has put a file there."""
        for name in LOCK:
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def require_own(self) -> None:
        """Refuse a folder that holds files but no run.

        Raises
        ------
        OccupiedError
        """
        found = sorted(child.name for child in self.path.iterdir()) if self.path.is_dir() else []
        # A run that was killed before it could say what it is has left some of its files.
        own = {RUN, *LOCK, *FILES}
        strangers = [name for name in found if whole_name(name) not in own and not _is_run(name)]
        if strangers and RUN not in found and not any(map(_is_run, found)):
            raise OccupiedError(
                f"{self.path} is no folder of a run: it holds {', '.join(found[:3])}{' ...' if found[3:] else ''}. "
                "Give run.workdir a folder that is empty, or is not there yet."
            )

    def is_locked(self) -> bool:
        """Return whether a process holds the run now."""
        return is_held(self.path / "lock")

    def ask_to_stop(self) -> None:
        """Ask the process that works on the run to take no more tiles."""
        (self.path / CANCEL).touch()

    @property
    def is_to_stop(self) -> bool:
        """True where somebody has asked the process that works on the run to stop."""
        return (self.path / CANCEL).exists()

    def _holder(self) -> str:
        try:
            return (self.path / "holder").read_text()
        except OSError:
            return "unknown"

    # ---- files

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the run, or None where there is none.

        Raises
        ------
        DamagedError
        """
        path = self.path / name
        try:
            values = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            values = None
        if not isinstance(values, dict) or values.pop(CHECKSUM, None) != _checksum(values):
            raise DamagedError(
                f"{path} is damaged: it is not what the run wrote there. Start anew with --overwrite, or remove "
                f"{self.path}."
            )
        return values

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file of the run, all of it or nothing."""
        plain = json.loads(json.dumps(values, default=str))
        self._replace(name, json.dumps({**plain, CHECKSUM: _checksum(plain)}, indent=1))

    def _replace(self, name: str, text: str) -> None:
        LocalPlace().write(str(self.path / name), text.encode())

    @property
    def begun(self) -> dict[str, Any] | None:
        """The run that began in this folder, or None.

        Raises
        ------
        DamagedError
        """
        return self.read(RUN)

    # ---- the life of a run

    def begin(self, spec: Spec, plan: Plan, chosen: Mapping[str, Any]) -> None:
        """Remove everything of an earlier run, and write what this one is and what it chose."""
        # By run.json the folder is known as a run's: the new one takes the place of the old one.
        self._clear_work()
        self.write(
            RUN,
            {
                "folder": plan.folder,
                "digest": plan.digest,
                "science": plan.science,
                "tile": plan.geometry.tile,
                "batch": plan.geometry.batch,
                "target": spec.sink.uri,
                "spec": spec.model_dump(mode="json"),
                "plan": plan.summary(),
                "identity": plan.source.identity,
                **chosen,
            },
        )

    def new_epoch(self) -> Fence:
        """Begin the epoch of this process: tasks of earlier ones cannot write any more."""
        epoch = uuid.uuid4().hex
        self._replace("epoch", epoch)
        return Fence(str(self.path / "epoch"), epoch)

    def clear(self) -> None:
        """Remove everything of a run but the lock; other files are left."""
        self._clear_work()
        (self.path / RUN).unlink(missing_ok=True)

    def _clear_work(self) -> None:
        self.journal.close()
        for child in list(self.path.iterdir()):
            if child.name != RUN and whole_name(child.name) in (RUN, *FILES):
                child.unlink(missing_ok=True)
            elif _is_run(child.name):
                # A run that is killed in between must not go on in what is left of its arrays.
                shutil.rmtree(child.rename(self.path / new_folder()))

    def has_tiles(self) -> bool:
        """Return whether any tile of the run was finished."""
        return next(self.journal.events(repair=False), None) is not None


def unfinished(run: Mapping[str, Any] | None, report: Mapping[str, Any] | None) -> Begun | None:
    """Return the run that a folder's run.json and report.json tell of, None where none began or it is finished."""
    if run is None or (report is not None and report["complete"]):
        return None
    return Begun(run["science"], Geometry(tuple(run["tile"]), run["batch"]), run["folder"])


def _is_run(name: str) -> bool:
    return RUN_FOLDER.fullmatch(name) is not None


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
