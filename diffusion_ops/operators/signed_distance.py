"""Signed distance: how far every pixel is from where the image crosses a level, negative inside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, Number, parameter
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.fronts.front import TimedFront, run_front
from diffusion_ops.families.fronts.land import Ground, as_floats
from diffusion_ops.families.fronts.level_set import crossing_distances


@register("signed-distance")
class SignedDistance(TimedFront):
    """Distance from where the image crosses a level, |∇d| = 1, negative inside.

    The crossing is found between pixels, by linear interpolation along the axes; from the pixels beside it the distance
    goes outwards and inwards as travel times do, around walls. It is in units of the spacing, and has the same bits in
    any order of computing. Pixels that nothing leads to are infinitely far. The image has one channel; of a region of
    ones in zeros the level is 0.5 and the inside above.

    Parameters
    ----------
    level : float
        Value of the image at distance 0.
    inside : str
        Where the distance is negative: "below" or "above" the level.
    until : float
        Distances beyond it, to either side, are infinite, and are not computed.
    order : int
        Of the differences: 1, or 2; see `Eikonal`.

    Raises
    ------
    ValueError
        For several channels, and an image that does not cross the level.

    References
    ----------
    Sethian: A fast marching level set method for monotonically advancing fronts. PNAS 1996.
    Adalsteinsson, Sethian: The fast construction of extension velocities. Journal of Computational Physics 1999 (pixels
    beside the crossing).
    """

    level: float = parameter(Number(unit="image units"), default=0.0)
    inside: str = parameter(Choice(("below", "above")), default="below")
    until: float | None = parameter(Number(unit="unit length", least=0, optional=True), default=None)
    order: int = parameter(Choice((1, 2)), default=2)

    equation = "|∇d| = 1, d = 0 where image = level"
    reference = "Sethian 1996"
    samples = Samples(({"level": 100.0},))
    picture = Picture("masked coins", {"level": 128.0, "inside": "above"}, shown="stretched")
    reads = ()
    requires = ()

    @property
    def lacks_start(self) -> str:
        """What is wrong where the image does not cross the level, and what to do."""
        return (
            f"The image does not cross the level {self.level:g}, so there is nothing to measure distances from. Give a "
            "level between its least and its largest value, such as 0.5 for a region of ones in zeros."
        )

    @property
    def land_arrays(self) -> int:
        """The cost, the distances of pixels beside the crossing, and where these are negative."""
        return 3

    def land_radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return one cell: a crossing is between two."""
        return (1,) * len(spacing)

    def land(self, fields: NDArray[Any], valid: Bools | None, spacing: tuple[float, ...]) -> Ground:
        """Return a cost of 1 everywhere, and the distances beside the crossing."""
        image = as_floats(fields[0])
        starts = crossing_distances(image, self.level, valid, spacing)
        starts[starts > self.limit] = np.inf
        negative = image < self.level if self.inside == "below" else image > self.level
        return Ground(np.ones_like(image), valid, starts, negative)

    def solve(self, setting: Setting) -> NDArray[Any]:
        """Return the distances."""
        return run_front(self, setting, labelled=False).result()[np.newaxis]
