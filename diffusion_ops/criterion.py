"""What a rule for choosing parameters without a clean image says: how to disturb the image, and a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from diffusion_ops.block import Block, Bools, Floats
from diffusion_ops.registry import Registry
from diffusion_ops.samples import measure
from diffusion_ops.statistic import STATISTICS


class Criterion(ABC):
    """A score of denoising results that needs no clean image; the smallest is the best.

    A final subclass is one file in `diffusion_ops/criteria`, registered under its name. It may ask for runs on
    disturbed copies of the image beside the run on the image itself, and it sees images only through the exact
    means of what it computes per cell, so that no order of samples or cells can change a choice.
    """

    needs_noise: ClassVar[bool]
    """Whether the score is computed with the noise level."""

    @abstractmethod
    def disturbed(
        self, image: Floats, valid: Bools | None, noise: float, seed: int, stream: int
    ) -> list[Floats]:
        """Return the copies of an image of shape (channels, *spatial) that are to be run too.

        `seed` and `stream` fix what is random; `stream` is the number of the sample.
        """

    @abstractmethod
    def terms(self, inputs: Sequence[Floats], results: Sequence[Floats]) -> list[Floats]:
        """Return float64 fields of the image's shape, whose means over all valid cells make the score.

        `inputs` are the image and its disturbed copies, `results` what became of them.
        """

    @abstractmethod
    def score(self, means: Sequence[float], noise: float) -> float:
        """Return the score of the means of the terms."""

    def best(self, scores: Sequence[float]) -> int:
        """Return the position of the stopping time to take: the smallest score, the first of several."""
        return min(range(len(scores)), key=scores.__getitem__)


CRITERIA: Registry[type[Criterion]] = Registry("criterion", "diffusion_ops.criteria")


def exact_means(samples: Sequence[Block], fields: Sequence[Sequence[Floats]]) -> list[float]:
    """Return the mean of each field over the valid cells of all samples: added without rounding, rounded once.

    `fields` holds, for every sample, the same number of arrays of shape (channels, *spatial).
    """
    mean = {"mean": STATISTICS["mean"]()}
    return [
        measure(mean, [Block.from_image(f, s.spacing, s.valid) for s, f in zip(samples, same, strict=True)])[
            "mean"
        ]
        for same in zip(*fields, strict=True)
    ]
