"""Zero crossings: edges where the second derivative changes its sign."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import Number, NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.pixels.edges import crossed, laplacian_of, slope_of

SLOPE = Number(unit="image units per unit length", least=0, statistic=True)


@register("zero-crossings")
class ZeroCrossings(Map):
    """Zero crossings of the Laplacian of the smoothed image, Δu_sigma: 1 on edges, 0 elsewhere.

    Of two neighbours along an axis with opposite signs the one closer to 0 is marked, both where they are equally
    close; a cell of exactly 0 is marked between two neighbours with opposite signs. So a flat area has no edge. The
    Laplacians of all channels are summed.

    Parameters
    ----------
    sigma : float
        Standard deviation of the Gaussian, in units of the spacing; 0 leaves the smoothing out.
    contrast : float or Statistic
        Smallest gradient magnitude of an edge, in image units per unit length. Without it rounding marks edges in
        areas that are nearly flat.

    Raises
    ------
    ValueError
        For a negative sigma or contrast.

    References
    ----------
    Marr, Hildreth: Theory of edge detection. Proc. Royal Society B 1980.
    """

    sigma: float = parameter(SIGMA, default=2.0)
    contrast: NumberOrStatistic = parameter(SLOPE, default=0.0)

    equation = "Δu_sigma = 0"
    reference = "Marr and Hildreth 1980"
    samples = Samples(({"sigma": 0.0}, {"sigma": 0.0, "contrast": 20.0}))
    picture = Picture("coins", {"sigma": 1.5, "contrast": 8}, shown="stretched")
    couples_channels = True
    new_quantity = True

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the Gaussian, of the Laplacian and of the neighbour it is compared with."""
        return Reach(tuple([2 + r for r in gaussian_radius(self.sigma, spacing)]))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the smoothed channels, the Laplacian, the slope and the result."""
        return (channels if self.sigma else 0) + 3

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32 with sigma = 2."""
        return 0.06e9

    def apply(self, block: Block) -> None:
        """Put the edges in the place of the state."""
        assert isinstance(self.contrast, int | float)
        smooth = smoothed(block, self.sigma)
        laplacian, slope = laplacian_of(block, smooth), slope_of(block, smooth)
        block.storage = crossed(block, laplacian, slope, self.contrast)
