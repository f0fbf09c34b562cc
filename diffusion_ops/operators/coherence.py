"""Coherence: how clearly the image has a direction."""

from __future__ import annotations

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.parameters import FEATURE_SCALE, FLAG, NOISE_SCALE
from diffusion_ops.kernels.tensors.structure import (
    principal_axes,
    structure_radius,
    structure_tensor,
    tensor_arrays,
)


@register("coherence")
class Coherence(Map):
    """Coherence ((μ1 - μ2) / (μ1 + μ2))² of the structure tensor: 1 where lines run one way, 0 where none stands out.

    μ1 is the largest and μ2 the smallest eigenvalue. Without normalising it is (μ1 - μ2)², the measure of Weickert's
    coherence-enhancing diffusion, in (image units / unit length)⁴. In a volume both lines and layers are coherent. All
    channels give one field. Where the image is flat it is 0; where it varies by rounding only, normalising shows that.

    Parameters
    ----------
    sigma : float
        Noise scale: standard deviation of the Gaussian before the gradient, in units of the spacing.
    rho : float
        Feature scale: standard deviation of the Gaussian over the products of the gradient, in units of the spacing.
        With 0 every gradient is a direction of its own, and the coherence is 1.
    normalised : bool
        Whether to divide by (μ1 + μ2)².

    Raises
    ------
    ValueError
        For a negative sigma or rho.

    References
    ----------
    Weickert: Coherence-enhancing diffusion filtering. IJCV 1999.
    Jähne: Spatio-temporal image processing. Springer 1993.
    """

    sigma: float = parameter(NOISE_SCALE, default=1.0)
    rho: float = parameter(FEATURE_SCALE, default=3.0)
    normalised: bool = parameter(FLAG, default=True)

    equation = "((μ1 - μ2) / (μ1 + μ2))², μ of J = K_rho * ∇u_sigma ∇u_sigmaᵀ"
    reference = "Weickert 1999; Jähne 1993"
    samples = Samples(({"sigma": 0.75, "rho": 0.75}, {"rho": 1.0, "normalised": False}))
    picture = Picture("vessels", {"sigma": 2.0, "rho": 4.0, "normalised": False}, shown="stretched")
    couples_channels = True
    new_quantity = True

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the structure tensor."""
        return Reach(structure_radius(self.sigma, self.rho, spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the smoothed channels and the tensor before and after its smoothing, or with its values and axes."""
        tensor = tensor_arrays(ndim)
        smooth = (channels if self.sigma else 0) + tensor * (2 if self.rho else 1)
        return max(smooth, tensor + 2 * ndim)

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32 with the scales as they are by default."""
        return 0.06e9

    def apply(self, block: Block) -> None:
        """Put the coherence in the place of the state."""
        values, _ = principal_axes(structure_tensor(block, self.sigma, self.rho))
        spread, total = values[:1] - values[-1:], values[:1] + values[-1:]
        if self.normalised:
            spread = np.divide(spread, total, out=np.zeros_like(spread), where=total > 0)
        block.storage = spread * spread
