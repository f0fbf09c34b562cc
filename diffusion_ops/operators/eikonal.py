"""Travel time: how long a front takes from the markers to every cell, at a given speed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.evolution.examples import Picture
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, Number, parameter
from diffusion_ops.evolution.problem import Setting
from diffusion_ops.families.front import Front, arrival


@register("eikonal")
class Eikonal(Front):
    """Travel time from markers, |∇u| speed = 1 with u = 0 at the markers (fast marching).

    First-order upwind differences (Godunov), solved exactly: every cell fulfils its equation to the last bit. Cells
    that no front reaches have an infinite time. Channels are not possible: give one.

    Parameters
    ----------
    image_is : str
        "speed", in units of the spacing per time; or "cost", the time per unit of the spacing.
    until : float
        Times beyond it are infinite, and need not be computed.
    zero : str
        What a speed of 0 is: "refused", or a "wall". A cost of 0 is possible.

    Raises
    ------
    ValueError
        For a speed that is not positive, a negative cost, and where there is no marker.

    References
    ----------
    Sethian: A fast marching level set method for monotonically advancing fronts. PNAS 1996.
    """

    image_is: str = parameter(Choice(("speed", "cost")), default="speed")
    until: float | None = parameter(Number(unit="time", least=0, optional=True), default=None)
    zero: str = parameter(Choice(("refused", "wall")), default="refused")

    equation = "|∇u| = 1 / speed, u = 0 at the markers"
    reference = "Sethian 1996"
    picture = Picture("man")
    reads = ("markers",)
    requires = ("markers",)

    def cost(self, fields: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Return the time per unit length, infinite at walls."""
        image = fields[0]
        if self.image_is == "cost":
            return image
        with np.errstate(divide="ignore"):
            return 1.0 / image.astype(working_dtype(image.dtype))

    def solve(self, setting: Setting) -> NDArray[Any]:
        """Return the travel times."""
        return arrival(self, setting, math.inf if self.until is None else self.until)[0][None]
