"""Predict the memory of a run and its time, from its stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pipelines.plan.stage import Stage
from pipelines.tasks.memory import DRIVER_BYTES, STORE_CLIENT_BYTES, loaded_kernels_bytes, total_memory

DRIVER_SECONDS = 0.0015
"""Time that scheduler and journal take per task, one task after another: it limits runs on many workers."""

TOLD_SHARE = 8
"""The part of the memory, one of so many, that merging tallies is expected to take at most."""

MORE_KERNELS, MORE_LOADED = 12 << 20, 2 << 20
"""Bytes of the kernels of each further operator, as the compiler leaves them, and as they are loaded; 6 to 10 and 1
MiB were measured."""


@dataclass(frozen=True)
class Moment:
    """A moment of a run that may take the most memory.

    Attributes
    ----------
    resident : int
        Resident bytes of all processes beside tallies.
    copies : int
        Bytes beside these, as a multiple of the tallies that are held.
    told : int
        Bytes of these tallies that are expected, of any memory.
    merging : int
        Largest number of copies of these tallies at any moment.
    """

    resident: int
    copies: int
    told: int = 0
    merging: int = 1

    def expected(self, memory: int) -> int:
        """Return the resident bytes with the tallies that are expected of so much memory: more of them stop a run."""
        return self.resident + self.copies * min(self.told, memory // (self.merging * TOLD_SHARE))

    @property
    def least(self) -> int:
        """The memory that is enough for the tallies that are expected of so much."""
        share = self.merging * TOLD_SHARE
        return min(self.resident + self.copies * self.told, self.resident * share // (share - self.copies))


def predict_memory(
    stages: Sequence[Stage], threads: int, processes: int, memory: int, loaded: bool = False
) -> int:
    """Return the largest resident bytes of a run that may take so much memory; see `find_moments`."""
    return max(one.expected(memory) for one in find_moments(stages, threads, processes, loaded))


def least_memory(stages: Sequence[Stage], processes: int, loaded: bool = False) -> int:
    """Return the memory that a run needs with one thread, tallies included that are expected of so much."""
    return max(one.least for one in find_moments(stages, 1, processes, loaded))


def find_moments(
    stages: Sequence[Stage], threads: int, processes: int, loaded: bool = False
) -> tuple[Moment, ...]:
    """Return the moments of a run that may take the most memory: tasks are at work, and the driver merges tallies.

    These are the same moment, unless all other stages are complete by then, or wait for what is merged. Before it the
    driver holds the tallies, after it what they have led to, which is less, and so do the tasks that read it. Kernels
    take less where they are only loaded, and not made.
    """
    kernels = kernels_bytes(stages, loaded)
    alone, clients = _alone(stages), (1 + processes) * store_client_bytes(stages)
    working = _tasks_bytes(stages, alone, threads, processes, kernels) + clients
    kept = max(stage.cost.kept_bytes for stage in stages)
    idle = total_memory([kept] * threads, processes, kernels) + clients
    told = {n: stage.work.told_bytes(stage.grid) for n, stage in enumerate(stages)}
    beside, most = 0, 1
    moments: list[Moment] = []
    for number, stage in enumerate(stages):
        merging = stage.work.merging
        if told[number] and stage.work.collects and number in alone:
            moments.append(Moment(working, min(1 + threads, merging), told[number], merging))
            moments.append(Moment(idle, merging, told[number], merging))
        elif told[number]:
            beside, most = beside + told[number], max(most, merging)
    return Moment(working, most, beside, most), *moments


def _tasks_bytes(stages: Sequence[Stage], alone: set[int], threads: int, processes: int, kernels: int) -> int:
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
    single = {n for n in alone if len(stages[n].grid) == 1}
    together: list[int] = []
    for one, number in sorted(
        ((one, n) for n, one in enumerate(tile_bytes) if n not in single), reverse=True
    ):
        together += [one] * min(tasks - len(together), len(stages[number].grid))
    # Tiles that have kept memory before each stage, and in the end.
    keeping = [0, *accumulate(len(stage.grid) if stage.cost.kept_bytes else 0 for stage in stages)]
    together += [kept] * min(threads - tasks, max(0, keeping[-1] - tasks))
    held = [together, *([tile_bytes[n]] + [kept] * min(threads - 1, keeping[n]) for n in single)]
    return max(total_memory(some, processes, kernels) for some in held)


def worker_memory(stages: Sequence[Stage]) -> int:
    """Return the largest resident bytes of a process that does one task at a time for a driver elsewhere."""
    most = max(one.resident for one in find_moments(stages, 1, 1))
    return most - DRIVER_BYTES - store_client_bytes(stages)


def store_client_bytes(stages: Sequence[Stage]) -> int:
    """Return the bytes of the client of a store in each process of a run whose state lies in one."""
    return STORE_CLIENT_BYTES if any(stage.uses_store for stage in stages) else 0


def kernels_bytes(stages: Sequence[Stage], loaded: bool = False) -> int:
    """Return the bytes of compiled kernels: of the stage that has the most, and what other operators add to these."""
    operators = frozenset().union(*(stage.work.compiled_for for stage in stages))
    most, more = max(stage.work.kernels_bytes for stage in stages), MORE_KERNELS
    if loaded:
        most, more = loaded_kernels_bytes(most), MORE_LOADED
    return most + more * max(0, len(operators) - 1)


def _alone(stages: Sequence[Stage]) -> set[int]:
    """Return the numbers of the stages that each other stage is read for, or reads: none works beside them."""
    read = [{*stage.after, *stage.needs} for stage in stages]
    # Sets of numbers as bits: a plan may have thousands of stages, and is predicted for many tiles.
    before, after = [1 << n for n in range(len(stages))], [1 << n for n in range(len(stages))]
    for number, numbers in enumerate(read):
        for one in numbers:
            before[number] |= before[one]
    for number, numbers in reversed(list(enumerate(read))):
        for one in numbers:
            after[one] |= after[number]
    everything = (1 << len(stages)) - 1
    return {n for n, (one, other) in enumerate(zip(before, after, strict=True)) if one | other == everything}


def expected_seconds(stages: Sequence[Stage], threads: int) -> float:
    """Return the expected time of all stages; threads may idle at the end of a stage, or wait for the driver."""
    tiles_per_thread = ((stage, math.ceil(len(stage.grid) / threads)) for stage in stages)
    working = sum(stage.seconds / len(stage.grid) * n for stage, n in tiles_per_thread)
    return max(working, DRIVER_SECONDS * sum(len(stage.grid) for stage in stages))
