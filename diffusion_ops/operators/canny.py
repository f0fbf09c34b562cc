"""Canny's edges: thin lines, kept only where they are strong or connected with a strong one."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import make_statistic
from diffusion_ops.evolution.completion import Completion
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import AUTO, Automatic, Number, NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.parameters import FLAG, SIGMA
from diffusion_ops.families.segmentation.hysteresis import Hysteresis
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.pixels.edges import gradient_of, slope_of, thinned
from diffusion_ops.kernels.tensors.structure import principal_axes, structure_tensor, tensor_arrays

GRADIENT = Number(unit="image units per unit length", above=0, statistic=True)


def _quantile(q: float) -> Automatic:
    """Return the rule for a quantile of the gradient magnitude."""
    return lambda values: make_statistic("quantile", q=q, sigma=values["sigma"])


@register("canny")
class Canny(Map):
    """Edges of one cell's width, where |∇u_sigma| is largest across the edge: 1, and 0 elsewhere.

    A cell is kept where its gradient magnitude is at least as large as at both points where the line through it along
    the gradient leaves the cells around it; there it is interpolated linearly, and it is 0 beyond walls. So of two
    neighbours that are equally steep, up to rounding, both are kept. Channels share the magnitude sqrt(Σ_c |∇u_c|²)
    and the direction in which they vary most together (Di Zenzo). Weak edges stay where they are connected with a
    strong one, over the whole image and however it is cut; see `Hysteresis`.

    Parameters
    ----------
    low, high : float or Statistic
        Smallest gradient magnitude of a weak and of a strong edge, in image units per unit length. "auto" are the
        quantiles 0.8 and 0.9 of the magnitude over the image.
    sigma : float
        Standard deviation of the Gaussian, in units of the spacing; 0 leaves the smoothing out.
    joined : bool
        False leaves the connecting out: 1 is a weak edge and 2 a strong one then.

    Raises
    ------
    ValueError
        For thresholds that are not positive, a low one above the high one, a negative sigma.

    References
    ----------
    Canny: A computational approach to edge detection. PAMI 1986.
    """

    low: NumberOrStatistic = parameter(
        GRADIENT, aliases=("low_threshold",), automatic=_quantile(0.8), default=AUTO
    )
    high: NumberOrStatistic = parameter(
        GRADIENT, aliases=("high_threshold",), automatic=_quantile(0.9), default=AUTO
    )
    sigma: float = parameter(SIGMA, default=1.0)
    joined: bool = parameter(FLAG, default=True)

    equation = "|∇u_sigma| >= low, largest across the edge"
    reference = "Canny 1986"
    samples = Samples(({"low": 0.1, "high": 30.0, "sigma": 0.0, "joined": False},))
    picture = Picture("coins", {"sigma": 2.0}, shown="stretched")
    couples_channels = True
    new_quantity = True

    def __post_init__(self) -> None:
        if isinstance(self.low, int | float) and isinstance(self.high, int | float) and self.low > self.high:
            raise ValueError(f"low={self.low!r} is not possible. Allowed: at most high={self.high!r}.")

    def completion(self) -> Completion | None:
        """Return the joining of weak edges with strong ones, unless it is left out."""
        return Hysteresis() if self.joined else None

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the Gaussian, of the central difference and of the neighbour it is compared with."""
        return Reach(tuple([2 + r for r in gaussian_radius(self.sigma, spacing)]))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the smoothed channels, the magnitude, the direction and the result."""
        axis = ndim if channels == 1 else tensor_arrays(ndim) + 2 * ndim
        return (channels if self.sigma else 0) + 1 + axis + 1

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32 with sigma = 1."""
        return 0.04e9

    def apply(self, block: Block) -> None:
        """Put the classes in the place of the state."""
        assert isinstance(self.low, int | float)
        assert isinstance(self.high, int | float)
        smooth = smoothed(block, self.sigma)
        slope = slope_of(block, smooth)
        if len(smooth) == 1:
            axis = gradient_of(block, smooth)
        else:
            axis = principal_axes(structure_tensor(block, 0.0, 0.0, smooth))[1]
        block.storage = thinned(block, slope, axis, self.low, self.high)
