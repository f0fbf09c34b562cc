"""Salt-and-pepper noise: finds the impulses, and fills them along the structures around them."""

from __future__ import annotations

import dataclasses

from diffusion_ops.blocks.block import Block, allocate
from diffusion_ops.blocks.statistic import make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import (
    AUTO,
    Automatic,
    Choice,
    Count,
    Number,
    NumberOrStatistic,
    parameter,
)
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.edge_stopping import CONTRAST
from diffusion_ops.families.filling_rounds import AlongEdges
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.kernels.conductance import CONDUCTANCES
from diffusion_ops.kernels.pixels.impulses import find_extremes, find_impulses, mend_impulses

_MENDING = 7
"""Cells on each side of the window that a first mean is taken of: at 90 % of noise one in 10^10 has nothing known."""


IMPULSE = Number(unit="image units", statistic=True, infinite=True)


def _extreme(name: str) -> Automatic:
    """Return the rule for an extreme of the image; the median filter needs none."""
    return lambda values: AUTO if values["detection"] == "median" else make_statistic(name)


@register("salt-and-pepper")
class SaltAndPepper(AlongEdges):
    """Removal of impulses: they are found once, and only they change, ∂u/∂t = div(D ∇u), towards the steady state.

    Impulses are extreme values, or those that the adaptive median filter finds: values that are not strictly between
    the extremes of their window, which grows from 3 cells along each axis until its median is. They start as means of
    what is known around them. An iteration finds D, whose flow across edges is g(sqrt(μ1 - μ2)) and along them 1, from
    the structure tensor of the image as it is, and takes 10 FSI steps with it. Channels have impulses of their own
    and share D. Windows leave out what lies beyond walls, but they reach over them.

    Parameters
    ----------
    detection : str
        "extremes" for values of at most `pepper` or at least `salt`, "median" for the adaptive median filter.
    pepper, salt : float, Statistic or "auto"
        Largest value of pepper and smallest of salt, in image units. "auto" are the extremes of the image. Not read
        by the median filter.
    window : int
        Odd number of cells of the median filter's largest window along each axis, at least 3.
    contrast : float or Statistic
        Square root of an eigenvalue that parts edges from flat areas, in image units per unit length.
    conductance : str
        "exponential" exp(-(s/k)²), "rational" 1 / (1 + (s/k)²), "charbonnier" 1 / sqrt(1 + (s/k)²), "tukey"
        max(1 - s²/(5k²), 0)², "weickert" 1 - exp(-3.31488 (k/s)⁸).
    sigma, rho : float
        Noise scale and feature scale of the structure tensor, in units of the spacing.

    Raises
    ------
    ValueError
        For a contrast that is not positive, an unknown conductance, a negative scale, an impossible window.

    References
    ----------
    Hwang, Haddad: Adaptive median filters. IEEE Trans. Image Processing 1995. Chan, Ho, Nikolova: Salt-and-pepper noise
    removal by median-type noise detectors and detail-preserving regularization. IEEE Trans. Image Processing 2005.
    Weickert, Welk: Tensor field interpolation with PDEs. Springer 2006.
    """

    detection: str = parameter(Choice(("extremes", "median")), default="extremes")
    pepper: NumberOrStatistic = parameter(IMPULSE, automatic=_extreme("minimum"), default=AUTO)
    salt: NumberOrStatistic = parameter(IMPULSE, automatic=_extreme("maximum"), default=AUTO)
    window: int = parameter(Count(unit="cells", least=3, odd=True), default=39)
    contrast: NumberOrStatistic = parameter(CONTRAST, aliases=(), default=1.0)
    conductance: str = parameter(Choice(CONDUCTANCES), default="charbonnier")
    sigma: float = parameter(SIGMA, default=0.5)
    rho: float = parameter(SIGMA, default=1.6)

    equation = "∂u/∂t = div(D(J_rho(∇u_sigma)) ∇u) at impulses"
    reference = "Hwang and Haddad 1995; Chan et al. 2005; Weickert and Welk 2006"
    samples = Samples(
        (
            {"pepper": 97.0, "salt": 103.0, "contrast": 30.0, "sigma": 0.0, "rho": 0.75},
            {
                "pepper": 98.0,
                "salt": 102.0,
                "contrast": 50.0,
                "sigma": 0.75,
                "rho": 0.0,
                "conductance": "rational",
            },
        ),
        faint="impulses are filled from near by; the farthest ones weigh nothing after a step",
    )
    picture = Picture("peppered man")
    usual_steps = 16

    @property
    def law(self) -> str:
        """The conductance."""
        return self.conductance

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what an iteration, its tensor and the start read.

        Returns
        -------
        step
            the reach of the steps with one tensor
        setup
            the reach of the tensor
        start
            the reach of the largest windows that look for impulses and for what is known
        """
        start = _MENDING + (self.window // 2 if self.detection == "median" else 0)
        return dataclasses.replace(super().reach(spacing), start=(start,) * len(spacing))

    def rehearsed(self) -> SaltAndPepper:
        """Return the operator that takes 0 for pepper: without impulses nothing would be filled."""
        return dataclasses.replace(self, pepper=0.0, salt=1.0)

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return the flags of impulses."""
        return channels

    def start(self, block: Block) -> None:
        """Find impulses, carry where they are, and put means in their place."""
        if self.detection == "median":
            found = find_impulses(block, self.window // 2)
        else:
            assert isinstance(self.pepper, int | float)
            assert isinstance(self.salt, int | float)
            found = find_extremes(block, self.pepper, self.salt)
        mend_impulses(block, found, _MENDING)
        block.carried = allocate(len(found), block.spatial, block.storage.dtype)
        block.carried[...] = found
