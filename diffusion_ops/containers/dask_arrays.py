"""`evolve` on Dask arrays: lazy, one exchange between chunks per batch of steps, the user's chunks kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_ops.blocks.fields import (
    channels_first,
    check_mask,
    filled_like,
    finish_image,
    guide_fields,
    working_dtype,
)
from diffusion_ops.containers.chunk_task import ChunkTask
from diffusion_ops.containers.completion import complete
from diffusion_ops.containers.dask_reductions import reduce_numbers, reduce_statistics
from diffusion_ops.containers.dask_windows import map_windows
from diffusion_ops.containers.tiling import Tiling
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import (
    split_batches,
)
from diffusion_ops.evolution.completion import Completion
from diffusion_ops.evolution.legs import Leg, carried_out_of, result_channels, total_halo
from diffusion_ops.evolution.request import Request, make_request
from diffusion_ops.lazy_modules import LazyModule

if TYPE_CHECKING:
    import dask.array as da
else:
    da = LazyModule("dask.array")

_HALO_PART = 0.25
"""Largest part of a chunk that both halos take where the batch is chosen here: about 0.28 more work in 2-D."""


def evolve(image: Any, operator: Any, *, mask: Any, guide: Any, **arguments: Any) -> Any:
    """Return the lazy evolution of a Dask array, in the same chunks; see `diffusion_ops.evolve`.

    One exchange of halos per batch. Where a halo is wider than the chunks (or the array), windows are
    gathered from as many chunks as they need; nothing is ever rechunked.

    Raises
    ------
    TypeError, ValueError
        As for NumPy, and for unknown chunk sizes, chunks that are not NumPy arrays, channels in several
        chunks.
    """
    check_container(image)
    request = make_request(image, operator, guide=guide, **arguments)
    channel_axis, spacing = request.channel_axis, request.spacing
    _check_channels(image, channel_axis)
    stages = [
        [_choose_batches(part, request.batch, image, channel_axis, spacing) for part in _parts(stage)]
        for stage in _stages(request.legs)
    ]
    inputs = {"image": image}
    if mask is not None:
        inputs["mask"] = _aligned_mask(mask, image, channel_axis)
    if guide is not None:
        inputs["guide"] = _aligned_guide(guide, image, channel_axis)
    # Carried arrays are further channels between batches.
    every = itertools.chain.from_iterable(itertools.chain.from_iterable(stages))
    added = channel_axis is None and any(not leg.last for batch in every for leg in batch)
    if added:
        inputs, channel_axis = {name: da.expand_dims(a, 0) for name, a in inputs.items()}, 0
    tiling = Tiling(inputs["image"].chunks, (0,) * inputs["image"].ndim)
    task = ChunkTask(tiling, spacing, channel_axis, request.nodata, tuple(inputs), frame=request.frame)
    run = _Evolution(inputs, task, request)
    result = run.take(stages)
    return result[0] if added else result


@dataclass
class _Evolution:
    """Lazy arrays of an evolution, from the image to the result."""

    inputs: Mapping[str, Any]
    task: ChunkTask
    request: Request

    def __post_init__(self) -> None:
        axis = self.task.channel_axis
        self.state = list(self.inputs.values())
        self.channels = 1 if axis is None else self.inputs["image"].shape[axis]

    def take(self, stages: list[list[list[tuple[Leg, ...]]]]) -> Any:
        """Return the result of all batches of all parts of all stages."""
        # A single batch has the user's image in its windows, and can finish the result itself.
        incomplete = any(parts[-1][-1][-1].operator.completion() is not None for parts in stages)
        count = sum(len(batches) for parts in stages for batches in parts)
        single = self.request.result_type if count == 1 and not incomplete else None
        for parts in stages:
            bound = reduce_statistics(self.task, parts[0][0][0].operator.statistics(), self.state)
            for batches in parts:
                bound = self._refresh(batches[0][0], bound)
                for batch in batches:
                    self._advance(batch, bound, single)
            if (completion := parts[-1][-1][-1].operator.completion()) is not None:
                self._complete(completion)
        return self.state[0] if single else self._finish()

    def _refresh(self, leg: Leg, bound: Any) -> Any:
        """Return lazy values together with the numbers of the state that a part of a leg needs."""
        refreshed = leg.operator.refreshed()
        if refreshed is None or leg.begins:
            return bound
        return reduce_numbers(self.task, refreshed, leg.first, self.state, bound)

    def _advance(self, legs: tuple[Leg, ...], bound: Any, result: np.dtype[Any] | None) -> None:
        """Take a batch; it ends in the dtype `result`, or in floats with NaN at walls where that is None."""
        self.channels = result_channels(legs, self.channels)
        carried = carried_out_of(legs, len(self.task.spacing), self.channels)
        task = self.task.reaching(total_halo(legs, self.task.spacing))
        done = map_windows(
            _advance_chunk,
            self.state,
            task.tiling,
            self.task.chunks(self.channels + carried),
            result or working_dtype(self.state[0].dtype),
            task=task,
            legs=legs,
            bound=bound,
            result=result,
            fill=self.request.fill,
            nodata=self.request.result_nodata,
        )
        self.task = self.task.after(carried)
        self.state = [done, *([self.inputs["guide"]] if "guide" in self.inputs else [])]

    def _complete(self, completion: Completion) -> None:
        """Complete the state over the whole image, channel by channel."""
        state, axis = self.state[0], self.task.channel_axis
        parts = [state] if axis is None else [da.take(state, i, axis) for i in range(state.shape[axis])]
        done = [complete(part, completion, self.request.result_type) for part in parts]
        self.state[0] = done[0] if axis is None else da.stack(done, axis).rechunk(state.chunks)

    def _finish(self) -> Any:
        """Return the result in its own dtype, with the values of invalid pixels."""
        image = self.inputs["image"]
        arrays = self.state if self.task.first else [self.state[0], image]
        task = self.task if self.task.first else replace(self.task, windows=("state",))
        return da.map_blocks(
            _finish_chunk,
            *arrays,
            task=task,
            result=self.request.result_type,
            fill=self.request.fill,
            nodata=self.request.result_nodata,
            chunks=self.task.chunks(self.channels),
            meta=np.empty((0,) * image.ndim, self.request.result_type),
            dtype=self.request.result_type,
        )


def check_container(image: Any) -> None:
    """Refuse arrays of unknown chunk sizes, and chunks that are not plain NumPy arrays."""
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


def _aligned_guide(guide: Any, image: Any, channel_axis: int | None) -> Any:
    """Return the guide in the image's chunks, with all of its channels in one."""
    guide = guide if isinstance(guide, da.Array) else np.asarray(guide)
    axes = [a for a in range(image.ndim) if a != channel_axis]
    fields = guide_fields(guide, image.ndim, channel_axis, tuple(image.shape[a] for a in axes))
    chunks = (len(fields), *(image.chunks[a] for a in axes))
    fields = fields.rechunk(chunks) if isinstance(fields, da.Array) else da.from_array(fields, chunks)
    return fields[0] if channel_axis is None else da.moveaxis(fields, 0, channel_axis)


