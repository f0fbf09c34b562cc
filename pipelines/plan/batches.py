"""Lay out a chain as stages: first its statistics, then one pass per batch, with checks of the energy in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.evolution.arguments import split_batches
from diffusion_ops.evolution.legs import Leg, carried_into, carried_out_of, result_channels
from pipelines.plan.graph import is_source
from pipelines.plan.plan import Output
from pipelines.plan.stages import ChainRequest, Image
from pipelines.tasks.inputs import ComputedPixels, Inputs, Reading, constant
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import Carried
from pipelines.tasks.work import KINDS, Work


@dataclass(frozen=True)
class EnergyCheck:
    """A check of the energy after a part of an operator's steps, which may stop the operator.

    Attributes
    ----------
    position : int
        Position of the operator among the steps of the spec.
    steps : int
        Number of time steps that the operator has taken.
    number : int
        Number of the stage that measures the energy.
    before : int or None
        Number of the stage of the check before; None for the first check.
    closing : int
        Number of the stage that ends the operator, which reads the state of the last stage before it.
    tolerance : float or None
        Relative fall of the energy since the check before, below which the operator stops; None never stops it.
    """

    position: int
    steps: int
    number: int
    before: int | None
    closing: int
    tolerance: float | None


def request_inputs(request: ChainRequest) -> Inputs:
    """Return what the first batch of a chain reads."""
    guide, mask = (
        request.beside[word].reading if word in request.beside else None for word in ("guide", "mask")
    )
    return Inputs(request.begin.reading, guide, mask, request.begin.carried)


def request_after(request: ChainRequest) -> tuple[int, ...]:
    """Return the stages whose output the first batch of a chain reads."""
    return (*request.begin.stages, *(i for image in request.beside.values() for i in image.stages))


def measure_statistics(
    request: ChainRequest,
    legs: tuple[Leg, ...],
    inputs: Inputs,
    shape: tuple[int, ...],
    after: tuple[int, ...],
    number: int,
) -> tuple[int, ...]:
    """Add the stage that measures the statistics of the operator that begins here, if any, and return its number.

    Raises
    ------
    NotAloneError
        Where only a region of the result is wanted, and the operator does not begin with the source.
    """
    pending = legs[0].operator.statistics() if legs and legs[0].begins else {}
    if not pending:
        return ()
    stages, chain, name = request.stages, request.chain, legs[0].operator.name
    from_source = is_source(chain.input) and not chain.level and not request.beside
    if number or not from_source:
        request.refuse_part(
            f"measures the whole result of the step before {name}, so a part alone cannot be computed. "
            "Run the spec first, or give a number instead of the statistic."
        )
    position, *_ = chain.positions_of(legs)
    work = KINDS["measure"].make(
        inputs=inputs, frames=request.frames, wanted=pending, position=position, image_shape=shape
    )
    return (stages.add(f"measure {', '.join(pending)} for {name}", work, stages.grid(shape), after),)


class Batches:
    """Lays out one chain batch by batch; the attributes describe what the next batch reads.

    Parameters
    ----------
    request : ChainRequest
    make : callable
        Function that makes the work of a batch from its attributes by name.
    """

    def __init__(self, request: ChainRequest, make: Callable[..., Work]) -> None:
        self.request, self.make = request, make
        self.stages, self.chain, self.frames = request.stages, request.chain, request.frames
        self.inputs, self.after = request_inputs(request), request_after(request)
        self.shape, self.channels = request.begin.shape, request.begin.reading.channels
        self.working = working_dtype(request.begin.reading.dtype)
        self.number = request.number
        self.checks: list[EnergyCheck] = []
        self.measured: tuple[int, ...] = ()

    def lay_out(self) -> Image:
        """Add the stages of the chain and return its result."""
        if self.chain.until:
            self.request.refuse_part(
                "stops by the energy of the whole image, so a part alone cannot be "
                "computed. Run the spec first and verify it, or give a number of steps instead of until."
            )
        if any(leg.lacks_numbers for leg in self.chain.legs):
            self.request.refuse_part(
                "measures the whole image again and again, so a part alone cannot be computed. "
                "Run the spec first and verify it, or give numbers instead, such as means."
            )
        alone = self.stages.roi is not None
        # A region alone is computed in one pass.
        parts = [self.chain.legs] if alone else self.chain.parts
        batch = None if alone else self.stages.geometry.batch
        batches = [(i, legs) for i, part in enumerate(parts) for legs in split_batches(part, batch) or [part]]
        for k, (part, legs) in enumerate(batches):
            left = len(batches) - 1 - k
            self._batch(legs, left, ends_part=left > 0 and batches[k + 1][0] != part)
        return Image(self.inputs.image, self.shape, self.after)

    def _batch(self, legs: tuple[Leg, ...], left: int, ends_part: bool) -> None:
        """Add a batch that `left` batches follow; something is measured where it ends a part of the chain."""
        request, stages, ends = self.request, self.stages, left == 0
        needs = self._needs(legs)
        out = result_channels(legs, self.channels)
        shape = stages.with_channels(self.shape, out)
        final = request.output if ends else None
        target = request.target(self.number, final)
        dtype = self.working if final is None else final.info.dtype
        keeps = self._carried(legs, target, out)
        work = self.make(
            inputs=self.inputs,
            target=target,
            frames=self.frames,
            legs=legs,
            positions=self.chain.positions_of(legs),
            dtype=dtype,
            image_shape=self.shape,
            keeps=keeps,
            base=self._base() if ends and "mask" in self.chain.beside else None,
            original=request.final_original() if ends else None,
            roi=stages.roi if final is not None else None,
            check=self._check(legs, left) if ends_part and self.chain.energy else None,
            refreshes=ends_part and not self.chain.energy,
        )
        reading, number = self._add_stage(work, legs, final, Reading(target, dtype, None, out), shape, needs)
        # The next batch reads the guide again; the state holds NaN where the mask made walls.
        guide = request.beside["guide"].stages if "guide" in request.beside else ()
        self.after = number if ends else (*number, *guide)
        self.inputs = Inputs(reading, self.inputs.guide, None, keeps)
        self.shape, self.channels, self.number = shape, out, self.number + 1
        if ends_part:
            self.measured = number

    def _base(self) -> Reading:
        """Return what cells outside the mask get: what the chain began with, or no value of a new quantity."""
        if not any(leg.operator.new_quantity for leg in self.chain.legs):
            return self.request.given_back or self.request.begin.reading
        return constant(math.nan)

    def _needs(self, legs: tuple[Leg, ...]) -> tuple[int, ...]:
        """Return the stages that must be complete before a batch."""
        needs = measure_statistics(self.request, legs, self.inputs, self.shape, self.after, self.number)
        if len(self.stages.states) > 1:
            # Three states at most lie on disk: what a batch reads, what it writes, and what the next one writes.
            needs = (*needs, self.stages.states[-2])
        return (*needs, *self.measured, *self.request.needs)

    def _add_stage(
        self,
        work: Work,
        legs: tuple[Leg, ...],
        final: Output | None,
        reading: Reading,
        shape: tuple[int, ...],
        needs: tuple[int, ...],
    ) -> tuple[Reading, tuple[int, ...]]:
        """Add the stage of a batch; return how its result is read, and by which stages it is written.

        States have no stage where only a region of the result is wanted: they are computed when they are read.
        """
        stages = self.stages
        if stages.roi is not None and final is None:
            return replace(reading, pixels=ComputedPixels(work)), self.after
        grid = stages.grid(shape if final is None else self.request.final_shape(shape))
        stage = stages.add(_title(legs), work, grid, self.after, needs)
        if final is None:
            stages.states.append(stage)
        return reading, (stage,)

    def _carried(self, legs: tuple[Leg, ...], target: ZarrPixels, channels: int) -> Carried | None:
        """Return the arrays that the last operator carries to the next batch, None without."""
        ndim = len(self.frames.spatial)
        assert (carried_into(legs, ndim, self.channels) > 0) == (self.inputs.carried is not None)
        count = carried_out_of(legs, ndim, channels)
        return Carried.beside(target, count, self.frames) if count else None

    def _check(self, legs: tuple[Leg, ...], left: int) -> EnergyCheck:
        """Return the check after the batch that is added next; each of the `left` batches after it is one stage."""
        until, stage = self.chain.until, self.stages.following
        tolerance = None if until is None else until.energy
        taken = legs[-1].first + legs[-1].steps
        before = self.checks[-1].number if self.checks else None
        check = EnergyCheck(self.chain.positions[0], taken, stage, before, stage + left, tolerance)
        self.checks.append(check)
        return check


def _title(legs: tuple[Leg, ...]) -> str:
    parts = (f"{leg.operator.name} ({leg.steps} steps)" for leg in legs if leg.steps)
    return ", ".join(parts) or "copy"
