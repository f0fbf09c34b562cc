"""Interface of the criteria that score denoised images without a clean one: disturbed inputs and a score."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block, Bools, Floats
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.registry import Registry


class Criterion(ABC):
    """A score of denoising results that needs no clean image; the smallest is the best.

    A final subclass is one file in `diffusion_ops/criteria`, registered under its name. It may ask for runs on
    disturbed copies of the image besides the run on the image itself. The score depends on exact means over cells
    alone, so that the order of samples and cells cannot change a choice.
    """

    needs_noise: ClassVar[bool]
    """True where the score needs the noise level."""
    estimates_error: ClassVar[bool] = False
    """True where the score estimates the mean squared error against the clean image."""

    @abstractmethod
    def disturbed(
        self, image: Floats, valid: Bools | None, noise: float, seed: int, stream: int
    ) -> list[Floats]:
        """Return the disturbed copies of an image of shape (channels, *spatial) that are to be denoised, too.

        `seed` and `stream` fix the random numbers; `stream` is the number of the sample.
        """

    @abstractmethod
    def terms(self, inputs: Sequence[Floats], results: Sequence[Floats], noise: float) -> list[Floats]:
        """Return float64 fields of the image's shape, whose means over all valid cells determine the score.

        `inputs` are the image and its disturbed copies, `results` their denoised images.
        """

    @abstractmethod
    def score(self, means: Sequence[float], noise: float) -> float:
        """Return the score from the means of the terms."""

    def best(self, scores: Sequence[float]) -> int:
        """Return the index of the best stopping time: that of the smallest score, the first of equal ones."""
        return min(range(len(scores)), key=scores.__getitem__)


CRITERIA: Registry[type[Criterion]] = Registry("criterion", "diffusion_ops.criteria", "diffuse.criteria")


def exact_means(samples: Sequence[Block], fields: Sequence[Sequence[Floats]]) -> list[float]:
    """Return the mean of each field over the valid cells of all samples, summed without rounding and rounded once.

    `fields` holds, for every sample, the same number of float64 arrays of shape (channels, *spatial).
    """
    means = []
    for same in zip(*fields, strict=True):
        tallies = [_tally(field, sample.valid) for field, sample in zip(same, samples, strict=True)]
        tally = functools.reduce(Tally.__add__, tallies)
        means.append(float(exact_sum.total(tally) / exact_sum.number_of(tally)))
    return means


def _tally(field: Floats, valid: Bools | None) -> Tally:
    """Return the exact sum of a field over valid cells."""
    values = np.ravel(field if valid is None else field[:, valid])
    sums, table = exact_sum.empty_sums(values.dtype)
    bits = values.view(np.uint64)
    for start in range(0, len(bits), exact_sum.SEGMENT):
        part = bits[start : start + exact_sum.SEGMENT]
        exact_sum.add_doubles(sums, table, part, len(part))
    exact_sum.drain(sums, table)
    return exact_sum.tally_of(sums, values.dtype, len(values))
