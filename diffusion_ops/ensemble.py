"""Combine several operators or stopping times linearly, with weights chosen from the noisy image alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from diffusion_ops.blocks.block import Block, Floats
from diffusion_ops.blocks.probe import divergence
from diffusion_ops.containers import xarray_objects
from diffusion_ops.evolution.arguments import Container, OperatorLike, ScheduleLike, SpacingLike, make_legs
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolve import evolve
from diffusion_ops.tuning.criterion import CRITERIA, exact_means
from diffusion_ops.tuning.samples import SamplePosition, read_samples
from diffusion_ops.tuning.trajectory import Results, Trial
from diffusion_ops.tuning.tune import make_candidates, rank

_AROUND = (0.25, 1.0, 4.0)
"""Default stopping times of each operator, as multiples of its best one."""

_RIDGE = 1e-2
"""Part of the mean eigenvalue added to all eigenvalues: nearly equal members get no large opposite weights.

The estimated error is noisy, and 15 weights fit that noise: on photographs the gain was 0.21, 0.24 and 0.08 dB at
noise 15, 25 and 50 with 1e-6, and 0.25, 0.26 and 0.17 dB with 1e-2.
"""


@dataclass(frozen=True)
class Member:
    """One result among those that are combined.

    Attributes
    ----------
    operator : Operator
        Operator as it was given.
    time : float or None
        Stopping time, in squared units of the spacing; the number of iterations of an operator without time; None for
        one that is applied once or takes its usual number.
    """

    operator: Operator
    time: float | None

    @property
    def extent(self) -> dict[str, Any]:
        """Arguments of `evolve` that control the extent: time or steps."""
        if self.time is None:
            return {}
        return {"time" if self.operator.controlled_by == "time" else "steps": self.time}


@dataclass(frozen=True)
class Ensemble:
    """Results with weights that sum to 1.

    Attributes
    ----------
    members : tuple of Member
        Results that are combined.
    weights : tuple of float
        Weights of the members in their order; some may be negative.
    schedule : as in `evolve`
        Schedule of all members.
    score : float
        Estimated mean squared error of the combination, in squared image units.
    scores : tuple of float
        Estimated mean squared error of each member alone.
    noise : float
        Noise level that the estimates use, in image units.
    positions : tuple of (frame, ((begin, end) per axis))
        Positions of the samples.
    """

    members: tuple[Member, ...]
    weights: tuple[float, ...]
    schedule: Any
    score: float
    scores: tuple[float, ...]
    noise: float
    positions: tuple[SamplePosition, ...]

    @property
    def gain(self) -> float:
        """Expected gain over the best member, in dB; NaN where an estimate is not positive."""
        ratio = min(self.scores) / self.score if self.score else math.nan
        return 10 * math.log10(ratio) if ratio > 0 and self.score > 0 else math.nan


def ensemble(
    image: Any,
    operators: OperatorLike | Sequence[OperatorLike],
    *,
    times: Sequence[float] | None = None,
    noise: float | None = None,
    schedule: ScheduleLike | None = None,
    samples: int = 16,
    size: int = 256,
    seed: int = 0,
    **container: Unpack[Container],
) -> Ensemble:
    """Choose the weights of operators and stopping times that minimise the error of their combination.

    For white Gaussian noise of level s, Stein's mean |u - f|² - s² + 2 s² Σ w_k div_k estimates the error of
    u = Σ w_k D_k(f) without bias. It is a quadratic form in w (Blu and Luisier: The SURE-LET approach to image
    denoising, IEEE Trans. Image Process. 2007); each div_k is estimated with one random probe. Its minimum under
    Σ w_k = 1, which keeps the mean, is never above the estimate of the best member alone.

    Parameters
    ----------
    image : ndarray, dask array or DataArray
        As in `tune`: only samples are read, within this call.
    operators : Operator, str or sequence of them
        Operators to combine.
    times : sequence of numbers, optional
        Stopping times of each operator (0 for the image itself); a quarter, all and four times of its own best time
        by default.
    noise, schedule, samples, size, seed, **container
        As in `tune`.

    Returns
    -------
    Ensemble
        `combine` applies it.

    Raises
    ------
    ValueError, TypeError
        As `tune`.

    Examples
    --------
    >>> import numpy as np
    >>> from diffusion_ops import Heat
    >>> image = np.random.default_rng(0).normal(np.arange(64) % 16 * 10, 5, (64, 64))
    >>> chosen = ensemble(image, Heat(), times=[0, 0.5, 2])
    >>> round(sum(chosen.weights), 6)
    1.0
    >>> combine(image, chosen).shape
    (64, 64)
    """
    found = read_samples(image, samples=samples, size=size, seed=seed, **container)
    return weigh_samples(
        *found, make_candidates(operators), times=times, noise=noise, schedule=schedule, seed=seed
    )


def weigh_samples(
    positions: Sequence[SamplePosition],
    blocks: Sequence[Block],
    operators: Sequence[Operator],
    *,
    before: Sequence[Leg] = (),
    times: Sequence[float] | None = None,
    noise: float | None = None,
    schedule: Any = None,
    seed: int = 0,
) -> Ensemble:
    """Choose weights as `ensemble` does, from samples that are already read; `before` as in `tune_samples`."""
    trial = Trial.begin(CRITERIA["sure"](), blocks, noise, seed, before)
    assert trial.noise is not None
    members = [
        Member(operator, time)
        for operator in operators
        for time in _times_of(trial, operator, times, schedule)
    ]
    legs = [make_legs(m.operator, trial.spacing, **m.extent, schedule=schedule)[0] for m in members]
    products, slopes = _quadratic(trial, legs)
    scores = np.diag(products) + 2 * slopes - trial.noise**2
    weights = least_weights(products, slopes, int(np.argmin(scores)))
    score = float(weights @ products @ weights + 2 * weights @ slopes) - trial.noise**2
    return Ensemble(
        tuple(members),
        tuple(weights.tolist()),
        schedule,
        score,
        tuple(scores.tolist()),
        trial.noise,
        tuple(positions),
    )


def _times_of(
    trial: Trial, operator: Operator, times: Sequence[float] | None, schedule: Any
) -> Sequence[float | None]:
    if operator.controlled_by != "time" and times is None:
        return [None]
    if times is not None:
        return sorted(set(times))
    best = rank(trial, [operator], None, schedule)[0].time
    assert best is not None
    return [best * part for part in _AROUND]


def _quadratic(trial: Trial, legs: Sequence[Leg]) -> tuple[Floats, Floats]:
    """Return A and c of the error w·A w + 2 c·w - s² of weights w that sum to 1.

    A holds the mean products of the members' changes D_k(f) - f, and c is s² times their divergences.
    """
    assert trial.noise is not None
    found = [trial.outcome([leg] if leg.cycles else []) for leg in legs]
    slopes = [_mean_divergence(trial, trial.noise, one) for one in found]
    products = np.zeros((len(legs), len(legs)))
    for (i, one), (j, other) in itertools.combinations_with_replacement(enumerate(found), 2):
        products[i, j] = products[j, i] = _mean_product(trial, one, other)
    return products, trial.noise**2 * np.array(slopes)


def _mean_divergence(trial: Trial, noise: float, found: Results) -> float:
    fields = [[divergence(*pair, noise)] for pair in zip(trial.inputs, found, strict=True)]
    return exact_means(trial.samples, fields)[0]


def _mean_product(trial: Trial, one: Results, other: Results) -> float:
    fields = [
        [np.subtract(a[0], inputs[0], dtype=np.float64) * np.subtract(b[0], inputs[0], dtype=np.float64)]
        for inputs, a, b in zip(trial.inputs, one, other, strict=True)
    ]
    return exact_means(trial.samples, fields)[0]


def least_weights(products: Floats, slopes: Floats, best: int) -> Floats:
    """Return the weights w of sum 1 that minimise w·A w + 2 c·w, regularised towards the best member alone.

    With w = e + P z, where e is the best member and the columns of P move weight from it to another one, the normal
    equations are (Pᵗ A P + r) z = -Pᵗ (A e + c). The small ridge r does not change the value at z = 0, so that the
    result is never worse.
    """
    move = np.delete(np.eye(len(slopes)), best, axis=1)
    move[best] = -1
    inner = move.T @ products @ move
    ridge = _RIDGE * np.trace(inner) / max(1, len(inner)) * np.eye(len(inner))
    shift = np.linalg.lstsq(inner + ridge, -move.T @ (products[:, best] + slopes), rcond=None)[0]
    weights: Floats = np.eye(len(slopes))[best] + move @ shift
    return weights


def combine(
    image: Any,
    chosen: Ensemble,
    *,
    spacing: SpacingLike | None = None,
    channel_axis: Hashable | None = None,
    mask: Any = None,
    nodata: float | None = None,
    guide: Any = None,
) -> Any:
    """Return Σ w_k D_k(image): the members of an ensemble, evolved and added.

    Parameters
    ----------
    image : ndarray, dask array, DataArray or Dataset
        Any image; a Dask array stays lazy.
    chosen : Ensemble
        What `ensemble` returned.
    spacing, channel_axis, mask, nodata, guide
        As in `evolve`.

    Returns
    -------
    Same container as `image`
        Of the same shape, in its own float type or float32; invalid pixels keep their values.
    """
    arguments = {
        "spacing": spacing,
        "channel_axis": channel_axis,
        "mask": mask,
        "nodata": nodata,
        "guide": guide,
    }
    if hasattr(image, "dims"):
        return xarray_objects.evolve(_combine_frame, image, chosen, **arguments)
    return _combine_frame(image, chosen, **arguments)


def _combine_frame(image: Any, chosen: Ensemble, frame: int = 0, **arguments: Any) -> Any:
    """Return the combination of one frame, in NumPy or Dask."""
    results = [
        evolve(image, member.operator, **member.extent, schedule=chosen.schedule, **arguments)
        for member in chosen.members
    ]
    # Differences to one member are 0 in pixels that no member changes, which so keep their exact values.
    finite = [np.where(np.isfinite(result), result, result.dtype.type(0)) for result in results]
    change = sum(w * (other - finite[0]) for w, other in zip(chosen.weights[1:], finite[1:], strict=True))
    return results[0] + change if len(results) > 1 else results[0]
