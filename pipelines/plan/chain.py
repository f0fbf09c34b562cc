"""Lay out one chain of operators: its statistics, its batches, and its looks at the energy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.evolution.advance import Leg, carried_into, carried_out_of, result_channels
from diffusion_ops.evolution.arguments import split_batches
from pipelines.kinds.adapt import Adapt
from pipelines.kinds.evolve import ComputedPixels, Evolve
from pipelines.kinds.join import Components, Join
from pipelines.kinds.measure import Measure
from pipelines.plan.graph import Segment, is_source
from pipelines.plan.plan import Look, Output
from pipelines.plan.stages import Image, StageList
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.work import Carried, Frames


class NotAloneError(ValueError):
    """A part of the result that cannot be computed without the whole of it."""


@dataclass
class Chain:
    """One chain on its way through batches.

    Attributes
    ----------
    list : StageList
        Where its stages go.
    original : Reading
        The source.
    segment : Segment
    frames : Frames
        Of its level.
    begin : Image
        What it begins with.
    beside : dict
        The images that it reads beside, by "guide" and "mask".
    output : Output or None
        The result that its last batch writes.
    """

    list: StageList
    original: Reading
    segment: Segment
    frames: Frames
    begin: Image
    beside: dict[str, Image]
    output: Output | None

    def __post_init__(self) -> None:
        guide, mask = (self.beside[w].reading if w in self.beside else None for w in ("guide", "mask"))
        self.inputs = Inputs(self.begin.reading, guide, mask)
        self.after = (*self.begin.stages, *(i for image in self.beside.values() for i in image.stages))
        self.shape, self.channels = self.begin.shape, self.begin.reading.channels
        self.working = working_dtype(self.begin.reading.dtype)
        self.number = 0
        self.looked: int | None = None
        self.joins = self.segment.legs[-1].operator.joins

    def lay_out(self) -> Image:
        """Return the result of the chain."""
        alone = self.list.roi is not None
        if alone and self.segment.until:
            raise NotAloneError(
                f"{self.segment.name} stops by the energy of the whole image, so a part alone cannot be "
                "computed. Run the spec first and verify it, or give a number of steps instead of until."
            )
        adaptive = self.segment.legs[0].adaptive
        if adaptive is not None and adaptive.given is None and not adaptive.finished:
            self._adapt()
        pieces = [self.segment.legs] if alone else self.segment.pieces
        # A part of the image is computed in one pass.
        batch = None if self.list.roi is not None else self.list.geometry.batch
        batches = [
            (i, part) for i, piece in enumerate(pieces) for part in split_batches(piece, batch) or [piece]
        ]
        for k, (piece, part) in enumerate(batches):
            ends = k == len(batches) - 1
            looks = not ends and batches[k + 1][0] != piece
            self._batch(part, ends, looks)
        self._set_closing()
        if self.joins:
            self._join()
        return Image(self.inputs.image, self.shape, self.after)

    def _batch(self, legs: tuple[Leg, ...], ends: bool, looks: bool) -> None:
        run, ndim = self.list, len(self.frames.spatial)
        needs = self._statistics(legs)
        if len(run.states) > 1:
            # Three states at most lie on disk: what a batch reads, what it writes, and what the next one writes.
            needs = (*needs, run.states[-2])
        if self.looked is not None:
            needs = (*needs, self.looked)
        out = result_channels(legs, self.channels)
        shape = run.with_channels(self.shape, out)
        final = self.output if ends and not self.joins else None
        target, dtype = self._target(final), self.working if final is None else final.info.dtype
        carried = carried_out_of(legs, ndim, out)
        assert (carried_into(legs, ndim, self.channels) > 0) == (self.inputs.carried is not None)
        work = Evolve(
            self.inputs,
            target,
            self.frames,
            legs,
            self._positions(legs),
            dtype,
            self.shape,
            keeps=self._carried(target, carried) if carried else None,
            base=self.begin.reading if ends and self.segment.mask else None,
            original=None if final is None else self.list.original(final, self.original),
            energy=looks,
            roi=run.roi if final is not None else None,
        )
        if run.roi is not None and final is None:
            reading, number = Reading(ComputedPixels(work), dtype, None, out), self.after
        else:
            grid = run.grid(self._result_shape(final, shape))
            stage = run.add(_title(legs), work, grid, self.after, needs)
            reading, number = Reading(target, dtype, None, out), (stage,)
            if final is None:
                run.states.append(stage)
            if looks:
                self._look(stage, legs)
        # A guide is read again by the next batch; what the mask made walls stays so in the state.
        guide = self.beside["guide"].stages if "guide" in self.beside else ()
        self.after = (*number, *guide) if not ends else number
        self.inputs = Inputs(reading, self.inputs.guide, None, work.keeps)
        self.shape, self.channels, self.number = shape, out, self.number + 1

    def _adapt(self) -> None:
        """Lay out the stage that takes adaptive steps, as often as it needs; the chain then only ends."""
        (leg,), run = self.segment.legs, self.list
        if run.roi is not None:
            raise NotAloneError(
                f"{self.segment.name} chooses its steps by the error over the whole image, so a part alone cannot "
                "be computed. Run the spec first and verify it, or give schedule: explicit."
            )
        needs = self._statistics(self.segment.legs)
        target, (position,) = self._target(None), self.segment.positions
        work = Adapt(self.inputs, target, self.frames, leg, position, self.working, self.shape)
        stage = run.add(f"{leg.operator.name} (adaptive)", work, run.grid(self.shape), self.after, needs)
        self.inputs, self.after = Inputs(Reading(target, self.working, None, self.channels)), (stage,)
        # No tile may end the operator before all of them have decided that it has.
        self.number, self.looked = self.number + 1, stage
        ended = replace(leg, adaptive=None, first=1)
        self.segment = replace(self.segment, legs=(ended,))

    def _join(self) -> None:
        """Join what the operator has marked as weak and strong, over the whole image."""
        run, classes, final = self.list, self.inputs.image, self.output
        if run.roi is not None:
            raise NotAloneError(
                f"{self.segment.name} joins edges over the whole image, so a part alone cannot be computed. "
                "Run the spec first, or give joined: false for the edges before they are joined."
            )
        kept = f"{run.workdir}/joined/{self.segment.name}.npy"
        grid = run.grid(self.shape)
        told = run.add("label edges", Components(classes, self.frames, kept), grid, self.after)
        target, dtype = self._target(final), self.working if final is None else final.info.dtype
        original = None if final is None else run.original(final, self.original)
        work = Join(classes, self.frames, kept, target, dtype, original)
        grid = run.grid(self._result_shape(final, self.shape))
        stage = run.add("join edges", work, grid, self.after, (told,))
        self.inputs, self.after = Inputs(Reading(target, dtype, None, self.channels)), (stage,)

    def _result_shape(self, final: Output | None, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if final is None else tuple(final.info.size(a) for a in self.frames.axes)

    def _target(self, final: Output | None) -> ZarrPixels:
        if final is not None:
            return self.list.level(final, 0)
        return self.list.array("state", f"{self.segment.name}@{self.number}")

    def _carried(self, target: ZarrPixels, count: int) -> Carried:
        along = self.frames.carried_along
        axes = "k" + "".join(self.frames.axes[axis] for axis in along)
        return Carried(ZarrPixels(target.root, f"{target.path}-beside", axes, axes), count, along)

    def _positions(self, legs: tuple[Leg, ...]) -> tuple[int, ...]:
        """Return which steps the operators of a batch are; steps of a spec never share an operator object."""
        own = list(zip(self.segment.legs, self.segment.positions, strict=True))
        return tuple(next(p for leg, p in own if leg.operator is part.operator) for part in legs)

    def _statistics(self, legs: tuple[Leg, ...]) -> tuple[int, ...]:
        """Measure what an operator that begins here needs of the whole image, and return the stage that does."""
        pending = legs[0].operator.statistics() if legs and legs[0].first == 0 else {}
        if not pending:
            return ()
        run, (position, *_) = self.list, self._positions(legs)
        if run.roi is not None and (self.number or not self._from_source()):
            raise NotAloneError(
                f"{legs[0].operator.name} measures the whole result of the step before it, so a part alone "
                "cannot be computed. Run the spec first, or give a number instead of the statistic."
            )
        title = f"measure {', '.join(pending)} for {legs[0].operator.name}"
        work = Measure(self.inputs, self.frames, pending, position, self.shape)
        return (run.add(title, work, run.grid(self.shape), self.after),)

    def _from_source(self) -> bool:
        return is_source(self.segment.input) and not self.segment.level and not self.beside

    # ---- looks at the energy

    def _look(self, stage: int, legs: tuple[Leg, ...]) -> None:
        until = self.segment.until
        tolerance = None if until is None else until.energy
        taken = legs[-1].first + legs[-1].steps
        look = Look(self.segment.positions[0], taken, self.looked, -1, tolerance)
        self.list.stages[stage] = replace(self.list.stages[stage], look=look)
        self.looked = stage

    def _set_closing(self) -> None:
        """Tell every look which stage ends the operator."""
        closing = len(self.list.stages) - 1
        for number, stage in enumerate(self.list.stages):
            if stage.look is not None and stage.look.closing < 0:
                self.list.stages[number] = replace(stage, look=replace(stage.look, closing=closing))


def _title(legs: tuple[Leg, ...]) -> str:
    parts = (f"{leg.operator.name} ({leg.steps} steps)" for leg in legs if leg.steps)
    return ", ".join(parts) or "copy"
