"""Inpainting: unknown pixels get the steady state of a diffusion between the known ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Floats
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, parameter
from diffusion_ops.evolution.problem import Setting
from diffusion_ops.families.steady_state import SteadyState, filled
from diffusion_ops.steady.couplings import uniform

WAYS = ("harmonic",)


@register("inpainting")
class Inpainting(SteadyState):
    """Fill unknown pixels from the known ones around them.

    Unknown are pixels where `known` is False, and those that are NaN, infinite or nodata; where `known` is not given,
    those alone. Known pixels come back as they are. Channels are filled one by one. The tolerance, 1e-4 by default, is
    a part of the range of the known values.

    Parameters
    ----------
    by : str
        "harmonic": Δu = 0.

    Raises
    ------
    ValueError
        Where walls part unknown pixels from all known ones; for a tolerance below rounding, and one not reached.

    References
    ----------
    Galić, Weickert, Welk, Bruhn, Belyaev, Seidel: Image compression with anisotropic diffusion. J. Math. Imaging Vis.
    2008.
    """

    by: str = parameter(Choice(WAYS), default="harmonic")

    equation = "Δu = 0 at unknown pixels"
    reference = "Galić et al. 2008"
    picture = Picture("man")
    samples = Samples(({},))
    reads = ("known",)
    new_quantity = False
    fills = True

    def weights(self, fields: Floats, spacing: tuple[float, ...]) -> tuple[Floats, ...]:
        """Return the couplings of the Laplacian, 1 along the finest axis."""
        return uniform(fields.shape[1:], spacing)

    def solve(self, setting: Setting) -> NDArray[np.generic]:
        """Return the image with all its pixels."""
        return filled(self, setting)
