"""Choose stopping times and parameters without a clean image, from samples of the noisy one."""

from __future__ import annotations

import itertools
import math
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, Unpack

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.arguments import (
    Container,
    OperatorLike,
    ScheduleLike,
    make_legs,
    require_evolutions,
)
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import OPERATORS, Operator
from diffusion_ops.evolution.parameters import AUTO, check_count, check_number
from diffusion_ops.tuning.criterion import CRITERIA
from diffusion_ops.tuning.samples import SamplePosition, read_samples
from diffusion_ops.tuning.trajectory import Trial, Watch, unwatched

Times = tuple[float | None, ...]

Candidate: TypeAlias = OperatorLike | type[Operator]


@dataclass(frozen=True)
class Curve:
    """Scores of one operator along its evolution.

    Attributes
    ----------
    operator : Operator
        Operator as it was given; its statistics are not replaced by values.
    times : tuple of numbers
        Stopping times, in squared units of the spacing; numbers of iterations for an operator without time; (None,)
        for one that is applied once or with its usual number of iterations.
    scores : tuple of float
        Score at each of them.
    best : int
        Index of the time that the criterion chose.
    """

    operator: Operator
    times: Times
    scores: tuple[float, ...]
    best: int

    @property
    def time(self) -> float | None:
        """Best stopping time."""
        return self.times[self.best]

    @property
    def score(self) -> float:
        """Score at the best stopping time."""
        return self.scores[self.best]


@dataclass(frozen=True)
class Tuning:
    """A choice of operator and stopping time, with the scores behind it.

    Attributes
    ----------
    curves : tuple of Curve
        One per candidate, the best first.
    criterion : str
        Name of the criterion.
    noise : float or None
        Noise level that the criterion used, in image units; None where it needs none.
    positions : tuple of (frame, ((begin, end) per axis))
        Positions of the samples.
    cells : int
        Number of cells in the samples.
    work : int
        Number of values times steps that were computed.
    seconds : float
        Duration; it does not count where two tunings are compared.
    """

    curves: tuple[Curve, ...]
    criterion: str
    noise: float | None
    positions: tuple[SamplePosition, ...]
    cells: int
    work: int
    seconds: float = field(compare=False)

    @property
    def operator(self) -> Operator:
        """Best operator."""
        return self.curves[0].operator

    @property
    def time(self) -> float | None:
        """Best time or number of iterations of that operator; None for one that is applied once."""
        return self.curves[0].time

    @property
    def score(self) -> float:
        """Smallest score; the estimated mean squared error for "sure"."""
        return self.curves[0].score


def default_times(spacing: Sequence[float]) -> tuple[float, ...]:
    """Return 27 times from 0.025 to 205 times the square of the finest spacing, each √2 times the one before.

    The score is flat around its minimum: on photographs with noise of 25 grey levels, a grid twice as fine gains
    0.02 dB.
    """
    return tuple(0.025 * min(spacing) ** 2 * 2 ** (k / 2) for k in range(27))


def tune(
    image: Any,
    operator: Candidate | Sequence[Candidate],
    parameters: Mapping[str, Sequence[Any]] | None = None,
    *,
    times: Sequence[float] | None = None,
    criterion: str = "sure",
    noise: float | None = None,
    schedule: ScheduleLike | None = None,
    samples: int = 16,
    size: int = 256,
    seed: int = 0,
    **container: Unpack[Container],
) -> Tuning:
    """Choose the stopping time of an operator, or the best of several operators, from the noisy image alone.

    Only samples of the image are read (see `read_samples`), within this call; elsewhere a Dask array is not computed.
    Every sample evolves as an image of its own; statistics are measured over all samples. The choice does not depend
    on the container or its chunks.

    Parameters
    ----------
    image : ndarray, dask array or DataArray
        As in `evolve`.
    operator : Operator, class, str, or a sequence of them
        Candidates.
    parameters : mapping from names to sequences of values, optional
        Values to try; every combination makes a candidate of each operator.
    times : sequence of numbers, optional
        Stopping times to choose from, or numbers of iterations; `default_times` for evolutions, the usual number for
        iterations.
    criterion : str
        "sure" (needs white Gaussian noise), "j-invariance" (noise of any distribution, independent from pixel to
        pixel), "discrepancy", "decorrelation".
    noise : float, optional
        Standard deviation of the noise, in image units; estimated from the samples by default.
    schedule : as in `evolve`
        Explicit steps, or one FSI cycle from each time to the next.
    samples, size, seed : int
        Number of samples, their size of about size² cells, and the key of the random numbers.
    **container
        spacing, channel_axis, mask, nodata and guide, as in `evolve`.

    Returns
    -------
    Tuning

    Raises
    ------
    ValueError, TypeError
        As `evolve`; for an unknown criterion; for an image without noise where the criterion needs it.

    Examples
    --------
    >>> import numpy as np
    >>> from diffusion_ops import Heat
    >>> image = np.random.default_rng(0).normal(100, 20, (64, 64))
    >>> bool(tune(image, Heat()).time > 20)
    True
    """
    CRITERIA[criterion]  # refused before anything is read
    candidates = make_candidates(operator, parameters)
    found = read_samples(image, samples=samples, size=size, seed=seed, **container)
    return tune_samples(
        *found, candidates, times=times, criterion=criterion, noise=noise, schedule=schedule, seed=seed
    )


