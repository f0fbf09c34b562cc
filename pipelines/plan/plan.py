"""Define the plan as a value (stages over grids), and predict its memory, bytes and seconds."""

from __future__ import annotations

import functools
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.image.frames import Frames
from pipelines.image.info import ImageInfo
from pipelines.image.sink import Level, SinkSpec
from pipelines.image.window import Grid
from pipelines.tasks.memory import total_memory
from pipelines.tasks.values import Cost
from pipelines.tasks.work import Work

READ_RATE, WRITE_RATE, TASK_SECONDS = 1.5e9, 0.8e9, 0.01
"""Bytes per second of one core through the codecs, and the overhead of a task; measured, to choose and to predict."""

DRIVER_SECONDS = 0.0015
"""Time that scheduler and journal take per task, one task after another: it limits runs on many workers."""


MERGING = 6
"""Memory of merging tallies and concluding from them, as a multiple of the tallies themselves; 3 to 6 were measured."""

FEW_BYTES = 1 << 20
"""Bytes of tallies that are not counted."""

TOLD_SHARE = 8
"""The part of the memory, one of so many, that merging tallies is expected to take at most."""

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
class Stage:
    """All tiles of one kind of work.

    Attributes
    ----------
    title : str
        Title for people.
    work : Work
        Work of each task.
    grid : Grid
        Tiles of the stage.
    after : tuple of int
        Numbers of the stages whose output it reads, tile by tile; none for the source.
    needs : tuple of int
        Numbers of the stages that must be complete before its first tile: those that measure its statistics, and
        the last readers of states that are removed first.
    """

    title: str
    work: Work
    grid: Grid
    after: tuple[int, ...] = ()
    needs: tuple[int, ...] = ()

    @functools.cached_property
    def cost(self) -> Cost:
        """Predicted cost of the stage; asked for again for every number of threads that a plan may have."""
        return self.work.cost(self.grid)

    @property
    def seconds(self) -> float:
        """Expected time on one core."""
        cost = self.cost
        moving = cost.read_bytes / READ_RATE + cost.written_bytes / WRITE_RATE
        return cost.seconds + moving + TASK_SECONDS * len(self.grid)


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
    def memory_total(self) -> int:
        """Predicted resident bytes of all processes together."""
        return self.memory_with(expected_told_bytes(self.stages, self.memory_limit), self.threads)

    def memory_with(self, told: int, threads: int) -> int:
        """Return the resident bytes of a run whose tallies take `told` bytes."""
        return predict_memory(self.stages, threads, threads if self.processes else 0, told) + self.extra_bytes

    @property
    def tallies_limit(self) -> int:
        """Bytes of tallies that can be merged without going over the memory; few are among the small objects."""
        allowed = self.memory_limit - self.extra_bytes
        moments = find_moments(self.stages, self.threads, self.processes)
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


@dataclass(frozen=True)
class Moment:
    """A moment of a run that may take the most memory.

    Attributes
    ----------
    resident : int
        Resident bytes of all processes beside tallies.
    copies : int
        Bytes beside these, as a multiple of all tallies.
    """

    resident: int
    copies: int


def predict_memory(stages: Sequence[Stage], threads: int, processes: int, told: int = 0) -> int:
    """Return the largest resident bytes of a run whose tallies take `told` bytes."""
    return max(one.resident + one.copies * told for one in find_moments(stages, threads, processes))


def find_moments(stages: Sequence[Stage], threads: int, processes: int) -> tuple[Moment, ...]:
    """Return the moments of a run that may take the most memory: tasks are at work, and the driver merges tallies.

    These are the same moment, unless all other stages are complete by then, or wait for what is merged. Before it the
    driver holds the tallies, after it what they have led to, which is less, and so do the tasks that read it.
    """
    working = _tasks_bytes(stages, threads, processes)
    telling = [n for n, stage in enumerate(stages) if stage.work.told_bytes(stage.grid)]
    if not all(stages[n].work.collects and _is_alone(stages, n) for n in telling):
        return (Moment(working, MERGING),)
    kept = max(stage.cost.kept_bytes for stage in stages)
    idle = total_memory([kept] * threads, processes, kernels_bytes(stages))
    return Moment(working, min(1 + threads, MERGING)), Moment(idle, MERGING)


