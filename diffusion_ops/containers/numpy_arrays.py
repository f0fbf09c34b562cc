"""Evolve an array in memory, or solve a problem on it: one block that is the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import (
    channels_first,
    check_mask,
    filled_like,
    finish_image,
    guide_fields,
    make_block,
)
from diffusion_ops.containers.completion import complete
from diffusion_ops.evolution.advance import advance, continue_adaptively
from diffusion_ops.evolution.arguments import split_batches
from diffusion_ops.evolution.legs import Leg, result_channels
from diffusion_ops.evolution.problems.solve_request import check_beside, make_solve_request
from diffusion_ops.evolution.refreshed import named_after
from diffusion_ops.evolution.request import make_request


def evolve(image: Any, operator: Any, *, mask: Any, guide: Any, **arguments: Any) -> Any:
    """Return the evolution of an array; see `diffusion_ops.evolve`.

    Raises
    ------
    TypeError, ValueError
        For masked arrays, and as `make_request`.
    """
    _refuse_masked(image)
    request = make_request(image, operator, guide=guide, **arguments)
    fields = channels_first(image, request.channel_axis)
    result_channels(request.legs, len(fields))
    spatial = fields.shape[1:]
    walls = None if mask is None else check_mask(np.asarray(mask), spatial)
    other = (
        None if guide is None else guide_fields(np.asarray(guide), image.ndim, request.channel_axis, spatial)
    )
    block = make_block(fields, request.spacing, request.nodata, walls, guide=other)
    block.frame = request.frame
    for leg in request.legs:
        if leg.has_steps:
            _take(block, bind_statistics(leg, block), request.batch, request.result_type)
    original = filled_like(fields, request.fill)
    done = finish_image(block, original, request.result_type, request.result_nodata)
    return as_result(done, request.channel_axis)


def solve(image: Any, problem: Any, *, mask: Any, markers: Any, known: Any, **arguments: Any) -> Any:
    """Return the answer of a problem on an array; see `diffusion_ops.solve`.

    Raises
    ------
    TypeError, ValueError
        For masked arrays, and as `make_solve_request`.
    """
    _refuse_masked(image)
    beside = {w: np.asarray(a) for w, a in (("markers", markers), ("known", known)) if a is not None}
    request = make_solve_request(image, problem, given=tuple(beside), **arguments)
    fields = channels_first(image, request.channel_axis)
    spatial = fields.shape[1:]
    walls = None if mask is None else check_mask(np.asarray(mask), spatial)
    checked = {word: check_beside(word, one, spatial) for word, one in beside.items()}
    setting = request.setting(fields, walls, checked)
    done = request.finish(request.problem.solve(setting), setting)
    return (
        done if request.problem.stacks else as_result(done, None if len(done) == 1 else request.channel_axis)
    )


def _refuse_masked(image: Any) -> None:
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(
            "Masked arrays carry their mask inverted. Pass image.data and mask=~image.mask instead."
        )


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
