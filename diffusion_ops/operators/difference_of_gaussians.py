"""Difference of Gaussians: how much a cell exceeds what is around it, without noise and without slow changes."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import Number, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed


@register("difference-of-gaussians")
class DifferenceOfGaussians(Map):
    """Local contrast: the image smoothed a little, less the image smoothed much, in image units.

    The result is G_low * u - G_high * u: G_s is a Gaussian of standard deviation s that ends at 4 s and is normalised
    over the cells it reaches, and u itself where `low_sigma` is 0. What is smaller than `high_sigma` and brighter than
    its surroundings is positive, wherever the background is; a threshold of 0 is a local one, the mean around. Walls
    and what lies in them do not count in either mean. Each channel by itself.

    Parameters
    ----------
    low_sigma : float
        Standard deviation of the Gaussian against noise, in units of the spacing; 0 leaves it out.
    high_sigma : float
        Standard deviation of the Gaussian that finds the background, in units of the spacing; larger than `low_sigma`.

    Raises
    ------
    ValueError
        For a `high_sigma` that is not larger than `low_sigma`.

    References
    ----------
    Marr, Hildreth: Theory of edge detection. Proceedings of the Royal Society B 1980.
    """

    low_sigma: float = parameter(SIGMA, default=1.0)
    high_sigma: float = parameter(Number(unit="unit length", above=0), default=8.0)

    equation = "u_low - u_high"
    reference = "Marr and Hildreth 1980"
    samples = Samples(({"low_sigma": 0.0, "high_sigma": 0.8}, {"low_sigma": 0.5, "high_sigma": 1.0}))
    picture = Picture("coins", {"low_sigma": 1.0, "high_sigma": 15.0}, shown="stretched")
    new_quantity = True

    def __post_init__(self) -> None:
        if not self.high_sigma > self.low_sigma:
            raise ValueError(
                f"high_sigma={self.high_sigma:g} is not larger than low_sigma={self.low_sigma:g}. Allowed: a Gaussian "
                "that is wider than the other."
            )

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the wider Gaussian."""
        return Reach(gaussian_radius(self.high_sigma, spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the channels, smoothed by both."""
        return channels * (2 if self.low_sigma else 1)

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32, with high_sigma = 8 and 30: it falls as taps become more."""
        return 0.4e9 / (self.low_sigma + self.high_sigma)

    def apply(self, block: Block) -> None:
        """Put the difference in the place of the state."""
        wide = smoothed(block, self.high_sigma)
        block.storage = smoothed(block, self.low_sigma)
        block.storage -= wide
