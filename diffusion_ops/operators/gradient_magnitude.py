"""Gradient magnitude: how steep the image is at every cell."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.pixels.edges import slope_of


@register("gradient-magnitude")
class GradientMagnitude(Map):
    """Magnitude of the gradient of the smoothed image, |∇u_sigma|, in image units per unit length.

    Central differences; a neighbour beyond a wall repeats the cell. All channels give one field, sqrt(Σ_c |∇u_c|²)
    (Di Zenzo). Its quantiles are those of the statistic `GradientQuantile`.

    Parameters
    ----------
    sigma : float
        Standard deviation of the Gaussian, in units of the spacing; 0 leaves the smoothing out.

    Raises
    ------
    ValueError
        For a negative sigma.

    References
    ----------
    Di Zenzo: A note on the gradient of a multi-image. CVGIP 1986.
    """

    sigma: float = parameter(SIGMA, default=1.0)

    equation = "|∇u_sigma| = sqrt(Σ_c |∇u_c|²)"
    reference = "Di Zenzo 1986"
    samples = Samples(({"sigma": 0.0}, {"sigma": 0.75}))
    picture = Picture("coins", {"sigma": 1.0}, shown="stretched")
    couples_channels = True
    new_quantity = True

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the Gaussian and of the central difference."""
        return Reach(tuple([1 + r for r in gaussian_radius(self.sigma, spacing)]))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the smoothed channels and the result."""
        return (channels if self.sigma else 0) + 1

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32 with sigma = 1."""
        return 0.5e9

    def apply(self, block: Block) -> None:
        """Put the magnitude in the place of the state."""
        block.storage = slope_of(block, smoothed(block, self.sigma))
