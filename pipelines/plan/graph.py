"""Join the steps of a spec into chains, and decide what each chain reads."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from diffusion_ops.evolution.arguments import make_legs, split_batches
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import Operator
from pipelines.image.frames import Frames
from pipelines.refusal import RefusedError
from pipelines.spec.links import SOURCE
from pipelines.spec.spec import Spec
from pipelines.spec.step import StepSpec, UntilSpec


@dataclass(frozen=True)
class Chain:
    """Operators one after another on one level of the image, with nothing stored between them.

    Attributes
    ----------
    name : str
        Name of its last step.
    legs : tuple of Leg
        Operators, each with the cycles that it takes.
    positions : tuple of int
        Positions of the operators among the steps of the spec.
    input : str
        Name of the step whose result it begins with, or of the source.
    beside : mapping of str to str
        Names of the steps, and addresses, that it reads beside its input, by "guide", "mask", "markers", "known".
    level : int
        Number of times that the image is halved.
    until : UntilSpec or None
        Condition to stop early.
    energy : bool
        True where the energy is measured between parts.
    tolerance : float or None
        How near the answer has to be to the exact one; None for the problem's default.
    """

    name: str
    legs: tuple[Leg, ...]
    positions: tuple[int, ...]
    input: str
    beside: Mapping[str, str] = field(default_factory=dict)
    level: int = 0
    until: UntilSpec | None = None
    energy: bool = False
    tolerance: float | None = None

    @property
    def steps(self) -> int:
        """Number of time steps of all operators."""
        return sum(leg.steps for leg in self.legs)

    def positions_of(self, legs: tuple[Leg, ...]) -> tuple[int, ...]:
        """Return the positions of the operators of a batch; steps of a spec never share an operator object."""
        return tuple(self._position[id(part.operator)] for part in legs)

    @functools.cached_property
    def _position(self) -> dict[int, int]:
        return {id(leg.operator): position for leg, position in zip(self.legs, self.positions, strict=True)}

    @property
    def kind(self) -> str:
        """Name of the kind of work that carries it out."""
        adaptive = self.legs[0].adaptive
        if adaptive is not None and adaptive.given is None and not adaptive.finished:
            return "adapt"
        return kind_of(self.legs[-1].operator)

    @property
    def parts(self) -> list[tuple[Leg, ...]]:
        """The legs between two checks of the energy, or two measurements of numbers that an operator refreshes.

        Where there are checks, the last part takes no step.
        """
        if not self.energy:
            return [(part,) for part in self.legs[0].parts()] if len(self.legs) == 1 else [self.legs]
        (leg,) = self.legs
        every = (self.until.every if self.until else None) or max(1, -(-leg.steps // CHECKS))
        parts = [tuple(replace(leg, last=False) for leg in part) for part in split_batches([leg], every)]
        return [*parts, (replace(leg, cycles=(), first=leg.first + leg.steps, begins=not parts),)]


CHECKS = 20
"""Number of checks of the energy where the user gives none; fixed, as the result must not depend on the batches."""


def kind_of(operator: Operator) -> str:
    """Return the kind of work that carries out an operator: "complete" where it has a completion, else its own."""
    return operator.work_kind if operator.completion() is None else "complete"


@dataclass(frozen=True)
class Known:
    """Numbers that an earlier run of the same spec has found, per position of a step.

    Attributes
    ----------
    bound : mapping
        Values of statistics.
    stopped : mapping
        Numbers of steps after which operators stopped early.
    taken : mapping
        Sizes of adaptive steps, batch by batch.
    """

    bound: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    stopped: Mapping[int, int] = field(default_factory=dict)
    taken: Mapping[int, Sequence[float]] = field(default_factory=dict)


def make_chains(spec: Spec, frames: Frames, known: Known) -> tuple[Chain, ...]:
    """Return the chains of a spec in the order of its steps.

    Raises
    ------
    ValueError
        Where times leave the stable range.
    """
    found: list[Chain] = []
    # A step that joins the chain before it is its only reader.
    readers = Counter(name for step in spec.steps for name in {step.input, *step.beside.values()})
    readers.update([spec.sink.of, *(name for output in spec.outputs for name in (output.name, output.of))])
    for position, step in enumerate(spec.steps):
        try:
            (leg,) = make_legs(step.make_operator(), frames.at(step.octave).spacing, **step.times())
        except ArithmeticError as error:
            raise RefusedError(
                f"The step {step.name!r} has numbers that are too large or too small to compute with ({error}). "
                "Change its parameters."
            ) from error
        leg = _cut_short(leg.bind(known.bound.get(position, {})), known.stopped.get(position))
        refreshed = leg.operator.refreshed() is not None
        alone = bool(step.beside or step.energy or step.until or leg.adaptive or refreshed)
        before = found[-1] if found else None
        if before is not None and _joins(before, step, readers[before.name]) and not alone:
            found[-1] = replace(
                before, name=step.name, legs=(*before.legs, leg), positions=(*before.positions, position)
            )
        else:
            until = None if position in known.stopped else step.until
            energy = position not in known.stopped and (step.energy or step.until is not None)
            # With all numbers known, the parts of an operator that refreshes them need not wait for one another.
            legs = tuple(leg.parts()) if leg.numbers else _with_steps(leg, known.taken.get(position))
            positions = (position,) * len(legs)
            links = (step.input, step.beside, step.octave)
            found.append(Chain(step.name, legs, positions, *links, until, energy, step.tolerance))
    return tuple(found)


def _joins(before: Chain, step: StepSpec, readers: int) -> bool:
    """Return whether a step can join the chain before it, whose result nothing else reads."""
    return not (
        kind_of(before.legs[-1].operator) != "evolve"
        or kind_of(step.make_operator()) not in ("evolve", "complete")
        or before.legs[-1].adaptive is not None
        or before.legs[-1].operator.refreshed() is not None
        or step.input != before.name
        or step.octave != before.level
        or before.beside
        or before.energy
        or readers != 1
    )


def _cut_short(leg: Leg, steps: int | None) -> Leg:
    """Return the leg with only its first steps."""
    if steps is None:
        return leg
    kept, taken = [], 0
    for cycle in leg.cycles:
        if taken + cycle.steps <= steps:
            kept.append(cycle)
            taken += cycle.steps
    return replace(leg, cycles=tuple(kept))


def _with_steps(leg: Leg, taken: Sequence[float] | None) -> tuple[Leg, ...]:
    """Return one leg per batch of adaptive steps where their sizes are known, else the leg itself."""
    if taken is None or leg.adaptive is None:
        return (leg,)
    return tuple(replace(leg, adaptive=replace(leg.adaptive, given=tau)) for tau in taken)


def is_source(name: str) -> bool:
    """Return whether a name means the image itself."""
    return name == SOURCE
