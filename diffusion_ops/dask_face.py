"""`evolve` on Dask arrays: lazy, one exchange between chunks per batch of steps, the user's chunks kept."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from diffusion_ops.advance import Leg, advance, total_halo
from diffusion_ops.block import Block
from diffusion_ops.fields import (
    channels_first,
    check_image,
    check_mask,
    finish_image,
    make_block,
    working_dtype,
)
from diffusion_ops.problem import make_legs, resolve_spacing, split_batches
from diffusion_ops.statistic import Statistic, Tally
from diffusion_ops.tiling import Tiling

_HALO_PART = 0.25
"""Both halos are at most this part of a chunk where the batch is chosen here: about 0.28 more work in 2-D."""

_FAN_IN = 16
"""Tallies merged by one task."""


@dataclass(frozen=True)
class _Task:
    """What every chunk is told."""

    tiling: Tiling
    spacing: tuple[float, ...]
    channel_axis: int | None
    nodata: float | None
    first: bool
    """Whether the windows are the user's image (and mask), not floats with NaN for walls."""

    @property
    def axes(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(a for a in range(len(self.tiling.chunks)) if a != self.channel_axis)

    def place(self, block_id: Sequence[int]) -> tuple[tuple[slice, ...], tuple[tuple[bool, bool], ...]]:
        """Return what to keep of a window, and its open sides."""
        tiling, index = self.tiling.along(self.axes), [block_id[a] for a in self.axes]
        return tiling.keep(index), tiling.open_sides(index)

    def reaching(self, halo: Sequence[int]) -> _Task:
        """Return the task with windows for a halo given per spatial axis."""
        every = list(halo)
        if self.channel_axis is not None:
            every.insert(self.channel_axis, 0)
        return replace(self, tiling=Tiling(self.tiling.chunks, tuple(every)))

    def block(self, windows: Sequence[Any], block_id: Sequence[int]) -> Block:
        """Return a chunk's window as a block."""
        image = channels_first(windows[0], self.channel_axis)
        sides = self.place(block_id)[1]
        if not self.first:
            return Block.from_image(image, self.spacing, ~np.isnan(image[0]), sides)
        mask = channels_first(windows[1], self.channel_axis)[0] if len(windows) > 1 else None
        return make_block(image, self.spacing, self.nodata, mask, sides)

    def image(self, fields: Any) -> Any:
        """Return fields of shape (channels, *spatial) with their axes where the user has them."""
        return fields[0] if self.channel_axis is None else np.moveaxis(fields, 0, self.channel_axis)


def evolve(
    image: Any,
    operator: Any,
    *,
    spacing: Any,
    channel_axis: int | None,
    mask: Any,
    nodata: float | None,
    dtype: Any,
    batch: int | None,
    **times: Any,
) -> Any:
    """Return the lazy evolution of a Dask array, in the same chunks; see `diffusion_ops.evolve`.

    One exchange of halos per batch. Where a halo is wider than the chunks (or the array), windows are
    gathered from as many chunks as they need; nothing is ever rechunked.

    Raises
    ------
    TypeError, ValueError
        As for NumPy, and for unknown chunk sizes, chunks that are not NumPy arrays, channels in several
        chunks.
    """
    _check_container(image)
    result_type = check_image(image.shape, image.dtype, channel_axis, dtype, nodata)
    channel_axis = None if channel_axis is None else channel_axis % image.ndim
    _check_channels(image, channel_axis)
    steps = resolve_spacing(spacing, image.ndim - (channel_axis is not None))
    legs = make_legs(operator, steps, **times)
    arrays = [image] if mask is None else [image, _aligned_mask(mask, image, channel_axis)]
    split_batches(legs, batch)
    task = _Task(Tiling(image.chunks, (0,) * image.ndim), steps, channel_axis, nodata, first=True)
    stages = [_choose_batches(stage, batch, image, channel_axis, steps) for stage in _stages(legs)]
    # Where one batch does it all, its windows hold what the result needs of the image.
    single = result_type if sum(map(len, stages)) == 1 else None
    state = arrays
    for batches in stages:
        bound = _reduce(task, batches[0][0].operator.statistics(), state)
        for part in batches:
            state = [_advance_all(task, part, bound, state, single)]
            task = replace(task, first=False)
    return state[0] if single else _finish_all(task, state, arrays, result_type)


def _check_container(image: Any) -> None:
    if not isinstance(image._meta, np.ndarray) or isinstance(image._meta, np.ma.MaskedArray):
        raise TypeError(
            f"The chunks of the Dask array are {type(image._meta).__name__}. Allowed: plain NumPy arrays. "
            "Convert them first, such as image.map_blocks(cupy.asnumpy) or da.ma.getdata(image) with mask=."
        )
    if any(math.isnan(n) for n in image.shape):
        raise ValueError(
            f"The chunk sizes of the image are unknown (shape {image.shape}), so no halo can be placed. "
            "Call image.compute_chunk_sizes() first."
        )


def _check_channels(image: Any, channel_axis: int | None) -> None:
    if channel_axis is not None and image.numblocks[channel_axis] > 1:
        raise ValueError(
            f"The channel axis {channel_axis} is cut into chunks {image.chunks[channel_axis]}, but channels "
            f"share one conductance. Use image.rechunk({{{channel_axis}: -1}})."
        )


def _aligned_mask(mask: Any, image: Any, channel_axis: int | None) -> Any:
    """Return the mask in the image's chunks, with an axis of length 1 for the channels."""
    axes = [a for a in range(image.ndim) if a != channel_axis]
    mask = mask if isinstance(mask, da.Array) else np.asarray(mask)
    check_mask(mask, tuple(image.shape[a] for a in axes))
    chunks = tuple(image.chunks[a] for a in axes)
    mask = mask.rechunk(chunks) if isinstance(mask, da.Array) else da.from_array(mask, chunks)
    return mask if channel_axis is None else da.expand_dims(mask, channel_axis)


def _stages(legs: Sequence[Leg]) -> list[tuple[Leg, ...]]:
    """Return the legs that take steps, cut where statistics of the whole image have to be reduced first."""
    stages: list[tuple[Leg, ...]] = []
    for leg in legs:
        if leg.cycles:
            joined = stages and not leg.operator.statistics()
            stages[-1:] = [(*stages[-1], leg)] if joined else [*stages[-1:], (leg,)]
    return stages


def _choose_batches(
    legs: tuple[Leg, ...],
    batch: int | None,
    image: Any,
    channel_axis: int | None,
    spacing: tuple[float, ...],
) -> list[tuple[Leg, ...]]:
    """Return the batches of a stage: as few equal ones as keep their halos a modest part of the chunks.

    The size of a chunk is the one that a pixel finds itself in on average. A small last chunk does not
    shorten the batches of all others: its neighbours gather wider windows.
    """
    if batch is not None:
        return split_batches(legs, batch)
    axes = [a for a in range(image.ndim) if a != channel_axis]
    room = [
        _HALO_PART / 2 * sum(c * c for c in image.chunks[a]) / image.shape[a]
        if image.numblocks[a] > 1
        else math.inf
        for a in axes
    ]
    total = sum(cycle.steps for leg in legs for cycle in leg.cycles)
    for count in range(1, total + 1):
        batches = split_batches(legs, -(-total // count))
        halos = [total_halo(part, spacing) for part in batches]
        if all(h <= most for halo in halos for h, most in zip(halo, room, strict=True)):
            return batches
        if len(batches) == sum(len(leg.cycles) for leg in legs):
            return batches
    return []


def _advance_all(
    task: _Task, legs: tuple[Leg, ...], bound: Any, arrays: list[Any], result: np.dtype[Any] | None
) -> Any:
    """Return the array after a batch: finished as `result`, else floats with NaN where walls are."""
    return _map_windows(
        _advance_chunk,
        arrays,
        task.reaching(total_halo(legs, task.spacing)),
        arrays[0].chunks,
        result or working_dtype(arrays[0].dtype),
        legs=legs,
        bound=bound,
        result=result,
    )


def _advance_chunk(
    *windows: Any,
    task: _Task,
    legs: tuple[Leg, ...],
    bound: Mapping[str, float],
    result: np.dtype[Any] | None,
    block_id: tuple[int, ...],
) -> Any:
    keep, _ = task.place(block_id)
    block = task.block(windows, block_id)
    advance(block, [_bind(leg, bound) for leg in legs])
    if result:
        original = channels_first(windows[0], task.channel_axis)[(slice(None), *keep)]
        return task.image(finish_image(block, original, result, task.nodata, keep))
    state = np.array(block.u[(slice(None), *keep)])
    if block.valid is not None:
        state[:, ~block.valid[keep]] = np.nan
    return task.image(state)


def _bind(leg: Leg, bound: Mapping[str, float]) -> Leg:
    return Leg(leg.operator.bind(bound), leg.cycles) if leg.operator.statistics() else leg


def _finish_all(task: _Task, state: list[Any], arrays: list[Any], dtype: np.dtype[Any]) -> Any:
    """Return the result in its own type, with the user's values where walls are."""
    arguments = state if task.first else [state[0], arrays[0]]
    meta = np.empty((0,) * arrays[0].ndim, dtype)
    return da.map_blocks(_finish_chunk, *arguments, task=task, result=dtype, meta=meta, dtype=dtype)


def _finish_chunk(
    state: Any, *others: Any, task: _Task, result: np.dtype[Any], block_id: tuple[int, ...]
) -> Any:
    original = state if task.first else others[0]
    block = task.block([state, *others] if task.first else [state], block_id)
    return task.image(finish_image(block, channels_first(original, task.channel_axis), result, task.nodata))


def _reduce(task: _Task, statistics: Mapping[str, Statistic], arrays: list[Any]) -> Any:
    """Return the lazy mapping from parameters to the numbers of their statistics."""
    if not statistics:
        return {}
    reach = [max(r) for r in zip(*(s.radius(task.spacing) for s in statistics.values()), strict=True)]
    ones = tuple((1,) * n for n in arrays[0].numblocks)
    tallies = _map_windows(
        _measure_chunk, arrays, task.reaching(reach), ones, np.dtype(object), statistics=statistics
    )
    return _reduce_tree(tallies, statistics)


def _measure_chunk(
    *windows: Any, task: _Task, statistics: Mapping[str, Statistic], block_id: tuple[int, ...]
) -> Any:
    block, (keep, _) = task.block(windows, block_id), task.place(block_id)
    result = np.empty((1,) * windows[0].ndim, object)
    result.flat[0] = {name: statistic.measure(block, keep) for name, statistic in statistics.items()}
    return result


def _reduce_tree(tallies: Any, statistics: Mapping[str, Statistic]) -> Delayed:
    name = f"statistic-{tokenize(tallies.name, statistics)}"
    graph: dict[Any, Any] = {}
    keys = list(flatten(tallies.__dask_keys__()))
    for level in itertools.count():
        groups = [keys[i : i + _FAN_IN] for i in range(0, len(keys), _FAN_IN)]
        keys = [(name, level, i) for i in range(len(groups))]
        merge = functools.partial(_merge, statistics)
        graph |= {key: (merge, group) for key, group in zip(keys, groups, strict=True)}
        if len(keys) == 1:
            break
    graph[name] = (functools.partial(_values, statistics), keys[0])
    return Delayed(name, HighLevelGraph.from_collections(name, graph, dependencies=[tallies]))


def _merge(statistics: Mapping[str, Statistic], parts: Sequence[Any]) -> dict[str, Tally]:
    found = [part.flat[0] if isinstance(part, np.ndarray) else part for part in parts]
    return {name: functools.reduce(s.merge, [one[name] for one in found]) for name, s in statistics.items()}


def _values(statistics: Mapping[str, Statistic], tallies: Mapping[str, Tally]) -> dict[str, float]:
    return {name: statistic.value(tallies[name]) for name, statistic in statistics.items()}


def _map_windows(
    function: Callable[..., Any],
    arrays: Sequence[Any],
    task: _Task,
    chunks: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    **arguments: Any,
) -> Any:
    """Return the lazy array of function(*windows, task=..., block_id=...) of aligned windows of arrays."""
    tiling, arguments = task.tiling, {"task": task, **arguments}
    meta = np.empty((0,) * arrays[0].ndim, dtype)
    if not tiling.fits:
        return _gather_windows(function, arrays, tiling, chunks, meta, arguments)
    # An axis in one piece has no neighbours to exchange with.
    depth = {a: h if len(tiling.chunks[a]) > 1 else 0 for a, h in enumerate(tiling.halo)}
    # trim=False: the function returns its chunk as an array of its own; a view would keep the window alive.
    return da.map_overlap(
        function,
        *arrays,
        depth=depth,
        boundary="none",
        trim=False,
        align_arrays=False,
        allow_rechunk=False,
        chunks=chunks,
        dtype=dtype,
        meta=meta,
        **arguments,
    )


def _gather_windows(
    function: Callable[..., Any],
    arrays: Sequence[Any],
    tiling: Tiling,
    chunks: tuple[tuple[int, ...], ...],
    meta: Any,
    arguments: Mapping[str, Any],
) -> Any:
    """Do as `map_overlap` does where a halo reaches over several chunks: one task per chunk, no rechunk."""
    bound = arguments.get("bound")
    lazy = [bound] if isinstance(bound, Delayed) else []
    fixed = {name: value for name, value in arguments.items() if value is not bound or not lazy}
    name = f"windows-{tokenize(function, [a.name for a in arrays], tiling, fixed, [d.key for d in lazy])}"
    call = functools.partial(_call_on_windows, functools.partial(function, **fixed), tiling)
    graph: dict[Any, Any] = {}
    reads = [
        [[k for k, _ in tiling.pieces(axis, i)] for i in range(len(sizes))]
        for axis, sizes in enumerate(tiling.chunks)
    ]
    for index in itertools.product(*(range(len(sizes)) for sizes in tiling.chunks)):
        read = [reads[axis][i] for axis, i in enumerate(index)]
        keys = [[(a.name, *place) for place in itertools.product(*read)] for a in arrays]
        graph[(name, *index)] = (call, list(index), keys, *(d.key for d in lazy))
    dependencies = [*arrays, *lazy]
    return da.Array(HighLevelGraph.from_collections(name, graph, dependencies), name, chunks, meta=meta)


def _call_on_windows(
    function: Callable[..., Any], tiling: Tiling, index: list[int], pieces: list[list[Any]], *bound: Any
) -> Any:
    windows = [tiling.gather(index, some) for some in pieces]
    return function(*windows, block_id=tuple(index), **({"bound": bound[0]} if bound else {}))
