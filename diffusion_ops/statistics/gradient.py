"""Contrast from the image's own gradients: a quantile, or a robust scale."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_ops.blocks import histogram
from diffusion_ops.blocks.bands import PARTS, bands
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument, no_valid_cell
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.sums.measure import count_gradient


@dataclass(frozen=True)
class GradientStatistic(Statistic):
    """A number read from the histogram of |∇u_sigma|, in image units per unit length.

    Central differences of the image smoothed by a Gaussian of `sigma`; a neighbour beyond a wall or edge
    repeats the cell itself. Channels are summed: |∇u|² = Σ_c |∇u_c|². Bins are 0.1 % wide.
    """

    def smoothing(self) -> float:
        """Return the standard deviation of the Gaussian."""
        return float(getattr(self, "sigma", 0.0))

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return the reach of the Gaussian and of the central difference."""
        return tuple(1 + (r if self.smoothing() else 0) for r in gaussian_radius(self.smoothing(), spacing))

    def extra_arrays(self, ndim: int, channels: int) -> float:
        """Return the size of a band, its smoothed copy and the smoothing's buffers; 0 without smoothing."""
        return 2 * (2 * channels + 5) / PARTS if self.smoothing() else 0.0

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the histogram of gradient magnitudes."""
        if not self.smoothing():
            return histogram.tally_of(count_gradient(block, keep))
        counts = histogram.empty_counts()
        for band, kept in bands(block, keep, self.radius(block.spacing)):
            band.storage = smoothed(band, self.smoothing())
            counts += count_gradient(band, kept)
        return histogram.tally_of(counts)


@STATISTICS.register("quantile")
@dataclass(frozen=True)
class GradientQuantile(GradientStatistic):
    """The q-quantile of the gradient magnitude; 0.9 is the choice of Perona and Malik 1990.

    Parameters
    ----------
    q : float
        Between 0 and 1.
    sigma : float
        Standard deviation of the smoothing before the gradient, in units of the spacing.
    """

    q: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        check_argument("quantile", "q", self.q, above=0, below=1)
        check_argument("quantile", "sigma", self.sigma, least=0)

    def value(self, tally: Tally) -> float:
        """Return the quantile."""
        if not tally.counts.sum():
            raise no_valid_cell("gradients")
        return histogram.quantile(tally, self.q)


@STATISTICS.register("mad")
@dataclass(frozen=True)
class GradientMAD(GradientStatistic):
    """multiple * 1.4826 * median(|g - median(g)|) of the gradient magnitude g (Black et al. 1998).

    Parameters
    ----------
    multiple : float
        Positive.
    sigma : float
        Standard deviation of the smoothing before the gradient, in units of the spacing.
    """

    multiple: float = 1.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        check_argument("mad", "multiple", self.multiple, above=0)
        check_argument("mad", "sigma", self.sigma, least=0)

    def value(self, tally: Tally) -> float:
        """Return the scaled median deviation."""
        if not tally.counts.sum():
            raise no_valid_cell("gradients")
        return self.multiple * 1.4826 * histogram.median_deviation(tally)