def _tasks_bytes(stages: Sequence[Stage], threads: int, processes: int) -> int:
    """Return the largest resident bytes of all processes while tasks are at work.

    A tile is worked on by one stage at a time, for each branch of the stages. So tasks of several stages run at a time
    where one has fewer tiles than there are threads. A thread without a task keeps the memory of its last block.
    """
    costs = [stage.cost for stage in stages]
    kept = max(cost.kept_bytes for cost in costs)
    read = {number for stage in stages for number in (*stage.after, *stage.needs)}
    tasks = min(threads, max(len(stage.grid) for stage in stages) * (len(stages) - len(read)))
    # A task may find the memory of a larger block than it needs.
    tile_bytes = [cost.memory_bytes + (kept - cost.kept_bytes if cost.kept_bytes else 0) for cost in costs]
    # Such as a copy of the source, or the coarsest level of a pyramid.
    alone = {n for n, stage in enumerate(stages) if len(stage.grid) == 1 and _is_alone(stages, n)}
    together: list[int] = []
    for one, number in sorted(((one, n) for n, one in enumerate(tile_bytes) if n not in alone), reverse=True):
        together += [one] * min(tasks - len(together), len(stages[number].grid))
    keeping = [len(stage.grid) if stage.cost.kept_bytes else 0 for stage in stages]
    together += [kept] * min(threads - tasks, max(0, sum(keeping) - tasks))
    held = [together, *([tile_bytes[n]] + [kept] * min(threads - 1, sum(keeping[:n])) for n in alone)]
    compiled = kernels_bytes(stages)
    return max(total_memory(some, processes, compiled) for some in held)


def kernels_bytes(stages: Sequence[Stage]) -> int:
    """Return the bytes of the compiled kernels of the stage that has the most; they share many."""
    return max(stage.work.kernels_bytes for stage in stages)


def expected_told_bytes(stages: Sequence[Stage], memory: int) -> int:
    """Return the bytes of all tallies that are expected of a run, of all memory; one with more of them stops."""
    told = sum(stage.work.told_bytes(stage.grid) for stage in stages)
    return min(told, memory // (MERGING * TOLD_SHARE))


def least_memory(stages: Sequence[Stage], processes: int) -> int:
    """Return the memory that a run needs with one thread, tallies included that are expected of so much."""
    share = MERGING * TOLD_SHARE
    moments = find_moments(stages, 1, processes)
    most = max(one.resident * share // (share - one.copies) for one in moments)
    return predict_memory(stages, 1, processes, expected_told_bytes(stages, most))


def _is_alone(stages: Sequence[Stage], number: int) -> bool:
    """Return whether each other stage is read for a stage, or reads what that makes."""
    readers = _readers(stages, number)
    return all(one in readers or number in _readers(stages, one) for one in range(len(stages)))


def _readers(stages: Sequence[Stage], number: int) -> set[int]:
    """Return a stage, and those that read it or others of these."""
    found = {number}
    for one, stage in enumerate(stages):
        if found.intersection((*stage.after, *stage.needs)):
            found.add(one)
    return found


def expected_seconds(stages: Sequence[Stage], threads: int) -> float:
    """Return the expected time of all stages; threads may idle at the end of a stage, or wait for the driver."""
    tiles_per_thread = ((stage, math.ceil(len(stage.grid) / threads)) for stage in stages)
    working = sum(stage.seconds / len(stage.grid) * n for stage, n in tiles_per_thread)
    return max(working, DRIVER_SECONDS * sum(len(stage.grid) for stage in stages))
