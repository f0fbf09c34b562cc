"""Level of additive white noise, from the finest diagonal wavelet details."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_ops.blocks import histogram
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument
from diffusion_ops.kernels.sums.measure import count_noise


@STATISTICS.register("noise")
@dataclass(frozen=True)
class Noise(Statistic):
    """multiple * median(|d|) / 0.6745, d the undecimated diagonal db2 detail HH (HHH in 3-D), in image units.

    Estimates the standard deviation of white Gaussian noise where the image itself is smooth at the scale of four cells
    (Donoho and Johnstone 1994). Only patches of 4 cells per axis that are valid and inside the image count; details of
    exactly 0 belong to clipped or filled areas and do not count either.

    Parameters
    ----------
    multiple : float
        Positive.
    """

    multiple: float = 1.0

    def __post_init__(self) -> None:
        check_argument("noise", "multiple", self.multiple, above=0)

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 2: the patch of a cell begins one before it and ends two after it."""
        return (2,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the histogram of |d|."""
        return histogram.tally_of(count_noise(block, keep))

    def value(self, tally: Tally) -> float:
        """Return the noise level; 0 where every detail is 0."""
        if not tally.counts.sum():
            raise ValueError(
                "The image has no patch of 4 valid cells along every axis to estimate its noise from. "
                "Check `mask` and `nodata`, or give the number itself."
            )
        details = Tally(tally.keys[tally.keys > 0], tally.counts[tally.keys > 0])
        return self.multiple * (histogram.quantile(details, 0.5) / 0.6745) if details.counts.sum() else 0.0
