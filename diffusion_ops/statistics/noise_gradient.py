"""Gradient magnitude that noise alone causes: edges are above it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument, statistic_from


@STATISTICS.register("noise-gradient")
@dataclass(frozen=True)
class NoiseGradient(Statistic):
    """multiple * s * sqrt(C mean_k(1 / h_k²)), in image units per unit length; s is the noise level of `Noise`.

    The gradient of white noise in C channels with the spacings h_k is proportional to this, so that a contrast found
    for one channel and spacing 1 keeps its meaning for others.

    Parameters
    ----------
    multiple : float
        Positive.
    """

    multiple: float = 1.0

    def __post_init__(self) -> None:
        check_argument("noise-gradient", "multiple", self.multiple, above=0)

    @property
    def _noise(self) -> Statistic:
        noise: Statistic = statistic_from("noise", {"noise": self.multiple})
        return noise

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return the reach of the noise statistic."""
        return self._noise.radius(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the histogram of the noise statistic, and the bits of the scale as a key below all of its keys."""
        scale = math.sqrt(len(block.storage) * sum(h**-2 for h in block.spacing) / len(block.spacing))
        key = -1 - int(np.float64(scale).view(np.int64))
        return Tally(np.array([key]), np.array([1])) + self._noise.measure(block, keep)

    def value(self, tally: Tally) -> float:
        """Return the gradient; 0 where the image has no noise."""
        own = tally.keys < 0
        found = self._noise.value(Tally(tally.keys[~own], tally.counts[~own]))
        return found * float(np.int64(-1 - tally.keys[own][0]).view(np.float64))
