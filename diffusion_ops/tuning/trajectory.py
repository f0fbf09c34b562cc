"""Carry samples along one evolution and look at them on the way: all stopping times for the price of the last."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusion_ops.blocks.block import Block, Floats, allocate
from diffusion_ops.blocks.statistic import STATISTICS
from diffusion_ops.evolution.advance import Leg, advance
from diffusion_ops.evolution.arguments import make_legs
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.parameters import check_number
from diffusion_ops.evolution.schedule import Cycles, resolve_schedule
from diffusion_ops.tuning.criterion import Criterion, exact_means
from diffusion_ops.tuning.samples import measure, with_state

Results = list[list[Floats]]
"""A list per sample: what became of the image, and of each disturbed copy."""

Watch = Callable[[float], None]
"""Told the part of the work that is done, from 0 to 1."""

_SCORING = 4
"""Steps that take about as long as a score."""


def unwatched(part: float) -> None:
    """Take no notice."""


@dataclass
class Trial:
    """Samples with their disturbed copies, ready to be run with one operator after another.

    Attributes
    ----------
    rule : Criterion
        What the copies are for.
    samples : sequence of Block
        The image's samples.
    starts : list of lists of Block
        A list per sample: the image where the operators on trial begin, and its copies.
    inputs : list of lists of arrays
        The same before anything was done to them.
    noise : float or None
        Noise level, where the criterion needs it.
    work : int
        Values times steps so far.
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
        """Disturb the samples, and take them through what comes before the operators on trial."""
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
        """Return the score of an operator at each of the growing times."""
        found = []
        for part, results in self.results(operator, times, schedule):
            found.append(self.score(results))
            watch(part)
        return tuple(found)

    def results(
        self, operator: Operator, times: Sequence[float | None], schedule: Any
    ) -> Iterator[tuple[float, Results]]:
        """Yield the part of the work that is done, and what comes out, at each of the growing times.

        Statistics of the operator are reduced over the samples first. From one time to the next the schedule
        takes its explicit steps, or one FSI cycle.

        Raises
        ------
        ValueError
            For an operator whose result has other channels than the image.
        """
        channels = len(self.samples[0].storage)
        if operator.result_channels(channels) != channels:
            raise ValueError(
                f"{operator.name} does not give an image that can be compared with the noisy one. "
                "Give an operator that keeps the channels."
            )
        runs = self._copies()
        operator = operator.bind(measure(operator.statistics(), [some[0] for some in runs]))
        ways = itertools.pairwise([0.0, *times])
        legs = [_make_leg(operator, self.spacing, begin or 0.0, end, schedule) for begin, end in ways]
        ends = list(itertools.accumulate(leg.steps for leg in legs))
        for i, (leg, end) in enumerate(zip(legs, ends, strict=True)):
            self._take(runs, [replace(leg, first=end - leg.steps, last=False)])
            last = Leg(operator, (), end, last=True)
            part = (end + _SCORING * (i + 1)) / (ends[-1] + _SCORING * len(ends))
            yield part, [[_ended(block, last) for block in some] for some in runs]

    def outcome(self, legs: Sequence[Leg]) -> Results:
        """Return what comes out of legs, just as `evolve` takes them."""
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
    """Return what comes out if the operator ends here; the block itself goes on."""
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
        Where the samples have none.
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
