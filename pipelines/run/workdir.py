"""Keep the folder of a run: lock, identity, journal, states, unfinished result, report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import psutil

from pipelines.plan.plan import Begun, Geometry, Plan
from pipelines.refusal import RefusedError
from pipelines.run.journal import Journal
from pipelines.spec.spec import Spec

CLOCK_SECONDS = 60
"""Seconds by which the boot time may seem to change when the clock is set."""


class BusyError(RefusedError):
    """Another process works on the same target."""


class OccupiedError(RefusedError):
    """The folder meant for a run holds something else."""


class Workdir:
    """Files of one run, beside its target or where `run.workdir` says."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.journal = Journal(self.path / "journal.jsonl")

    @property
    def publishing(self) -> bool:
        """True once the old target is out of the way: a target that exists is then this run's own finished result."""
        return (self.path / "publishing").exists()

    def begin_publishing(self) -> None:
        """Note that the old target is out of the way, and that the result is moved to the target now."""
        (self.path / "publishing").touch()

    @contextlib.contextmanager
    def lock(self, target: str) -> Iterator[None]:
        """Hold the run for this process.

        Raises
        ------
        BusyError
            Where another process holds it.
        OccupiedError
            Where the folder holds other files, which a run would remove.
        """
        existed = self.path.exists()
        self._refuse_other_files()
        self.path.mkdir(parents=True, exist_ok=True)
        holder = filelock.FileLock(self.path / "lock")
        try:
            holder.acquire(timeout=0)
        except filelock.Timeout:
            raise BusyError(
                f"Another process ({self._holder()}) works on {target}. Wait for it, or stop it; "
                f"`diffuse status {target}` shows where it stands."
            ) from None
        try:
            (self.path / "holder").write_text(f"process {os.getpid()}")
            yield
        finally:
            holder.release()
            if not existed and not (self.path / "run.json").exists():
                shutil.rmtree(self.path, ignore_errors=True)

    def _refuse_other_files(self) -> None:
        found = sorted(child.name for child in self.path.iterdir()) if self.path.is_dir() else []
        if found and not {"lock", "holder"} & set(found):
            raise OccupiedError(
                f"{self.path} is no folder of a run: it holds {', '.join(found[:3])}{' ...' if found[3:] else ''}, "
                "which a run would remove. Give run.workdir a folder that is empty, or is not there yet."
            )

    def is_locked(self) -> bool:
        """Return whether a process holds the run now."""
        probe = filelock.FileLock(self.path / "lock")
        try:
            probe.acquire(timeout=0)
        except filelock.Timeout:
            return True
        probe.release()
        return False

    def _holder(self) -> str:
        try:
            return (self.path / "holder").read_text()
        except OSError:
            return "unknown"

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the run, or None."""
        try:
            values: dict[str, Any] = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        return values

    @property
    def begun(self) -> dict[str, Any] | None:
        """The identity of the run that began in this folder, or None."""
        return self.read("run.json")

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file of the run, all of it or nothing."""
        text = json.dumps(values, indent=1, default=str)
        temporary = self.path / f"{name}.tmp"
        temporary.write_text(text)
        os.replace(temporary, self.path / name)

    def begin(self, spec: Spec, plan: Plan, chosen: Mapping[str, Any]) -> None:
        """Remove everything of an earlier run, and write the identity of this one and what it chose."""
        self.clear()
        self.write(
            "run.json",
            {
                "digest": plan.digest,
                "science": plan.science,
                "tile": plan.geometry.tile,
                "batch": plan.geometry.batch,
                "target": spec.sink.uri,
                "spec": spec.model_dump(mode="json"),
                "plan": plan.summary(),
                "identity": plan.source.identity,
                "boot": psutil.boot_time(),
                **chosen,
            },
        )

    def machine_restarted(self) -> bool:
        """Return whether the machine has restarted since the run began, so that writes may be lost."""
        begun = (self.begun or {}).get("boot", 0.0)
        return bool(abs(begun - psutil.boot_time()) > CLOCK_SECONDS)

    def clear(self) -> None:
        """Remove everything but the lock."""
        self.journal.close()
        for child in self.path.iterdir():
            if child.name in ("lock", "holder"):
                continue
            shutil.rmtree(child) if child.is_dir() else child.unlink()

    def has_tiles(self) -> bool:
        """Return whether any tile of the run was finished."""
        return next(self.journal.events(repair=False), None) is not None

    def unfinished(self) -> Begun | None:
        """Return the run that began in this folder and is not finished, or None."""
        run, report = self.begun, self.read("report.json")
        if run is None or (report is not None and report["complete"]):
            return None
        return Begun(run["science"], Geometry(tuple(run["tile"]), run["batch"]))

    def drop(self, name: str) -> None:
        """Remove a folder that nothing reads any more."""
        shutil.rmtree(self.path / name, ignore_errors=True)
