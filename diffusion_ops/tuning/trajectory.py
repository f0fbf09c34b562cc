"""Score all stopping times of an operator in one evolution of the samples, at the cost of the last time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusion_ops.blocks.block import Block, Floats, allocate
from diffusion_ops.blocks.statistic import STATISTICS
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import make_legs
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.parameters import check_number
from diffusion_ops.evolution.schedule import Cycles, resolve_schedule
from diffusion_ops.tuning.criterion import Criterion, exact_means
from diffusion_ops.tuning.samples import measure, with_state

Results = list[list[Floats]]
"""Denoised images, a list per sample: of the image, and of each disturbed copy."""

Watch = Callable[[float], None]
"""Function that receives the finished part of the work, from 0 to 1."""

_SCORING = 4
"""Number of steps that take about as long as a score."""


def unwatched(part: float) -> None:
    """Ignore the progress."""


@dataclass
class Trial:
    """Samples with their disturbed copies, on which operators are tried one after another.

    Attributes
    ----------
    rule : Criterion
        Criterion that the copies are made for.
    samples : sequence of Block
        Samples of the image.
    starts : list of lists of Block
        A list per sample: the image that the tried operators begin with, and its copies.
    inputs : list of lists of arrays
        The same before any operator.
    noise : float or None
        Noise level, None where the criterion needs none.
    work : int
        Number of values times steps so far.
    """

    rule: Criterion
    samples: Sequence[Block]
    starts: list[list[Block]]
    inputs: Results
    noise: float | None
    work: int = 0

    @classmethod
    def begin(
        cls,
        rule: Criterion,
        samples: Sequence[Block],
        noise: float | None,
        seed: int,
        before: Sequence[Leg] = (),
    ) -> Trial:
        """Disturb the samples, and apply the operators that precede the tried ones."""
        level = noise_level(samples, noise) if rule.needs_noise else None
        inputs = [
            [s.u.copy(), *rule.disturbed(s.u, s.valid, level or 0.0, seed, i)] for i, s in enumerate(samples)
        ]
        starts = [[with_state(s, u) for u in some] for s, some in zip(samples, inputs, strict=True)]
        trial = cls(rule, samples, starts, inputs, level)
        trial._take(starts, before)
        return trial

    @property
    def spacing(self) -> tuple[float, ...]:
        """Grid spacing per spatial axis."""
        return self.samples[0].spacing

    def scores(
        self, operator: Operator, times: Sequence[float | None], schedule: Any, watch: Watch = unwatched
    ) -> tuple[float, ...]:
        """Return the scores of an operator at increasing times."""
        found = []
        for part, results in self.results(operator, times, schedule):
            found.append(self.score(results))
            watch(part)
        return tuple(found)

    def results(
        self, operator: Operator, times: Sequence[float | None], schedule: Any
    ) -> Iterator[tuple[float, Results]]:
        """Yield the finished part of the work and the results, at increasing times.

        Statistics of the operator are measured over the samples first. From one time to the next the schedule
        takes explicit steps, or one FSI cycle.

        Raises
        ------
        ValueError
            For an operator that changes the number of channels.
        """
        channels = len(self.samples[0].storage)
        if operator.result_channels(channels) != channels:
            raise ValueError(
                f"{operator.name} does not give an image that can be compared with the noisy one. "
                "Give an operator that keeps the channels."
            )
        runs = self._copies()
        operator = operator.bind(measure(operator.statistics(), [some[0] for some in runs]))
        intervals = itertools.pairwise([0.0, *times])
        legs = [_make_leg(operator, self.spacing, begin or 0.0, end, schedule) for begin, end in intervals]
        ends = list(itertools.accumulate(leg.steps for leg in legs))
        for i, (leg, end) in enumerate(zip(legs, ends, strict=True)):
            self._take(runs, [replace(leg, first=end - leg.steps, last=False, begins=i == 0)])
            last = Leg(operator, (), end, last=True, begins=False)
            part = (end + _SCORING * (i + 1)) / (ends[-1] + _SCORING * len(ends))
            yield part, [[_ended(block, last) for block in some] for some in runs]

    def outcome(self, legs: Sequence[Leg]) -> Results:
        """Return the results of legs, which are taken as `evolve` takes them."""
        runs = self._copies()
        self._take(runs, legs)
        return [[block.u for block in some] for some in runs]

    def _copies(self) -> list[list[Block]]:
        return [[with_state(block, block.u) for block in some] for some in self.starts]

    def _take(self, runs: Sequence[Sequence[Block]], legs: Sequence[Leg]) -> None:
        for leg in legs:
            bound = leg.bind(measure(leg.operator.statistics(), [some[0] for some in runs]))
            for block in itertools.chain.from_iterable(runs):
                advance(block, [bound])
                self.work += block.u.size * leg.steps

    def score(self, results: Results) -> float:
        """Return the score of results."""
        noise, pairs = self.noise or 0.0, zip(self.inputs, results, strict=True)
        means = exact_means(self.samples, [self.rule.terms(*pair, noise) for pair in pairs])
        return self.rule.score(means, noise)


def _make_leg(
    operator: Operator, spacing: tuple[float, ...], begin: float, end: float | None, schedule: Any
) -> Leg:
    """Return the leg from one time (or number of iterations) of an operator to another."""
    if end is None:
        return make_legs(operator, spacing, schedule=schedule)[0]
    if operator.controlled_by == "iterations":
        return make_legs(operator, spacing, steps=int(end - begin), schedule=schedule)[0]
    rule = resolve_schedule(schedule, None, None, operator.inertial_cycles)
    return make_legs(operator, spacing, time=end - begin, schedule=Cycles(1) if rule.inertial else rule)[0]


def _ended(block: Block, end: Leg) -> Floats:
    """Return the result of ending the operator here; the block itself is not changed."""
    copy = with_state(block, block.u)
    if block.carried is not None:
        copy.carried = allocate(len(block.carried), block.spatial, block.carried.dtype)
        copy.carried[...] = block.carried
    return advance(copy, [end]).u


def noise_level(samples: Sequence[Block], given: float | None) -> float:
    """Return the standard deviation of the noise, given or estimated from the samples.

    Raises
    ------
    ValueError
        Where the samples have no noise.
    """
    if given is None:
        given = measure({"noise": STATISTICS["noise"]()}, samples)["noise"]
        if not given:
            raise ValueError(
                "The samples of the image have no noise. Give its level as noise=, "
                "or use criterion='decorrelation', which does not ask for it."
            )
    check_number("noise", given, positive=True, unit="image units")
    return float(given)