def _stages(legs: Sequence[Leg]) -> list[tuple[Leg, ...]]:
    """Return the legs that take steps, grouped in stages: statistics are measured before one, completions end one."""
    stages: list[tuple[Leg, ...]] = []
    for leg in legs:
        if leg.adaptive is not None:
            raise ValueError(
                f"{leg.operator.name}: adaptive steps look at the whole image after each batch, and a Dask array is "
                "lazy. Allowed: NumPy arrays, or a run over Zarr; else give schedule='explicit' or 'cycles'."
            )
        if leg.cycles:
            joined = (
                stages
                and not leg.operator.statistics()
                and leg.operator.refreshed() is None
                and stages[-1][-1].operator.refreshed() is None
                and stages[-1][-1].operator.completion() is None
            )
            stages[-1:] = [(*stages[-1], leg)] if joined else [*stages[-1:], (leg,)]
    return stages


def _parts(legs: tuple[Leg, ...]) -> list[tuple[Leg, ...]]:
    """Return a stage cut where numbers of the whole image are measured again; such a leg is a stage of its own."""
    return [(part,) for part in legs[0].parts()] if len(legs) == 1 else [legs]


def _choose_batches(
    legs: tuple[Leg, ...],
    batch: int | None,
    image: Any,
    channel_axis: int | None,
    spacing: tuple[float, ...],
) -> list[tuple[Leg, ...]]:
    """Return the batches of a stage: the fewest of equal length whose halos are a modest part of the chunks.

    The chunk size is averaged over pixels, so that a small last chunk does not shorten all batches: its neighbours
    gather wider windows.
    """
    if batch is not None or not any(leg.cycles for leg in legs):
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


def _advance_chunk(
    *windows: Any,
    task: ChunkTask,
    legs: tuple[Leg, ...],
    bound: Mapping[str, float],
    result: np.dtype[Any] | None,
    fill: float | None,
    nodata: float | None,
    block_id: tuple[int, ...],
) -> Any:
    keep = task.window(block_id).keep
    block = task.block(windows, block_id)
    advance(block, [leg.bind(bound) for leg in legs])
    if result:
        original = channels_first(windows[0], task.channel_axis)[(slice(None), *keep)]
        return task.image(finish_image(block, filled_like(original, fill), result, nodata, keep))
    return task.image(block.kept(keep))


def _finish_chunk(
    state: Any,
    *others: Any,
    task: ChunkTask,
    result: np.dtype[Any],
    fill: float | None,
    nodata: float | None,
    block_id: tuple[int, ...],
) -> Any:
    original = channels_first(state if task.first else others[0], task.channel_axis)
    block = task.block([state, *others] if task.first else [state], block_id)
    return task.image(finish_image(block, filled_like(original, fill), result, nodata))
