"""Keep the folder of a run: lock, identity, epoch, journal, states, unfinished result, report."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.plan.plan import RUN_FOLDER, Begun, Geometry, Plan, new_folder
from pipelines.record.holding import BusyError, Lease, StoredLease, held, is_held
from pipelines.record.journal import FileJournal, Journal
from pipelines.record.segments import SegmentJournal
from pipelines.refusal import RefusedError
from pipelines.spec.spec import Spec
from pipelines.store.addresses import local_path, shown, within
from pipelines.store.place import NotExclusiveError, whole_name
from pipelines.store.places import advice, place_of
from pipelines.store.targets import names_in, remove_below
from pipelines.tasks.fence import Fence

CHECKSUM = "checksum"
"""Key under which a JSON file of the run holds the CRC-32 of its other values."""

LOCK = ("lock", "holder")
RUN = "run.json"
CANCEL = "cancel"
"""File that asks the process that works on the run to stop."""

JOURNAL = "journal"
"""Folder of the segments of a journal in a store."""

_TRY = re.compile(rf"{LOCK[0]}\.[0-9a-f]{{32}}")

FILES = ("report.json", "workers.json", "journal.jsonl", "epoch", CANCEL)
"""Files of a run, besides those of the lock and `RUN`, that the next run removes."""


class OccupiedError(RefusedError):
    """The folder meant for a run holds something else."""


class UnfitStoreError(RefusedError):
    """A store that cannot hold the folder of a run."""


class DamagedError(RefusedError):
    """A file of a run cannot be what the run wrote."""


class Workdir:
    """Files of one run, beside its target or where `run.workdir` says: in a folder, or in a store.

    In a store the lock is a lease, and the journal lies in segments; all else is the same.

    Attributes
    ----------
    uri : str
        Path or address.
    journal : Journal
    """

    def __init__(self, uri: str) -> None:
        path = local_path(uri)
        self.uri = uri.rstrip("/") if path is None else str(path)
        self._path = path
        with self._reaching():
            self._place, self._base = place_of(self.uri)
        self.journal: Journal = (
            FileJournal(path / "journal.jsonl")
            if path is not None
            else SegmentJournal(self._place, self._inside(JOURNAL))
        )

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Refuse a store that cannot be reached, or does not let the run in.

        Raises
        ------
        UnfitStoreError
        """
        try:
            yield
        except RefusedError:
            raise
        except Exception as error:
            if self._path is not None:
                raise
            # Every store has errors of its own: no network, no bucket, no credentials, no library.
            raise UnfitStoreError(
                f"run.workdir {shown(self.uri)!r} cannot be used: {shown(str(error))}. {advice(self.uri)}"
            ) from error

    def _inside(self, name: str) -> str:
        return within(self._base, name)

    def _names(self) -> set[str]:
        return names_in(self._place, self._base)

    @contextlib.contextmanager
    def lock(self, target: str) -> Iterator[Lease]:
        """Hold the run for this process.

        Raises
        ------
        BusyError
            Where another process holds it.
        OccupiedError
            Where the folder belongs to something else.
        UnfitStoreError
            Where the folder is in a store that cannot tell two runs apart.
        """
        existed = bool(self._names()) if self._path is None else self._path.exists()
        self.require_own()
        with self._held(target) as lease:
            try:
                if self._path is not None:
                    (self._path / LOCK[1]).write_text(f"process {os.getpid()}")
                self._place.delete([self._inside(CANCEL)])  # it was meant for an earlier process
                yield lease
            finally:
                # While it is held: after that, the lock may be another process's.
                if self._path is not None and not existed and not (self._path / RUN).exists():
                    self._remove_new(self._path)

    @contextlib.contextmanager
    def _held(self, target: str) -> Iterator[Lease]:
        if self._path is not None:
            self._path.mkdir(parents=True, exist_ok=True)
            with held(self._path / "lock", lambda: self._busy(target, self._holder())):
                yield Lease()
            return

        def busy(found: Mapping[str, Any], left: float) -> BusyError:
            holder = f"{found.get('holder', 'unknown')} on {found.get('host', 'unknown')}"
            return self._busy(target, holder, f" If it was killed, its lease ends in {left:.0f} s.")

        with contextlib.ExitStack() as holding:
            with self._reaching():
                try:
                    lease = holding.enter_context(self._lease().hold(busy))
                except NotExclusiveError as error:
                    raise UnfitStoreError(
                        f"run.workdir cannot be {shown(self.uri)}. {error} Give run.workdir a folder on a disk that "
                        "driver and workers see, or a store that keeps to conditions, such as S3."
                    ) from error
            yield lease

    def _lease(self) -> StoredLease:
        return StoredLease(self._place, self._inside(LOCK[0]), self.uri)

    def _busy(self, target: str, holder: str, until: str = "") -> BusyError:
        return BusyError(
            f"Another process ({holder}) works on {shown(target)}. Wait for it, or stop it; "
            f"`diffuse status {shown(target)}` shows where it stands.{until}"
        )

    def _remove_new(self, path: Path) -> None:
        """Remove the folder that a run has made in vain, unless somebody else has put a file there."""
        for name in LOCK:
            (path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.rmdir()

    def require_own(self) -> None:
        """Refuse a folder that holds files but no run.

        Raises
        ------
        OccupiedError
        """
        with self._reaching():
            found = sorted(self._names())
        # A run that was killed before it could say what it is has left some of its files.
        strangers = [name for name in found if not _is_own(name) and not _is_run(name)]
        if strangers and RUN not in found and not any(map(_is_run, found)):
            raise OccupiedError(
                f"{shown(self.uri)} is no folder of a run: it holds {', '.join(found[:3])}"
                f"{' ...' if found[3:] else ''}. "
                "Give run.workdir a folder that is empty, or is not there yet."
            )

    def is_locked(self) -> bool:
        """Return whether a process holds the run now."""
        return self._lease().is_held(time.time()) if self._path is None else is_held(self._path / LOCK[0])

    def ask_to_stop(self) -> None:
        """Ask the process that works on the run to take no more tiles."""
        self._place.write(self._inside(CANCEL), b"")

    @property
    def is_to_stop(self) -> bool:
        """True where somebody has asked the process that works on the run to stop."""
        return self._place.entry(self._inside(CANCEL)) is not None

    def _holder(self) -> str:
        try:
            return self._place.read(self._inside(LOCK[1])).decode()
        except OSError:
            return "unknown"

    # ---- files

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the run, or None where there is none.

        Raises
        ------
        DamagedError
        """
        try:
            values = json.loads(self._place.read(self._inside(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            values = None
        if not isinstance(values, dict) or values.pop(CHECKSUM, None) != _checksum(values):
            raise DamagedError(
                f"{shown(within(self.uri, name))} is damaged: it is not what the run wrote there. Start anew with "
                f"--overwrite, or remove {shown(self.uri)}."
            )
        return values

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file of the run, all of it or nothing."""
        plain = json.loads(json.dumps(values, default=str))
        self._replace(name, json.dumps({**plain, CHECKSUM: _checksum(plain)}, indent=1))

    def _replace(self, name: str, text: str) -> None:
        self._place.write(self._inside(name), text.encode())

    def changed(self, name: str) -> float | None:
        """Return the time of the last change of a file by the clock of its place, None where there is no such file."""
        try:
            entry = self._place.entry(self._inside(name))
        except NotADirectoryError:
            return None
        return None if entry is None else entry.changed

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
        return Fence(within(self.uri, "epoch"), epoch)

    def clear(self) -> None:
        """Remove everything of a run but the lock; other files are left."""
        self._clear_work()
        self._place.delete([self._inside(RUN)])

    def _clear_work(self) -> None:
        self.journal.clear()
        found = sorted(self._names())
        self._place.delete([self._inside(n) for n in found if n != RUN and whole_name(n) in (RUN, *FILES)])
        for name in filter(_is_run, found):
            if self._path is None:
                remove_below(within(self.uri, name))
            else:
                # A run that is killed in between must not go on in what is left of its arrays.
                shutil.rmtree((self._path / name).rename(self._path / new_folder()))

    def has_tiles(self) -> bool:
        """Return whether any tile of the run was finished."""
        return next(self.journal.events(repair=False), None) is not None


def unfinished(run: Mapping[str, Any] | None, report: Mapping[str, Any] | None) -> Begun | None:
    """Return the run that a folder's run.json and report.json tell of, None where none began or it is finished."""
    if run is None or (report is not None and report["complete"]):
        return None
    return Begun(run["science"], Geometry(tuple(run["tile"]), run["batch"]), run["folder"])


def _is_own(name: str) -> bool:
    """Return whether a name is that of a file of a run; a try of the store has the lock's name and a token."""
    return whole_name(name) in {RUN, *LOCK, *FILES, JOURNAL} or _TRY.fullmatch(name) is not None


def _is_run(name: str) -> bool:
    return RUN_FOLDER.fullmatch(name) is not None


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
