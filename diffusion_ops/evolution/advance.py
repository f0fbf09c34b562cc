"""Advance one block by a batch of steps: the one function that every container and every engine calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffusion_ops.blocks.block import Block, allocate
from diffusion_ops.evolution.adaptive import Adaptive, Control
from diffusion_ops.evolution.legs import Leg, carried_out_of, result_channels
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.reach import Cells, Run, chained
from diffusion_ops.evolution.refreshed import measured_after
from diffusion_ops.evolution.schedule import Cycle


def advance(block: Block, legs: Sequence[Leg]) -> Block:
    """Take all cycles of all legs on a block, in place, and return it.

    Cells farther than `total_halo(legs)` from the open sides have the bits they would have in the whole image; the
    others are spoilt. Sides that are not open are no-flux walls, as are invalid cells.

    Parameters
    ----------
    block : Block
        The state, its walls and its open sides.
    legs : sequence of Leg
        All statistics are replaced by their values.
    """
    if block.valid is not None and not block.valid.any():
        return _pass_over(block, legs)
    for leg in legs:
        operator, reach = leg.operator, leg.operator.reach(block.spacing)
        if leg.begins:
            operator.start(block)
            _mark_spoilt(block, reach.start)
        block.step = leg.first
        block.numbers = None if leg.numbers is None else measured_after(leg.numbers, leg.measured)
        for run in reach.runs(leg.cycles, leg.first):
            for _ in range(run.times):
                _take(block, operator, run)
                block.step += run.count * run.cycle.steps
        if leg.adaptive is not None:
            take_batch(block, operator, leg.adaptive.tau, leg.adaptive.adaptive.batch)
        if leg.last:
            operator.finish(block)
            _mark_spoilt(block, reach.finish)
            block.carried = None
    return block


def _take(block: Block, operator: Operator, run: Run) -> None:
    """Let an operator take the cycles of one call of a run."""
    # Before the call: kernels read from it where frozen coefficients are not spoilt.
    _mark_spoilt(block, run.setup)
    operator.run(block, run.cycle, run.count)
    _mark_spoilt(block, run.steps)


def _mark_spoilt(block: Block, cells: Cells) -> None:
    """Add to the spoilt cells at the open sides of a block; nothing else changes `block.spoilt`."""
    block.spoilt = chained((block.spoilt, cells), len(cells))


def _pass_over(block: Block, legs: Sequence[Leg]) -> Block:
    """Give a block without valid cells the numbers of channels and of carried arrays that the legs would leave."""
    channels = result_channels(legs, len(block.storage))
    if channels != len(block.storage):
        block.storage = allocate(channels, block.spatial, block.storage.dtype)
    carried = carried_out_of(legs, len(block.spatial), channels)
    block.carried = allocate(carried, block.spatial, block.storage.dtype) if carried else None
    return block


def take_batch(block: Block, operator: Operator, tau: float, steps: int) -> None:
    """Take Heun steps of an operator in place, and store the largest error of each cell in `block.carried`.

    Parameters
    ----------
    block : Block
        Carries no arrays before, and one array of errors per channel afterwards.
    operator : Operator
        A time evolution that carries no arrays, its statistics replaced by their values.
    tau : float
        Step size, at most the operator's stable one.
    steps : int
        Number of Heun steps.
    """
    (run,), half = operator.reach(block.spacing).runs((Cycle(tau),)), block.storage.dtype.type(0.5)
    error = allocate(len(block.storage), block.spatial, block.storage.dtype)
    before, once = np.empty_like(block.storage), np.empty_like(block.storage)
    for _ in range(steps):
        before[...] = block.storage
        _take(block, operator, run)
        once[...] = block.storage
        _take(block, operator, run)
        block.storage += before
        block.storage *= half
        once -= block.storage
        np.maximum(error, np.abs(once, out=once), out=error)
    block.carried = error


def advance_adaptively(
    block: Block, operator: Operator, adaptive: Adaptive, time: float, first: float | None = None
) -> tuple[Control, ...]:
    """Evolve a block that is the whole image until a time, in place, with steps as large as the tolerance allows.

    Parameters
    ----------
    block : Block
    operator : Operator
        A time evolution with explicit steps that carries no arrays.
    adaptive : Adaptive
    time : float
        End time, in squared units of the spacing; it is reached exactly.
    first : float, optional
        Size of the first step to try.

    Returns
    -------
    tuple of Control
        The control at the start, and after every batch, refused ones included.

    Raises
    ------
    ValueError
        For an operator without time or with carried arrays; where the tolerance calls for steps that rounding loses.
    """
    if operator.controlled_by != "time" or operator.carried_arrays(len(block.spatial), len(block.storage)):
        raise ValueError(
            f"{operator.name} does not take adaptive steps: it has no time, or carries arrays. Give time or steps."
        )
    return continue_adaptively(
        block, operator, adaptive.start(time, operator.stable_dt(block.spacing), first)
    )


def continue_adaptively(block: Block, operator: Operator, control: Control) -> tuple[Control, ...]:
    """Evolve a block that is the whole image from a control to its end time, in place; see `advance_adaptively`."""
    history, everything = [control], (slice(None),) * len(block.spatial)
    statistic = control.adaptive.statistic
    while not control.finished:
        before = block.storage.copy()
        take_batch(block, operator, control.tau, control.adaptive.batch)
        control = control.after(statistic.value(statistic.measure(block, everything)))
        if not control.accepted:
            block.storage[...] = before
        block.carried = None
        history.append(control)
    return tuple(history)
