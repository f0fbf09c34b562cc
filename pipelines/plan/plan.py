"""Define the plan as a value: stages over grids, what they read and write, and what is predicted of them."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.image.frames import Frames
from pipelines.image.info import ImageInfo
from pipelines.image.sink import Level, SinkSpec
from pipelines.plan.prediction import (
    Moment,
    expected_seconds,
    find_moments,
    worker_memory,
)
from pipelines.plan.stage import Stage

FEW_BYTES = 1 << 20
"""Bytes of tallies that are not counted."""

SOURCE_LISTING = "source.npz"
"""File among the arrays of a run with the listing of its source, for workers in other processes."""

RUN_FOLDER = re.compile("run-[0-9a-f]{12}")
"""Names of folders with the arrays of one run."""


def new_folder() -> str:
    """Return a name for the arrays of one run that no other run has."""
    return f"run-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Geometry:
    """Tile and batch, which a resumed run must keep.

    Attributes
    ----------
    tile : tuple of int
        Length of a tile per canonical axis.
    batch : int
        Largest number of steps of one pass.
    """

    tile: tuple[int, ...]
    batch: int


@dataclass(frozen=True)
class Begun:
    """A run that was begun and is not finished.

    Attributes
    ----------
    science : str
        Digest of what the pixels of its result depend on.
    geometry : Geometry
    folder : str
        Name of the folder of its arrays.
    """

    science: str
    geometry: Geometry
    folder: str


@dataclass(frozen=True)
class Output:
    """A result: a sink, and the arrays that it is made of.

    Attributes
    ----------
    spec : SinkSpec
    folder : str
        Name of the folder of the arrays inside the folder of the run's arrays, until they are complete.
    info : ImageInfo
    levels : tuple of Level
    is_zarr : bool
        True where the target itself holds the arrays.
    is_table : bool
        True where the target is a table, and arrays are only what it is made from.
    format : str
        Name of the format's class.
    library_bytes : int
        Resident memory of the format's library.
    fill : float or None
        Fill value of invalid pixels in a result that is a new quantity; None where they get back the source's.
    """

    spec: SinkSpec
    folder: str
    info: ImageInfo
    levels: tuple[Level, ...]
    is_zarr: bool
    is_table: bool
    format: str
    library_bytes: int
    fill: float | None = None


@dataclass(frozen=True)
class Plan:
    """A run in numbers.

    Attributes
    ----------
    source : ImageInfo
    outputs : tuple of Output
        Result, and further outputs.
    frames : Frames
    stages : tuple of Stage
    geometry : Geometry
    threads, processes : int
        Number of tasks at a time; number of processes that run them, 0 for this one.
    memory_limit : int
    extra_bytes : int
        Resident memory beside processes and tasks: the libraries of formats, a dashboard.
    notes : tuple of str
        Remarks that a user should know before starting.
    digest : str
        Digest of source, parameters, geometry and code, which state, journal and result belong to.
    science : str
        Digest of source, parameters and code alone, which the result's pixels depend on.
    folder : str
        Name of the folder of this run's arrays, inside the run's folder: no two runs have the same.
    loaded : bool
        True where kernels are counted as loaded: this process has made none of them, and need not.
    """

    source: ImageInfo
    outputs: tuple[Output, ...]
    frames: Frames
    stages: tuple[Stage, ...]
    geometry: Geometry
    threads: int
    processes: int
    memory_limit: int
    extra_bytes: int
    notes: tuple[str, ...]
    digest: str
    science: str
    folder: str
    loaded: bool

    @property
    def result(self) -> ImageInfo:
        """Metadata of the result."""
        return self.outputs[0].info

    @property
    def levels(self) -> tuple[Level, ...]:
        """Arrays of the result."""
        return self.outputs[0].levels

    @property
    def memory_per_task(self) -> int:
        """Predicted bytes of the largest task."""
        return max(stage.cost.memory_bytes for stage in self.stages)

    @property
    def worker_bytes(self) -> int:
        """Predicted resident bytes of a process that does one task at a time."""
        return worker_memory(self.stages)

    @property
    def memory_total(self) -> int:
        """Predicted resident bytes of all processes together."""
        return max(one.expected(self.memory_limit) for one in self._moments(self.threads)) + self.extra_bytes

    def memory_with(self, told: int, threads: int) -> int:
        """Return the resident bytes of a run of which tallies of `told` bytes are held at a time."""
        moments = self._moments(threads)
        return max(one.resident + one.copies * told for one in moments) + self.extra_bytes

    def _moments(self, threads: int) -> tuple[Moment, ...]:
        return find_moments(self.stages, threads, threads if self.processes else 0, self.loaded)

    @functools.cached_property
    def tallies_limit(self) -> int:
        """Bytes of tallies that can be merged without going over the memory; few are among the small objects.

        The driver asks for every tile, of which there may be millions.
        """
        allowed = self.memory_limit - self.extra_bytes
        moments = self._moments(self.threads)
        return max(FEW_BYTES, min((allowed - one.resident) // one.copies for one in moments))

    def output_of(self, stage: Stage) -> int | None:
        """Return the number of the result that a stage writes a level of; None for a stage that writes none."""
        if stage.work.writes is None:
            return None
        name = stage.work.writes.root.rpartition("/")[2]
        return next((n for n, output in enumerate(self.outputs) if output.folder == name), None)

    @property
    def tiles(self) -> int:
        """Number of tiles of all stages."""
        return sum(len(stage.grid) for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Expected time of the run."""
        return expected_seconds(self.stages, self.threads)

    def summary(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        costs = [stage.cost for stage in self.stages]
        passes = [stage for stage in self.stages if stage.work.is_pass]
        steps = sum(cost.cell_steps for cost in costs)
        return {
            "source": {"shape": self.source.shape, "axes": self.source.axes, "dtype": str(self.source.dtype)},
            "result": {
                "table": self.outputs[0].is_table,
                "dtype": str(self.result.dtype),
                "levels": [
                    {"shape": v.info.shape, "axes": v.info.axes, "chunks": v.chunks} for v in self.levels
                ],
            },
            "axes": self.frames.axes,
            "diffuses_along": self.frames.spatial,
            "spacing": self.frames.spacing,
            "tile": self.geometry.tile,
            "batch": self.geometry.batch,
            "passes": len(passes),
            "halo": [stage.work.halo for stage in passes],
            "tiles": self.tiles,
            "threads": self.threads,
            "processes": self.processes,
            "cell_steps": steps,
            "redundancy": sum(cost.computed for cost in costs) / steps if steps else 1.0,
            "bytes_read": sum(cost.read_bytes for cost in costs),
            "bytes_written": sum(cost.written_bytes for cost in costs),
            "disk_bytes": self._disk_bytes(),
            "memory_per_task": self.memory_per_task,
            "memory_total": self.memory_total,
            "memory_limit": self.memory_limit,
            "kernels": "loaded" if self.loaded else "compiled",
            "expected_seconds": self.seconds,
            "outputs": [output.spec.uri for output in self.outputs],
            "stages": [self._stage_summary(stage) for stage in self.stages],
            "notes": self.notes,
            "digest": self.digest,
        }

    def _stage_summary(self, stage: Stage) -> dict[str, Any]:
        return {
            "title": stage.title,
            "tiles": len(stage.grid),
            "tile": stage.grid.tile,
            "memory_per_task": stage.cost.memory_bytes,
            "expected_seconds": stage.seconds / self.threads,
        }

    def _disk_bytes(self) -> int:
        """Return the most uncompressed bytes on disk at a time: the result, a copy, and up to three states."""
        written = [stage.cost.written_bytes for stage in self.stages]
        states = [w for w, s in zip(written, self.stages, strict=True) if s.work.is_state]
        others = sum(written) - sum(states)
        return others + sum(sorted(states)[-3:])


def library_bytes(outputs: Sequence[Output]) -> int:
    """Return the resident memory of the libraries of the results' formats, which stay loaded."""
    return sum({output.format: output.library_bytes for output in outputs}.values())
