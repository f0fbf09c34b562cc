"""Evolve an array in memory: one block that is the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import (
    channels_first,
    check_mask,
    fill_values_like,
    finish_image,
    guide_fields,
    make_block,
)
from diffusion_ops.containers.completion import complete
from diffusion_ops.evolution.advance import advance, continue_adaptively
from diffusion_ops.evolution.arguments import split_batches
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.problem import make_problem
from diffusion_ops.evolution.refreshed import named_after


def evolve(image: Any, operator: Any, *, mask: Any, guide: Any, **arguments: Any) -> Any:
    """Return the evolution of an array; see `diffusion_ops.evolve`.

    Raises
    ------
    TypeError, ValueError
        For masked arrays, and as `make_problem`.
    """
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(
            "Masked arrays carry their mask inverted. Pass image.data and mask=~image.mask instead."
        )
    problem = make_problem(image, operator, guide=guide, **arguments)
    fields = channels_first(image, problem.channel_axis)
    spatial = fields.shape[1:]
    walls = None if mask is None else check_mask(np.asarray(mask), spatial)
    other = (
        None if guide is None else guide_fields(np.asarray(guide), image.ndim, problem.channel_axis, spatial)
    )
    block = make_block(fields, problem.spacing, problem.nodata, walls, guide=other)
    block.frame = problem.frame
    for leg in problem.legs:
        if leg.has_steps:
            _take(block, bind_statistics(leg, block), problem.batch, problem.result_type)
    original = (
        fill_values_like(fields, problem.result_type, problem.nodata) if problem.new_quantity else fields
    )
    done = finish_image(block, original, problem.result_type, problem.nodata)
    return as_result(done, problem.channel_axis)


def _take(block: Block, leg: Leg, batch: int | None, result: np.dtype[Any]) -> None:
    """Take a leg on the whole image, batch by batch."""
    if leg.adaptive is not None:
        continue_adaptively(block, leg.operator, leg.adaptive)
        return
    for part in leg.parts():
        fresh = _with_numbers(part, block)
        for some in split_batches([fresh], batch):
            advance(block, some)
    if (completion := leg.operator.completion()) is not None:
        for channel in block.u:
            channel[...] = complete(channel, completion, result)


def as_result(fields: Any, channel_axis: int | None) -> Any:
    """Return finished fields of shape (channels, *spatial) in the user's order of axes."""
    return fields[0] if channel_axis is None else np.ascontiguousarray(np.moveaxis(fields, 0, channel_axis))


def _with_numbers(leg: Leg, block: Block) -> Leg:
    """Return a part of a leg with the numbers that its operator refreshes, measured over the whole image."""
    refreshed = leg.operator.refreshed()
    if refreshed is None or leg.begins:
        return leg
    everything = (slice(None),) * len(block.spatial)
    return leg.bind(named_after(refreshed.numbers(refreshed.measure(block, everything)), leg.first))


def bind_statistics(leg: Leg, block: Block) -> Leg:
    """Return the leg with the statistics of its operator measured over a block that is the whole image."""
    everything = (slice(None),) * len(block.spatial)
    return leg.bind({n: s.value(s.measure(block, everything)) for n, s in leg.operator.statistics().items()})
