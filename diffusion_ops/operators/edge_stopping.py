"""The edge-stopping function: where Perona-Malik diffusion would stop, as an image."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.edge_stopping import CONDUCTANCE, CONTRAST
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.kernels.conductance import CONDUCTANCES
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.pixels.edges import slope_of


@register("edge-stopping")
class EdgeStopping(Map):
    """Edge-stopping function of the smoothed image, g(|∇u_sigma|) between 0 at edges and 1 in flat areas.

    The same g and the same gradient as in regularised Perona-Malik diffusion: a picture of what its contrast does, and
    the speed of geodesic contours. Channels share one gradient of Σ_c |∇u_c|² (Di Zenzo).

    Parameters
    ----------
    contrast : float or Statistic
        Gradient magnitude k that parts edges from noise, in image units per unit length.
    conductance : str
        "exponential" exp(-(s/k)²), "rational" 1 / (1 + (s/k)²), "charbonnier" 1 / sqrt(1 + (s/k)²), "tukey"
        max(1 - s²/(5k²), 0)², "weickert" 1 - exp(-3.31488 (k/s)⁸).
    sigma : float
        Standard deviation of the Gaussian, in units of the spacing; 0 leaves the smoothing out.

    Raises
    ------
    ValueError
        For a contrast that is not positive, an unknown conductance, a negative sigma.

    References
    ----------
    Perona, Malik: Scale-space and edge detection using anisotropic diffusion. PAMI 1990. Catte, Lions,
    Morel, Coll: Image selective smoothing and edge detection by nonlinear diffusion. SIAM J. Numer. Anal. 1992.
    """

    contrast: NumberOrStatistic = parameter(CONTRAST)
    conductance: str = parameter(CONDUCTANCE, default="exponential")
    sigma: float = parameter(SIGMA, default=1.0)

    equation = "g(|∇u_sigma|)"
    reference = "Perona and Malik 1990; Catte et al. 1992"
    samples = Samples(({"contrast": 60.0, "sigma": 0.75}, {"contrast": 20.0, "conductance": "rational"}))
    picture = Picture("man", {"contrast": 10, "sigma": 1.0}, shown="stretched")
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
        """Put the conductance in the place of the state."""
        assert isinstance(self.contrast, int | float)
        kind = CONDUCTANCES.index(self.conductance)
        block.storage = slope_of(block, smoothed(block, self.sigma), kind, self.contrast)
