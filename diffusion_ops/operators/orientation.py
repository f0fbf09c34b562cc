"""Orientation: which way lines and layers run."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.parameters import FEATURE_SCALE, NOISE_SCALE
from diffusion_ops.kernels.tensors.angle import orientation_of
from diffusion_ops.kernels.tensors.structure import structure_radius, structure_tensor


@register("orientation")
class Orientation(Map):
    """Angle of the direction in which the image varies least, in radians in [-π/2, π/2].

    The direction along lines and layers: the axis of the smaller eigenvalue of the structure tensor. 0 is along the
    last axis, and the angle grows towards the axis before it: atan2(rows, columns), in units of the spacing. All
    channels give one angle; where no direction stands out it is 0.

    Parameters
    ----------
    sigma : float
        Noise scale: standard deviation of the Gaussian before the gradient, in units of the spacing.
    rho : float
        Feature scale: standard deviation of the Gaussian over the products of the gradient, in units of the spacing.

    Raises
    ------
    ValueError
        For a negative sigma or rho.

    References
    ----------
    Bigun, Granlund: Optimal orientation detection of linear symmetry. ICCV 1987.
    """

    sigma: float = parameter(NOISE_SCALE, default=1.0)
    rho: float = parameter(FEATURE_SCALE, default=3.0)

    equation = "θ = ½ atan2(-2 J_xy, J_yy - J_xx), J = K_rho * ∇u_sigma ∇u_sigmaᵀ"
    reference = "Bigun and Granlund 1987"
    samples = Samples(
        ({"sigma": 0.0, "rho": 0.75}, {"sigma": 0.75, "rho": 0.75}),
        lopsided="an angle turns and flips with the image",
    )
    picture = Picture("bricks", {"sigma": 1.0, "rho": 4.0}, shown="angles")
    dimensions = (2,)
    couples_channels = True
    new_quantity = True

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the structure tensor."""
        return Reach(structure_radius(self.sigma, self.rho, spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the smoothed channels and the tensor before and after its smoothing, or with the angle."""
        return max((channels if self.sigma else 0) + (6 if self.rho else 3), 4)

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32 with the scales as they are by default."""
        return 0.06e9

    def apply(self, block: Block) -> None:
        """Put the angle in the place of the state."""
        block.storage = orientation_of(block, structure_tensor(block, self.sigma, self.rho))
