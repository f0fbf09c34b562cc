"""Level of speckle, from the coefficients of variation in small windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks import histogram
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument
from diffusion_ops.kernels.sums.variation import count_variation

_PEAK = 1.1
"""Ratio of the ends of the interval that is moved along the histogram to find its peak."""


@STATISTICS.register("speckle")
@dataclass(frozen=True)
class SpeckleLevel(Statistic):
    """multiple * the most frequent ratio of standard deviation to mean in windows of `side` cells per axis.

    That is the coefficient of variation of the homogeneous parts: windows with an edge or texture vary more, by
    different amounts, and make no peak in the histogram. For fully developed speckle of L looks it is 1 / sqrt(L) in
    intensity, and 0.5227 / sqrt(L) in amplitude. Only windows that are valid and inside the image count.

    Parameters
    ----------
    side : int
        Odd number of cells of a window along each axis, at least 3.
    multiple : float
        Positive.

    References
    ----------
    Yu, Acton: Speckle reducing anisotropic diffusion. IEEE Trans. Image Processing 2002.
    """

    side: int = 7
    multiple: float = 1.0

    def __post_init__(self) -> None:
        check_argument("speckle", "multiple", self.multiple, above=0)
        check_argument("speckle", "side", self.side, least=3)
        if self.side % 2 != 1:
            raise ValueError(
                f"speckle: side={self.side!r} is not possible. Allowed: an odd number >= 3, in cells."
            )

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return half the side of a window."""
        return (int(self.side) // 2,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the histogram of the ratios."""
        return histogram.tally_of(count_variation(block, keep, int(self.side) // 2))

    def value(self, tally: Tally) -> float:
        """Return the middle of the interval of 10 % width with the most ratios, the lowest of equal ones."""
        if not tally.counts.sum():
            raise ValueError(
                f"The image has no window of {self.side} valid cells along every axis whose values vary around "
                "a positive mean, so there is no speckle to measure. Speckle needs positive values: turn "
                "decibels into intensities first, check `mask` and `nodata`, or give the number itself."
            )
        lower, upper = histogram.bin_edges(tally.keys)
        edges = np.stack([lower, upper], axis=1).ravel()
        below = np.cumsum(tally.counts)
        reached = np.stack([below - tally.counts, below], axis=1).ravel()
        within = np.interp(lower * _PEAK, edges, reached) - reached[::2]
        return self.multiple * float(lower[np.argmax(within)]) * math.sqrt(_PEAK)