def tune_samples(
    positions: Sequence[SamplePosition],
    blocks: Sequence[Block],
    candidates: Sequence[Operator],
    *,
    before: Sequence[Leg] = (),
    times: Sequence[float] | None = None,
    criterion: str = "sure",
    noise: float | None = None,
    schedule: Any = None,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Tuning:
    """Choose as `tune` does, from samples that are already read.

    Parameters
    ----------
    positions, blocks
        As `read_samples` returns them.
    candidates : sequence of Operator
        Operators to choose from.
    before : sequence of Leg
        Operators applied first; the score is that of the whole chain.
    times, criterion, noise, schedule, seed
        As in `tune`.
    watch : callable
        Receives the finished part of the work, from 0 to 1.

    Raises
    ------
    ValueError
        As `tune`.
    """
    started = clock.perf_counter()
    trial = Trial.begin(CRITERIA[criterion](), blocks, noise, seed, before)
    return Tuning(
        rank(trial, candidates, times, schedule, watch),
        criterion,
        trial.noise,
        tuple(positions),
        sum(math.prod(block.spatial) for block in blocks),
        trial.work,
        clock.perf_counter() - started,
    )


def rank(
    trial: Trial,
    candidates: Sequence[Operator],
    times: Sequence[float] | None,
    schedule: Any,
    watch: Watch = unwatched,
) -> tuple[Curve, ...]:
    """Return the curves of candidates, best first."""
    curves = []
    for i, one in enumerate(candidates):
        found = _times_of(one, times, trial.spacing)

        def of_all(part: float, before: int = i) -> None:
            watch((before + part) / len(candidates))

        scores = trial.scores(one, found, schedule, of_all)
        curves.append(Curve(one, found, scores, trial.rule.best(scores)))
    return tuple(sorted(curves, key=lambda curve: curve.score))


def make_candidates(operator: Any, parameters: Mapping[str, Sequence[Any]] | None = None) -> list[Operator]:
    """Return the operators with every combination of the given values of parameters.

    Examples
    --------
    >>> from diffusion_ops import PeronaMalik
    >>> [c.contrast for c in make_candidates(PeronaMalik, {"contrast": [4, 8]})]
    [4, 8]
    """
    several = (
        list(operator) if isinstance(operator, Sequence) and not isinstance(operator, str) else [operator]
    )
    names = parameters or {}
    points = [dict(zip(names, values, strict=True)) for values in itertools.product(*names.values())]
    candidates = [_candidate(one, point) for one in several for point in points]
    require_evolutions(candidates)
    if not candidates:
        raise ValueError(
            "There is nothing to choose from. Give an operator, and at least one value per parameter."
        )
    return candidates


def _candidate(operator: Any, point: Mapping[str, Any]) -> Operator:
    cls = OPERATORS[operator] if isinstance(operator, str) else operator
    if isinstance(cls, type) and issubclass(cls, Operator):
        return cls(**point)
    if not isinstance(operator, Operator):
        raise TypeError(
            f"{operator!r} is not an operator. Give one such as Heat(), a class, or a name: {', '.join(OPERATORS)}."
        )
    return replace(operator, **point) if point else operator


def _times_of(operator: Operator, times: Sequence[float] | None, spacing: tuple[float, ...]) -> Times:
    """Return the times to score, in increasing order."""
    if operator.controlled_by == "once" or (operator.controlled_by == "iterations" and times is None):
        return (None,)
    found = default_times(spacing) if times is None else tuple(sorted(set(times)))
    if not found:
        raise ValueError("times is empty. Give at least one, or leave it out.")
    for time in found:
        if operator.controlled_by == "iterations":
            check_count("times", time)
        check_number("times", time, positive=True, unit="squared units of the spacing")
    return found


def resolve_automatic_time(
    image: Any,
    operator: Any,
    *,
    time: Any,
    steps: Any = None,
    dt: Any = None,
    schedule: Any = None,
    **container: Any,
) -> Any:
    """Return the times of an operator or a chain, with "auto" replaced by chosen times.

    Along a chain each time is chosen after those of the operators before it, and minimises the "sure" score of all of
    them together. Other times, and those of operators without time, are returned unchanged.

    Parameters
    ----------
    image, operator, time, steps, dt, schedule
        As in `evolve`.
    **container
        spacing, channel_axis, mask, nodata and guide, as in `evolve`.

    Raises
    ------
    ValueError
        Where steps or dt are given beside "auto"; as `tune`.
    """
    single = isinstance(operator, str | Operator)
    chain = make_candidates(operator)
    columns = [_per_operator(value, len(chain)) for value in (time, steps, dt, schedule)]
    times = columns[0]
    wanted = [i for i, one in enumerate(chain) if _is_auto(times[i]) and one.controlled_by == "time"]
    if any(columns[1][i] is not None or columns[2][i] is not None for i in wanted):
        raise ValueError("time='auto' chooses how far to go by itself. Leave out steps and dt.")
    positions, blocks = read_samples(image, **container) if wanted else ([], [])
    for i in wanted:
        words = zip(("time", "steps", "dt", "schedule"), columns, strict=True)
        before = {word: column[:i] for word, column in words}
        legs = make_legs(chain[:i], blocks[0].spacing, **before) if i else ()
        times[i] = tune_samples(positions, blocks, [chain[i]], before=legs, schedule=columns[3][i]).time
    return times[0] if single else times


def asks_for_time(time: Any) -> bool:
    """Return True where one of the times of a chain is "auto"."""
    return any(_is_auto(one) for one in _per_operator(time, 1))


def _is_auto(time: Any) -> bool:
    return isinstance(time, str) and time == AUTO


def _per_operator(value: Any, count: int) -> list[Any]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return list(value) if several else [value] * count
