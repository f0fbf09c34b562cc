"""Travel time: how long a front takes from the markers to every cell, at a given speed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.evolution.examples import Picture
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, Number, parameter
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.fronts.front import TimedFront, run_front
from diffusion_ops.families.fronts.land import Ground, as_floats, without_zeros


@register("eikonal")
class Eikonal(TimedFront):
    """Travel time from markers, |∇u| speed = 1 with u = 0 at the markers (fast marching).

    First-order upwind differences (Godunov), solved exactly: every cell fulfils its equation to the last bit, and the
    bits are those of any order of computing. Cells that no front reaches have an infinite time. Of constant speed and
    one marker the error is that of the scheme, O(h log 1/h). The image has one channel.

    Second-order differences follow once the first-order times are known, and take from these which neighbours a cell
    depends on, (3u - 4u_1 + u_2) / 2h where both are earlier: so they have the same bits in any order of computing,
    too. The error is O(h²) away from corners of the front, and O(h), but 3 to 5 times smaller, around one marker.

    Times are computed in 64 bits and kept in the type of the result; in float64 where the sides of the image together
    have 100,000 cells or more. Paths as long as that in smaller images, as in mazes, need dtype="float64".

    Parameters
    ----------
    image_is : str
        "speed", in units of the spacing per time; or "cost", the time per unit of the spacing.
    until : float
        Times beyond it are infinite, and are not computed.
    zero : str
        What a speed of 0 is: "refused", or a "wall". A cost of 0 is possible.
    order : int
        Of the differences: 1, or 2. Beyond `until` is then what either order finds beyond it.

    Raises
    ------
    ValueError
        For a speed that is not positive, a negative cost, several channels, and where there is no marker.

    References
    ----------
    Sethian: A fast marching level set method for monotonically advancing fronts. PNAS 1996.
    Sethian: Fast marching methods. SIAM Review 1999 (second-order differences).
    """

    image_is: str = parameter(Choice(("speed", "cost")), default="speed")
    until: float | None = parameter(Number(unit="time", least=0, optional=True), default=None)
    zero: str = parameter(Choice(("refused", "wall")), default="refused")

    order: int = parameter(Choice((1, 2)), default=1)

    equation = "|∇u| = 1 / speed, u = 0 at the markers"
    reference = "Sethian 1996"
    picture = Picture("vessels", {"image_is": "cost"}, shown="stretched", markers=((73, 42),))

    @property
    def is_speed(self) -> bool:
        """True where the image holds speeds."""
        return self.image_is == "speed"

    @property
    def refuses_values(self) -> bool:
        """True: of speeds or costs."""
        return True

    def land(self, fields: NDArray[Any], valid: Bools | None, spacing: tuple[float, ...]) -> Ground:
        """Return the image itself, as floats."""
        image = as_floats(fields[0])
        return Ground(image, without_zeros(image, valid, self.is_speed, self.zero == "wall"))

    def solve(self, setting: Setting) -> NDArray[Any]:
        """Return the travel times."""
        return run_front(self, setting, labelled=False).result()[np.newaxis]
