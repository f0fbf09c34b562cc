"""Reduce whole-image quantities over the chunks of Dask arrays, lazily: a tally per chunk, merged in a tree."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from diffusion_ops.blocks.statistic import Reduction, Statistic, Tally
from diffusion_ops.containers.chunk_task import ChunkTask
from diffusion_ops.containers.dask_windows import map_windows
from diffusion_ops.evolution.reach import widest
from diffusion_ops.evolution.refreshed import Refreshed, named_after

_FAN_IN = 16
"""Number of tallies merged by one task."""

Tallies = Mapping[str, Tally]


def reduce_statistics(task: ChunkTask, statistics: Mapping[str, Statistic], arrays: list[Any]) -> Any:
    """Return the lazy mapping from parameters to the values of their statistics."""
    if not statistics:
        return {}
    return _reduce(task, statistics, arrays, functools.partial(_values, statistics), {})


def reduce_numbers(task: ChunkTask, refreshed: Refreshed, steps: int, arrays: list[Any], bound: Any) -> Any:
    """Return the lazy mapping `bound` with the numbers of the state after some steps."""
    return _reduce(task, {"": refreshed}, arrays, functools.partial(_numbers, refreshed, steps), bound)


def _reduce(
    task: ChunkTask,
    reductions: Mapping[str, Reduction],
    arrays: list[Any],
    finish: Callable[[Tallies], dict[str, float]],
    bound: Any,
) -> Any:
    ones = tuple((1,) * n for n in arrays[0].numblocks)
    task = task.reaching(widest(one.radius(task.spacing) for one in reductions.values()))
    tallies = map_windows(
        _measure_chunk, arrays, task.tiling, ones, np.dtype(object), task=task, reductions=reductions
    )
    return _reduce_tree(tallies, reductions, finish, bound)


def _measure_chunk(
    *windows: Any, task: ChunkTask, reductions: Mapping[str, Reduction], block_id: tuple[int, ...]
) -> Any:
    block, keep = task.block(windows, block_id), task.window(block_id).keep
    result = np.empty((1,) * windows[0].ndim, object)
    result.flat[0] = {name: one.measure(block, keep) for name, one in reductions.items()}
    return result


def _reduce_tree(
    tallies: Any,
    reductions: Mapping[str, Reduction],
    finish: Callable[[Tallies], dict[str, float]],
    bound: Any,
) -> Delayed:
    lazy: list[Any] = [bound] if isinstance(bound, Delayed) else []
    name = f"statistic-{tokenize(tallies.name, reductions, [d.key for d in lazy])}"
    graph: dict[Any, Any] = {}
    keys = list(flatten(tallies.__dask_keys__()))
    for level in itertools.count():
        groups = [keys[i : i + _FAN_IN] for i in range(0, len(keys), _FAN_IN)]
        keys = [(name, level, i) for i in range(len(groups))]
        merge = functools.partial(_merge, reductions)
        graph |= {key: (merge, group) for key, group in zip(keys, groups, strict=True)}
        if len(keys) == 1:
            break
    graph[name] = (functools.partial(_finish, finish), keys[0], *(d.key for d in lazy))
    return Delayed(name, HighLevelGraph.from_collections(name, graph, dependencies=[tallies, *lazy]))


def _merge(reductions: Mapping[str, Reduction], parts: Sequence[Any]) -> dict[str, Tally]:
    found = [part.flat[0] if isinstance(part, np.ndarray) else part for part in parts]
    return {name: functools.reduce(r.merge, [one[name] for one in found]) for name, r in reductions.items()}


def _finish(
    finish: Callable[[Tallies], dict[str, float]], tallies: Tallies, *bound: Mapping[str, float]
) -> dict[str, float]:
    return {**dict(*bound), **finish(tallies)}


def _values(statistics: Mapping[str, Statistic], tallies: Tallies) -> dict[str, float]:
    return {name: statistic.value(tallies[name]) for name, statistic in statistics.items()}


def _numbers(refreshed: Refreshed, steps: int, tallies: Tallies) -> dict[str, float]:
    return named_after(refreshed.numbers(tallies[""]), steps)
