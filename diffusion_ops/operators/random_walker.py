"""Random walker: every pixel gets the label whose markers a random walk over the image most probably meets first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.blocks.statistic import Tally, make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import (
    AUTO,
    Choice,
    Count,
    Number,
    NumberOrStatistic,
    number,
    parameter,
)
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.steady_state import Part, SteadyState, valid_cells_of
from diffusion_ops.steady.couplings import similarity

FLOOR = 1e-10
"""Least coupling of neighbours, so that every region is reached."""

_COINS = tuple((row, column) for row in (28, 100, 155) for column in (27, 83, 133)) + ((62, 55),)
"""A pixel of each coin in the picture, and one between them."""

SCALE = Number(unit="image units", least=0, statistic=True)


@register("random-walker")
class RandomWalker(SteadyState):
    """Segmentation by random walks from markers: sum of w (p - p_neighbour) = 0, p = 1 at a label's markers, else 0.

    Neighbours are coupled by w = exp(-beta |ΔI|² / (10 deviation full_scale sqrt(channels))) + 1e-10, ΔI the difference
    per unit length, summed over channels. With labels counted from 1 and an image of values from 0 to 1 this is the
    formula of scikit-image. A pixel gets the label of the largest probability, the smallest of equal ones. Pixels that
    walls part from all markers get 0.

    The tolerance, 1e-4 by default, is the error of the probabilities: cycles end where a further one would change none
    by more than a thirty-second of it. That is no proven bound; against direct solutions no error was larger. Pixels
    whose two best labels are closer than two tolerances may have either.

    Parameters
    ----------
    beta : float
        The larger it is, the harder it is to cross an edge; without unit.
    deviation : float or Statistic
        Standard deviation of the image, in image units.
    full_scale : float or Statistic
        Difference that counts as 1, in image units: by default the range of the image; scikit-image takes 1 for floats,
        255 for bytes.
    probabilities : bool
        True for the probability of every label, along a new first axis in the order of the labels; over files they are
        channels, and `labels` says how many.
    error_bound : float
        Largest proven bound of the probabilities' errors that is accepted; without unit. 0, the default, proves
        nothing. The operator is an M-matrix: where A phi >= |residual| / 2, the error is at most 2 phi, up to the
        rounding of residuals. That takes one more solution, and is often 2 to 1000 times the error. Over files the
        report states the bound, and pixels are open that it leaves open.
    labels : int
        Number of different labels that the markers hold; other markers are refused. 0, the default, takes any.

    Raises
    ------
    ValueError
        For markers without a label, or at walls; for a tolerance below rounding, and one that is not reached; for
        errors that are not proven to be within `error_bound`.

    References
    ----------
    Grady: Random walks for image segmentation. IEEE Trans. Pattern Anal. Mach. Intell. 2006.
    """

    beta: float = parameter(Number(unit="1", least=0), default=130.0)
    deviation: NumberOrStatistic = parameter(
        SCALE, automatic=lambda _: make_statistic("standard-deviation"), default=AUTO
    )
    full_scale: NumberOrStatistic = parameter(
        SCALE, automatic=lambda _: make_statistic("range"), default=AUTO
    )
    probabilities: bool = parameter(Choice((False, True), aliases=("return_full_prob",)), default=False)
    error_bound: float = parameter(Number(unit="1", least=0), default=0.0)
    labels: int = parameter(Count(unit="labels", least=0), default=0)

    equation = "sum w (p - p_neighbour) = 0, w = exp(-beta |ΔI|² / (10 σ))"
    reference = "Grady 2006"
    picture = Picture("coins", shown="labels", markers=_COINS)
    samples = Samples(({"deviation": 40.0, "full_scale": 200.0}, {"probabilities": True}))
    reads = ("markers",)
    requires = ("markers",)
    couples_channels = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "gives_labels", not self.probabilities)
        object.__setattr__(self, "stacks", self.probabilities)

    def weights(self, fields: Floats, spacing: tuple[float, ...]) -> tuple[Floats, ...]:
        """Return w per axis."""
        scale = 10 * number(self.deviation) * number(self.full_scale) * math.sqrt(len(fields))
        # A constant image has no scale, and no differences.
        factor = self.beta / scale if scale > 0 else 0.0
        return similarity(fields, tuple(factor / (h * h) for h in spacing), FLOOR)

    def known(self, setting: Setting) -> Bools:
        """Return where markers are."""
        return markers_of(setting) > 0

    def values(self, setting: Setting, part: Part) -> Floats:
        """Return 1 at the markers of the label, 0 elsewhere."""
        values: Floats = (markers_of(setting) == part.number).astype(np.float64)
        return values

    def survey(self, setting: Setting) -> Tally:
        """Return how often every label occurs; those at walls are counted as -1."""
        markers, valid = markers_of(setting), valid_cells_of(setting)
        found = np.where(valid, markers, np.where(markers > 0, -1, 0))
        labels, counts = np.unique(found[found != 0], return_counts=True)
        return Tally(labels.astype(np.int64), counts.astype(np.int64))

    def parts(self, survey: Tally) -> list[Part]:
        """Return the labels; the probability of the last one is what is left of 1."""
        lost = int(survey.counts[survey.keys < 0].sum())
        if lost:
            raise ValueError(
                f"{lost} markers lie at walls: outside the mask, on nodata, NaN or infinite pixels. "
                "Move them, or set them to 0."
            )
        labels = survey.keys.tolist()
        if not labels:
            raise ValueError(
                "markers holds no label. Allowed: whole numbers > 0 at some pixels, 0 elsewhere."
            )
        if self.labels and len(labels) != self.labels:
            raise ValueError(
                f"markers holds {len(labels)} different labels; labels={self.labels} is given. They must agree."
            )
        return [Part(index, label, rest=label == labels[-1]) for index, label in enumerate(labels)]

    def planned_parts(self, channels: int) -> int:
        """Return the number of labels, where it is given."""
        return self.labels

    def collected_arrays(self, parts: int) -> int:
        """Return one per label; or four: what is left of 1, the best label, its probability, and the second one."""
        return parts if self.probabilities else 4

    def collect(self, collected: Floats, part: Part, answer: Floats | None) -> None:
        """Take a label into account."""
        if self.probabilities:
            before = collected[: part.index]
            collected[part.index] = rest_of(before) if answer is None else answer
            return
        rest, best, most, second = collected
        if part.index == 0:
            rest[...], most[...], second[...] = 1, -np.inf, -np.inf
        p = rest.copy() if answer is None else answer
        better = p > most
        second[...] = np.where(better, most, np.maximum(second, p))
        best[better] = part.number
        most[better] = p[better]
        rest -= p

    def open_cells(self, collected: Floats, tolerance: float | Floats) -> Bools | None:
        """Return where the two largest probabilities are closer than errors of both."""
        if self.probabilities:
            return None
        open_: Bools = collected[2] - collected[3] <= 2 * tolerance
        return open_

    def result_channels(self, channels: int) -> int:
        """Return 1: labels are of all channels; or one for the probability of each, where their number is given."""
        return max(1, self.labels) if self.probabilities else 1

    def result(self, collected: Floats, setting: Setting, reached: Bools) -> NDArray[np.generic]:
        """Return the labels, or the probabilities; 0 where no marker reaches."""
        there = reached | (self.known(setting) & valid_cells_of(setting))
        if self.probabilities:
            return np.where(there, collected, 0.0)
        return np.where(there, collected[1], 0)[None].astype(np.int64)


def markers_of(setting: Setting) -> NDArray[np.integer[Any]]:
    """Return the markers, which are required."""
    assert setting.markers is not None
    return setting.markers.astype(np.int64, copy=False)


def rest_of(parts: Floats) -> Floats:
    """Return what is left of 1, one part after another."""
    rest = np.ones(parts.shape[1:])
    for p in parts:
        rest -= p
    return rest
