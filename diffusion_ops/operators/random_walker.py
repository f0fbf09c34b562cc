"""Random walker: every pixel gets the label whose markers a random walk over the image most probably meets first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Floats
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import (
    AUTO,
    Choice,
    Number,
    NumberOrStatistic,
    number,
    parameter,
)
from diffusion_ops.blocks.statistic import make_statistic
from diffusion_ops.evolution.problem import Setting
from diffusion_ops.families.steady_state import (
    SteadyState,
    bound_to,
    finite_fields,
    largest_correction,
    solved,
    solver_for,
)
from diffusion_ops.steady.couplings import similarity

FLOOR = 1e-10
"""Least coupling of neighbours, so that every region is reached."""

SCALE = Number(unit="image units", least=0, statistic=True)


@register("random-walker")
class RandomWalker(SteadyState):
    """Segmentation by random walks from markers: sum of w (p - p_neighbour) = 0, p = 1 at a label's markers, else 0.

    Neighbours are coupled by w = exp(-beta |ΔI|² / (10 deviation full_scale sqrt(channels))) + 1e-10, ΔI the difference
    per unit length, summed over channels. With labels counted from 1 and an image of values from 0 to 1 this is the
    formula of scikit-image. A pixel gets the label of the largest probability, the smallest of equal ones. Pixels that
    walls part from all markers get 0.

    The tolerance, 1e-4 by default, is the error of the probabilities; pixels whose two best labels are closer than
    that may have either.

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
        True for the probability of every label, along a new first axis in the order of the labels.

    Raises
    ------
    ValueError
        For markers without a label, or at walls; for a tolerance below rounding, and one that is not reached.

    References
    ----------
    Grady: Random walks for image segmentation. IEEE Trans. Pattern Anal. Mach. Intell. 2006.
    """

    beta: float = parameter(Number(unit="1", least=0), default=130.0)
    deviation: NumberOrStatistic = parameter(
        SCALE, automatic=lambda _: make_statistic("standard-deviation"), default=AUTO
    )
    full_scale: NumberOrStatistic = parameter(SCALE, automatic=lambda _: make_statistic("range"), default=AUTO)
    probabilities: bool = parameter(Choice((False, True), aliases=("return_full_prob",)), default=False)

    equation = "sum w (p - p_neighbour) = 0, w = exp(-beta |ΔI|² / (10 σ))"
    reference = "Grady 2006"
    picture = Picture("coins")
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

    def solve(self, setting: Setting) -> NDArray[np.generic]:
        """Return the labels, or the probability of each."""
        correction = largest_correction(setting.tolerance)
        valid = np.ones(setting.spatial, bool) if setting.valid is None else setting.valid
        markers = setting.markers
        assert markers is not None
        labels = labels_of(markers, valid)
        fields = finite_fields(setting)
        bound = bound_to(self, fields, setting)
        known = markers > 0
        solver = solver_for(bound, fields, setting, known, valid)
        reached = solver.grid.image(solver.reached()) | known
        parts = (
            np.where(known, markers == label, solver.grid.image(solved(solver, markers == label, correction).x))
            for label in labels[:-1]
        )
        if not self.probabilities:
            best = best_labels(parts, labels, setting.spatial)
            return np.where(reached, best, 0)[None]
        return np.stack([np.where(reached, p, 0) for p in with_last(parts, setting.spatial)])


def labels_of(markers: NDArray[np.int64], valid: NDArray[np.bool_]) -> list[int]:
    """Return the labels in order.

    Raises
    ------
    ValueError
        Where there is none, and where markers lie at walls.
    """
    lost = int(np.count_nonzero(markers[~valid]))
    if lost:
        raise ValueError(
            f"{lost} markers lie at walls: outside the mask, on nodata, NaN or infinite pixels. "
            "Move them, or set them to 0."
        )
    labels: list[int] = np.unique(markers[markers > 0]).tolist()
    if not labels:
        raise ValueError("markers holds no label. Allowed: whole numbers > 0 at some pixels, 0 elsewhere.")
    return labels


def with_last(parts: Iterable[Floats], spatial: tuple[int, ...]) -> Iterator[Floats]:
    """Yield the probabilities of all labels but the last, then that of the last: what is left of 1."""
    rest = np.ones(spatial)
    for p in parts:
        yield p
        rest -= p
    yield rest


def best_labels(parts: Iterable[Floats], labels: list[int], spatial: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the label of the largest probability, the smallest of equal ones."""
    best, most = np.zeros(spatial, np.int64), np.full(spatial, -np.inf)
    for label, p in zip(labels, with_last(parts, spatial), strict=True):
        better = p > most
        best[better] = label
        most[better] = p[better]
    return best
