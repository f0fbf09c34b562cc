"""Lay out a chain of operators in batches: what is measured first, the passes, and where the energy is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.evolution.advance import Leg, carried_into, carried_out_of, result_channels
from diffusion_ops.evolution.arguments import split_batches
from pipelines.plan.graph import is_source
from pipelines.plan.plan import Output
from pipelines.plan.stages import ChainRequest, Image
from pipelines.tasks.inputs import ComputedPixels, Inputs, Reading
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import Carried
from pipelines.tasks.work import KINDS, Work


@dataclass(frozen=True)
class EnergyCheck:
    """The energy is measured after a part of an operator's steps, and may end it.

    Attributes
    ----------
    position : int
        Of the operator among the steps of the spec.
    steps : int
        That it has taken.
    number : int
        Of the stage that measures.
    before : int or None
        Stage of the check before.
    closing : int
        Stage that ends the operator, and reads the state of the last stage before it.
    tolerance : float or None
        Stop where the energy fell by less than this part of it since the check before; None to go on.
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
    return Inputs(request.begin.reading, guide, mask)


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
    """Add the stage that measures what an operator which begins here needs of the whole image, and return it.

    Raises
    ------
    NotAloneError
        Where only a part of the image is asked for, and the operator does not begin with the source.
    """
    pending = legs[0].operator.statistics() if legs and legs[0].first == 0 else {}
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
    """One chain on its way through its batches.

    Parameters
    ----------
    request : ChainRequest
    make : callable
        Makes the work of a batch from its attributes by name.
    """

    def __init__(self, request: ChainRequest, make: Callable[..., Work]) -> None:
        self.request, self.make = request, make
        self.stages, self.chain, self.frames = request.stages, request.chain, request.frames
        self.inputs, self.after = request_inputs(request), request_after(request)
        self.shape, self.channels = request.begin.shape, request.begin.reading.channels
        self.working = working_dtype(request.begin.reading.dtype)
        self.number = request.number
        self.checks: list[EnergyCheck] = []

    def lay_out(self) -> Image:
        """Return the result of the chain."""
        if self.chain.until:
            self.request.refuse_part(
                "stops by the energy of the whole image, so a part alone cannot be "
                "computed. Run the spec first and verify it, or give a number of steps instead of until."
            )
        alone = self.stages.roi is not None
        # A part of the image is computed in one pass.
        parts = [self.chain.legs] if alone else self.chain.parts
        batch = None if alone else self.stages.geometry.batch
        batches = [(i, legs) for i, part in enumerate(parts) for legs in split_batches(part, batch) or [part]]
        for k, (part, legs) in enumerate(batches):
            left = len(batches) - 1 - k
            self._batch(legs, left, checks=left > 0 and batches[k + 1][0] != part)
        return Image(self.inputs.image, self.shape, self.after)

    def _batch(self, legs: tuple[Leg, ...], left: int, checks: bool) -> None:
        """Add a batch, `left` batches before the chain's end; `checks` says that the energy is measured after it."""
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
            base=(request.given_back or request.begin.reading) if ends and self.chain.mask else None,
            original=request.final_original() if ends else None,
            roi=stages.roi if final is not None else None,
            check=self._check(legs, left) if checks else None,
        )
        reading, number = self._add_stage(work, legs, final, Reading(target, dtype, None, out), shape, needs)
        # A guide is read again by the next batch; what the mask made walls stays so in the state.
        guide = request.beside["guide"].stages if "guide" in request.beside else ()
        self.after = number if ends else (*number, *guide)
        self.inputs = Inputs(reading, self.inputs.guide, None, keeps)
        self.shape, self.channels, self.number = shape, out, self.number + 1

    def _needs(self, legs: tuple[Leg, ...]) -> tuple[int, ...]:
        """Return the stages that must be complete before a batch."""
        needs = measure_statistics(self.request, legs, self.inputs, self.shape, self.after, self.number)
        if len(self.stages.states) > 1:
            # Three states at most lie on disk: what a batch reads, what it writes, and what the next one writes.
            needs = (*needs, self.stages.states[-2])
        if self.checks:
            needs = (*needs, self.checks[-1].number)
        return (*needs, *self.request.needs)

    def _add_stage(
        self,
        work: Work,
        legs: tuple[Leg, ...],
        final: Output | None,
        reading: Reading,
        shape: tuple[int, ...],
        needs: tuple[int, ...],
    ) -> tuple[Reading, tuple[int, ...]]:
        """Return how a batch's result is read and the stages that write it; a part's states are only computed."""
        stages = self.stages
        if stages.roi is not None and final is None:
            return replace(reading, pixels=ComputedPixels(work)), self.after
        grid = stages.grid(shape if final is None else self.request.final_shape(shape))
        stage = stages.add(_title(legs), work, grid, self.after, needs)
        if final is None:
            stages.states.append(stage)
        return reading, (stage,)

    def _carried(self, legs: tuple[Leg, ...], target: ZarrPixels, channels: int) -> Carried | None:
        """Return where what the last operator carries on goes, if it goes on."""
        ndim = len(self.frames.spatial)
        assert (carried_into(legs, ndim, self.channels) > 0) == (self.inputs.carried is not None)
        count = carried_out_of(legs, ndim, channels)
        if not count:
            return None
        along = self.frames.carried_along
        axes = "k" + "".join(self.frames.axes[axis] for axis in along)
        return Carried(ZarrPixels(target.root, f"{target.path}-beside", axes, axes), count, along)

    def _check(self, legs: tuple[Leg, ...], left: int) -> EnergyCheck:
        """Return the check after the batch whose stage comes next; every batch after it is one stage."""
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
